package webhook

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/tulle-mesh/tulle/injector/inject"
)

// TestANamespacesLabelSaysWhatItsAnnotationSays: and goes when the annotation goes, unless somebody set it by hand.
func TestANamespacesLabelSaysWhatItsAnnotationSays(t *testing.T) { // R13.1
	const key = inject.AnnotationInject
	for name, c := range map[string]struct{ annotations, labels, want map[string]string }{
		"enabled":          {map[string]string{key: "enabled"}, nil, map[string]string{key: "enabled"}},
		"disabled":         {map[string]string{key: "disabled"}, map[string]string{"a": "b"}, map[string]string{"a": "b", key: "disabled"}},
		"changed":          {map[string]string{key: "disabled", annotationMirrored: "enabled"}, map[string]string{key: "enabled"}, map[string]string{key: "disabled"}},
		"stronger":         {map[string]string{key: "disabled"}, map[string]string{key: "enabled"}, map[string]string{key: "disabled"}},
		"already":          {map[string]string{key: "enabled"}, map[string]string{key: "enabled"}, nil},
		"gone":             {map[string]string{annotationMirrored: "enabled"}, map[string]string{key: "enabled"}, map[string]string{}},
		"by hand":          {nil, map[string]string{key: "enabled"}, nil},
		"changed by hand":  {map[string]string{annotationMirrored: "enabled"}, map[string]string{key: "disabled"}, nil},
		"what cannot be":   {map[string]string{key: "true"}, nil, nil},
		"nobody says":      {nil, nil, nil},
		"gone, label gone": {map[string]string{annotationMirrored: "enabled"}, nil, nil},
	} {
		ns := namespace("x", c.annotations, c.labels)
		client := cluster(ns)
		s := known(t, client)
		m := &mirror{client: client, namespaces: s.namespaces, log: zap.NewNop(), counts: s.counts}
		if err := m.all(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := client.CoreV1().Namespaces().Get(t.Context(), "x", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := c.want
		if want == nil {
			want = c.labels
		}
		if !maps.Equal(got.Labels, want) {
			t.Errorf("%s: labels %v, want %v", name, got.Labels, want)
		}
		if patch := mirrorPatch(got); patch != nil {
			t.Errorf("%s: it is not done after one step: %s", name, patch)
		}
	}
}

// TestTheSweepFindsPodsWithoutAProxy: each is told of once, and counted by its reason.
func TestTheSweepFindsPodsWithoutAProxy(t *testing.T) { // R13.1
	p, _, err := inject.Inject(corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Name: "meshed", Namespace: "shop"}},
		inject.Params{Mesh: known(t, cluster()).mesh.Load(), Force: true, Namespace: inject.Namespace{Name: "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	meshed := &corev1.Pod{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
	client := cluster(
		namespace("kube-system", map[string]string{inject.AnnotationInject: "enabled"}, nil),
		meshed, pod("shop", "missed"), pod("shop", "host", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		pod("shop", "bad", func(p *corev1.Pod) { p.Annotations = map[string]string{"config.tulle.dev/workers": "0"} }),
		pod("shop", "over", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("shop", "going", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start}; p.Finalizers = []string{"x"} }),
		pod("shop", "no", func(p *corev1.Pod) { p.Labels = map[string]string{inject.AnnotationInject: "disabled"} }),
		pod("plain", "plain"), pod("kube-system", "dns"),
	)
	r := record.NewFakeRecorder(16)
	counts := newCounts(prometheus.NewRegistry())
	s := &sweep{client: client, settings: known(t, client), recorder: r, log: zap.NewNop(), counts: counts, every: time.Minute}
	for range 2 {
		if err := s.once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var events []string
	for e := told(r); e != ""; e = told(r) {
		events = append(events, e)
	}
	slices.Sort(events)
	want := []string{"it uses the node's network", "although tulle.dev/inject asks for one", `and would be refused if it were created now: pod shop/bad: annotation config.tulle.dev/workers="0"`}
	if len(events) != len(want) {
		t.Fatalf("events %q", events)
	}
	for _, w := range want {
		if !slices.ContainsFunc(events, func(e string) bool {
			return strings.HasPrefix(e, "Warning ProxyMissing it has no proxy") && strings.Contains(e, w)
		}) {
			t.Errorf("no event says %q: %q", w, events)
		}
	}
	for reason, n := range map[string]float64{missed: 1, "host-network": 1, refusedNow: 1, "windows": 0} {
		if got := gauge(t, counts.missing.WithLabelValues(reason)); got != n {
			t.Errorf("%s: %v, want %v", reason, got, n)
		}
	}
	if err := client.CoreV1().Pods("shop").Delete(t.Context(), "missed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.once(t.Context()); err != nil || gauge(t, counts.missing.WithLabelValues(missed)) != 0 {
		t.Error("a pod that is gone is still counted", err)
	}
}

func TestATermThatWasLostBeforeItBegan(t *testing.T) {
	ran := false
	tm := &term{work: func(context.Context) { ran = true }}
	tm.end()
	tm.begin(t.Context())
	if ran {
		t.Error("it worked without the Lease")
	}
}
