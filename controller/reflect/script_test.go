package reflect

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	k8stesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/scripts"
)

func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil //nolint:reassign // they sleep by the clock of another bubble
	leak.Main(m)
}

var update = flag.Bool("update", false, "write what came out into testdata")

// TestScripts plays testdata/*.txtar against a fake API server. A line that begins with a command is
// run, every other line of the head is text:
//
//	> apply web.yaml             creates or updates the objects of a file of the archive
//	> delete Pod shop/web-1      deletes one
//	> crds / > no crds           gives the API server its custom resources, or takes them
//	> away / > back              has the API server refuse every list and watch, or none
//	> start                      starts the Reflector
//	> wait 1m                    lets time pass
//	> tables NAME                compares what proxies are told with a file of the archive
//	> reports NAME               the same with the reports
//	> synced / > not synced      says whether the store is
func TestScripts(t *testing.T) {
	scripts.All(t, *update, func(t *testing.T, a *scripts.Archive) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(t)
			s.archive = a
			a.Run(s.run)
		})
	})
}

type script struct {
	t       *testing.T
	archive *scripts.Archive
	client  *fake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	set     *status.Set
	r       *Reflector
	version int
	noCRDs  atomic.Bool
	away    atomic.Bool
}

func newScript(t *testing.T) *script {
	s := &script{t: t, client: fake.NewClientset(), set: status.NewSet(nil)}
	s.dynamic = dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}:     "HTTPRouteList",
		{Group: "policy.tulle.dev", Version: "v1alpha1", Resource: "externalworkloads"}: "ExternalWorkloadList",
	})
	refuse := func(custom bool) k8stesting.ReactionFunc {
		return func(a k8stesting.Action) (bool, runtime.Object, error) {
			switch {
			case a.GetVerb() != "list":
				return false, nil, nil
			case s.away.Load():
				return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", fmt.Errorf("no"))
			case custom && s.noCRDs.Load():
				return true, nil, apierrors.NewNotFound(a.GetResource().GroupResource(), "")
			}
			return false, nil, nil
		}
	}
	s.client.PrependReactor("*", "*", refuse(false))
	s.dynamic.PrependReactor("*", "*", refuse(true))
	return s
}

func (s *script) start() {
	s.r = New(Config{
		Client: s.client, Dynamic: s.dynamic, Store: state.NewStore(state.Settings{Pods: true}), Reports: s.set,
	})
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.r.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() { cancel(); wg.Wait() })
	s.settle(time.Second)
}

// settle lets d pass, and everything that is due happen.
func (s *script) settle(d time.Duration) {
	time.Sleep(d) //house:sleep its callers are in a bubble, whose clock it moves
	synctest.Wait()
}

func (s *script) run(args []string) {
	s.t.Helper()
	switch command := args[0]; command {
	case "start":
		s.start()
	case "apply":
		for _, o := range s.objects(args[1]) {
			s.apply(o)
		}
		s.settle(time.Second)
	case "delete":
		s.delete(args[1], args[2])
		s.settle(time.Second)
	case "crds":
		s.noCRDs.Store(false)
	case "no":
		s.noCRDs.Store(true)
	case "away":
		s.away.Store(true)
	case "back":
		s.away.Store(false)
	case "wait":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.settle(d)
	case "tables":
		var b bytes.Buffer
		s.r.cfg.Store.Snapshot().Dump(&b)
		s.archive.Compare(s.t, args[1], b.String())
		if p := s.r.cfg.Store.Audit(); p != nil {
			s.t.Errorf("audit: %v", p)
		}
	case "reports":
		var b bytes.Buffer
		for _, r := range s.set.All() {
			fmt.Fprintf(&b, "%s: %s\n", r.Severity, r)
		}
		s.archive.Compare(s.t, args[1], b.String())
	case "synced":
		s.wantSynced(true)
	case "unsynced":
		s.wantSynced(false)
	default:
		s.t.Fatalf("no command %q", command)
	}
}

func (s *script) wantSynced(want bool) {
	s.t.Helper()
	select {
	case <-s.r.cfg.Store.Synced():
		if !want {
			s.t.Error("synced")
		}
	default:
		if want {
			s.t.Errorf("not synced, it waits for %s", s.r.Waiting())
		}
	}
}

// objects reads the documents of a file.
func (s *script) objects(name string) []*unstructured.Unstructured {
	s.t.Helper()
	var all []*unstructured.Unstructured
	for doc := range strings.SplitSeq(string(s.archive.File(s.t, name)), "---\n") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			s.t.Fatalf("%s: %v", name, err)
		}
		if len(u.Object) > 0 {
			all = append(all, &u)
		}
	}
	return all
}

// apply puts an object into the fake, whose versions grow as an API server's do.
func (s *script) apply(u *unstructured.Unstructured) {
	s.t.Helper()
	s.version++
	u.SetResourceVersion(fmt.Sprint(s.version))
	gvr, tracker, o := s.where(u)
	err := tracker.Add(o)
	if apierrors.IsAlreadyExists(err) {
		err = tracker.Update(gvr, o, u.GetNamespace())
	}
	if err != nil {
		s.t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
}

func (s *script) where(u *unstructured.Unstructured) (schema.GroupVersionResource, k8stesting.ObjectTracker, runtime.Object) {
	gvr, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	typed, err := scheme.Scheme.New(u.GroupVersionKind())
	if err != nil {
		return gvr, s.dynamic.Tracker(), u
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
		s.t.Fatal(err)
	}
	return gvr, s.client.Tracker(), typed
}

func (s *script) delete(kind, name string) {
	s.t.Helper()
	u := &unstructured.Unstructured{}
	for gv, kinds := range map[string]string{
		"v1": "Namespace Pod Service Node", "discovery.k8s.io/v1": "EndpointSlice",
		"gateway.networking.k8s.io/v1": "HTTPRoute", "policy.tulle.dev/v1alpha1": "ExternalWorkload",
	} {
		if strings.Contains(" "+kinds+" ", " "+kind+" ") {
			u.SetAPIVersion(gv)
		}
	}
	u.SetKind(kind)
	ns, n, ok := strings.Cut(name, "/")
	if !ok {
		ns, n = "", name
	}
	gvr, tracker, _ := s.where(u)
	if err := tracker.Delete(gvr, ns, n, metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
}
