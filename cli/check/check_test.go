package check

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	discoveryfake "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
)

func TestMain(m *testing.M) { leak.Main(m) }

// results makes the checks of a mode in w: all, or some and those that they need.
func results(t *testing.T, w *world, mode Mode, only ...string) map[string]Result {
	t.Helper()
	all := map[string]Result{}
	r := &runner{env: w.env()}
	table := Table()
	if len(only) > 0 {
		table = slices.DeleteFunc(table, func(c Check) bool { return !c.Fatal && !slices.Contains(only, c.Anchor) })
	}
	if err := r.run(t.Context(), table, mode, func(res Result) { all[res.Anchor] = res }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAHealthyClusterIsWell(t *testing.T) {
	for _, c := range []struct {
		name string
		w    *world
		mode Mode
	}{{"before", bare(t), Before}, {"after", healthy(t), After | Proxies}} {
		for anchor, r := range results(t, c.w, c.mode) {
			if r.Status != OK && anchor != "replicas" {
				t.Errorf("%s: %s: %s: %v %s", c.name, anchor, r.Status, r.Problems, r.Note)
			}
		}
	}
}

var update = flag.Bool("update", false, "write the golden files")

// Done when 3: on an empty, a half-installed and a broken cluster the output is golden.
func TestOutputIsGolden(t *testing.T) {
	half := healthy(t)
	for _, name := range []string{mesh.Destination, mesh.Injector} {
		half.set("Deployment", "tulle", name, int64(0), "status", "readyReplicas")
		half.set("Pod", "tulle", name+"-1", map[string]any{"phase": "Pending", "containerStatuses": []any{map[string]any{
			"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": int64(0),
			"state": map[string]any{"waiting": map[string]any{"reason": "ContainerCreating"}},
		}}}, "status")
		half.remove("EndpointSlice", "tulle", name+"-x")
	}
	half.remove("Secret", "tulle", mesh.InjectorSecret)
	half.caBundle(nil)
	half.webhook = func(p *corev1.Pod) (*corev1.Pod, error) { return p, nil }

	bad := healthy(t)
	bad.remove("CustomResourceDefinition", "", "externalworkloads.policy.tulle.dev")
	bad.secret(mesh.RootSecret, authority(t, "root", nil, 30*time.Minute))
	bad.add(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "deny", Namespace: "shop"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}},
	})
	bad.add(bad.pod("old-1", false))
	delete(bad.metrics, "shop/db-1")
	for _, c := range []struct {
		name string
		w    *world
		mode Mode
	}{
		{"pre-empty", bare(t), Before},
		{"pre-installed", healthy(t), Before},
		{"empty", bare(t), After},
		{"healthy", healthy(t), After | Proxies},
		{"half", half, After},
		{"broken", bad, After | Proxies},
	} {
		for _, f := range []console.Format{console.Table, console.Short, console.JSON} {
			if f != console.Table && c.name != "broken" {
				continue
			}
			t.Run(c.name+"/"+string(f), func(t *testing.T) {
				var out strings.Builder
				v := newView(console.New(run.Streams{Out: &out, Err: io.Discard}, func(string) string { return "" }), f, "tulle")
				if err := (&runner{env: c.w.env()}).run(t.Context(), Table(), c.mode, v.result); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "exit code %d\n", exit.Code(v.finish()))
				// What the chart asks for is the chart's business.
				said := regexp.MustCompile(`\(.* are asked for in \d+ pods\)`).ReplaceAllString(out.String(), "(WHAT IS ASKED FOR)")
				golden(t, c.name+"."+string(f), strings.ReplaceAll(said, version.Number(), "VERSION"))
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it); got:\n%s", file, got)
	}
}

func TestAnUnreachableServerIsFatal(t *testing.T) {
	w := bare(t)
	e := w.env()
	disco, _ := e.Kube.Discovery().(*discoveryfake.FakeDiscovery)
	disco.PrependReactor("get", "version", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	})
	var all []Result
	if err := (&runner{env: e}).run(t.Context(), Table(), After, func(r Result) { all = append(all, r) }); err != nil {
		t.Fatal(err)
	}
	if all[0].Status != Failure || !strings.Contains(all[0].Problems[0], "the API server at https://cluster.test cannot be reached") {
		t.Errorf("got %s: %v", all[0].Status, all[0].Problems)
	}
	if !strings.Contains(all[0].Try, "kubectl get --raw /readyz") || strings.Contains(all[0].Problems[0], "try:") {
		t.Errorf("what to try is not its own: %q in %q", all[0].Try, all[0].Problems[0])
	}
	for _, r := range all[1:] {
		if r.Status != Skipped || r.Note != "it needs: the API server answers" {
			t.Errorf("%s was made although nothing can be asked: %s %s", r.Anchor, r.Status, r.Note)
		}
	}
}

func TestWhatMayComeUpIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		table := []Check{
			{Anchor: "slow", Modes: After, Waits: true, Run: func(context.Context, *env) Finding {
				if tries++; tries < 5 {
					return fail("not yet")
				}
				return ok("")
			}},
			{Anchor: "never", Modes: After, Waits: true, Run: func(context.Context, *env) Finding { return fail("never") }},
			{Anchor: "at once", Modes: After, Run: func(context.Context, *env) Finding { return fail("for good") }},
		}
		var got []string
		began := time.Now()
		r := &runner{env: &env{}, wait: 10 * time.Second}
		err := r.run(t.Context(), table, After, func(r Result) { got = append(got, fmt.Sprintf("%s %s", r.Anchor, r.Status)) })
		if err != nil || tries != 5 || time.Since(began) != 10*time.Second {
			t.Errorf("%v: %d tries in %v, want 5 in 10 s all in all", err, tries, time.Since(began))
		}
		if want := []string{"slow ok", "never failure", "at once failure"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestAnswersAreAskedAnewWhenACheckIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		table := []Check{{Modes: After, Waits: true, Run: func(_ context.Context, e *env) Finding {
			n, err := once(e, "n", func() (int, error) { asked++; return asked, nil })
			if err != nil || n < 3 {
				return fail("still %d", n)
			}
			return ok("")
		}}}
		err := (&runner{env: &env{}, wait: time.Minute}).run(t.Context(), table, After, func(r Result) {
			if r.Status != OK {
				t.Error("the first answer was kept")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestEveryAnchorIsExplained(t *testing.T) {
	raw, err := os.ReadFile("../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range Table() {
		if !strings.Contains(string(raw), "\n### "+c.Anchor+"\n") {
			t.Errorf("docs/checks.md has no section %q", c.Anchor)
		}
		if seen[c.Anchor] {
			t.Errorf("two checks have the anchor %q", c.Anchor)
		}
		seen[c.Anchor] = true
		if c.Hint == "" || c.Run == nil || c.Modes == 0 {
			t.Errorf("%s: a check has a hint, a mode and something to run", c.Anchor)
		}
	}
	for line := range strings.Lines(string(raw)) {
		if anchor, ok := strings.CutPrefix(strings.TrimSpace(line), "### "); ok && !seen[anchor] {
			t.Errorf("docs/checks.md explains %q, which is no check", anchor)
		}
	}
}
