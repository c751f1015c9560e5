package inject_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// properties hold for every pod that is injected.
func properties(t *testing.T, pod corev1.PodTemplateSpec, p inject.Params) {
	t.Helper()
	kept := pod.DeepCopy()
	once, _, err := inject.Inject(pod, p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*kept, pod); d != "" {
		t.Errorf("Inject changed its argument:\n%s", d)
	}
	if locals(once) > locals(pod) {
		t.Error("a volume was added that keeps the pod from being drained")
	}
	twice, report, err := inject.Inject(once, p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(once, twice); d != "" || report.Changed || !report.Injected {
		t.Errorf("injecting twice is not injecting once (changed: %v):\n%s", report.Changed, d)
	}
	back, report, err := inject.Uninject(once, "x")
	if err != nil || !report.Changed {
		t.Fatal(report, err)
	}
	if !equality.Semantic.DeepEqual(pod, back) {
		t.Errorf("Uninject does not restore the pod:\n%s", cmp.Diff(pod, back))
	}
	patched(t, pod, once)
	patched(t, once, pod)
}

// locals counts the volumes that kubectl drain takes for data.
func locals(pod corev1.PodTemplateSpec) int {
	n := 0
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil {
			n++
		}
	}
	return n
}

// patched applies the patch to the object with a field that this version does not know.
func patched(t *testing.T, before, after corev1.PodTemplateSpec) {
	t.Helper()
	steps, err := inject.Patch(before, after)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := patch.Apply(withUnknown(t, before))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	want := withUnknown(t, after)
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("the patch gives something else:\n%s\n%s", d, raw)
	}
}

// withUnknown puts a field of the future into each of the application's containers.
func withUnknown(t *testing.T, pod corev1.PodTemplateSpec) []byte {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	spec := o["spec"].(map[string]any)
	for _, list := range []string{"containers", "initContainers"} {
		all, _ := spec[list].([]any)
		for _, c := range all {
			if c := c.(map[string]any); c["name"] != inject.ProxyContainer && c["name"] != inject.InitContainer {
				c["ofTheFuture"] = "kept"
			}
		}
	}
	raw, err = json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// FuzzInject makes pods of a seed and holds every one of them to the properties.
func FuzzInject(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		pod, p := g.pod(), inject.Params{Mesh: config.Default("tulle"), Namespace: inject.Namespace{Name: "shop"}}
		p.Cluster.Minor = 27 + g.IntN(6)
		if _, _, err := inject.Inject(pod, p); err != nil {
			t.Fatal(err)
		}
		properties(t, pod, p)
	})
}

type generator struct{ *rand.Rand }

func (g generator) maybe() bool { return g.IntN(3) == 0 }

func (g generator) pod() corev1.PodTemplateSpec {
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Annotations: map[string]string{inject.AnnotationInject: "enabled"}}}
	if g.maybe() {
		pod.Labels = map[string]string{"app": "web"}
	}
	if g.maybe() {
		pod.Labels = map[string]string{inject.LabelDeployment: "own", inject.LabelProxy: "yes"}
	}
	set := func(name, value string) {
		if g.maybe() {
			pod.Annotations[config.Prefix+name] = value
		}
	}
	set("native-sidecar", []string{"auto", "enabled", "disabled"}[g.IntN(3)])
	set("await", "disabled")
	set("pre-stop", []string{"0s", "7s", "60s"}[g.IntN(3)])
	set("memory-limit", "64Mi")
	set("skip-inbound-ports", "22,8000-8010")
	set("timeouts", "connect=3s")
	if g.maybe() {
		pod.Annotations[inject.AnnotationInjected] = "0.0.1"
	}
	if g.maybe() {
		pod.Spec.TerminationGracePeriodSeconds = new(int64(g.IntN(40)))
	}
	if g.maybe() {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data"}}
	}
	for i := range g.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, g.container(fmt.Sprintf("init-%d", i)))
	}
	for i := range 1 + g.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, g.container(fmt.Sprintf("app-%d", i)))
	}
	return pod
}

func (g generator) container(name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "x", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
	c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = g.probe(), g.probe(), g.probe()
	if g.maybe() {
		c.Lifecycle = &corev1.Lifecycle{}
		if g.maybe() {
			c.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}
		}
		if g.maybe() {
			c.Lifecycle.PostStart = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(1)}}
		}
	}
	return c
}

func (g generator) probe() *corev1.Probe {
	p := &corev1.Probe{TimeoutSeconds: int32(g.IntN(4)), PeriodSeconds: int32(g.IntN(9))}
	port := []intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("http"), intstr.FromString("8081"), intstr.FromString("none")}[g.IntN(4)]
	switch g.IntN(5) {
	case 0:
		return nil
	case 1:
		p.HTTPGet = &corev1.HTTPGetAction{
			Path: "/$(HOME)/~x", Port: port, Scheme: corev1.URISchemeHTTPS,
			HTTPHeaders: []corev1.HTTPHeader{{Name: "X-A", Value: "$$b"}},
		}
	case 2:
		p.TCPSocket = &corev1.TCPSocketAction{Port: port}
	case 3:
		p.GRPC = &corev1.GRPCAction{Port: 9000, Service: new("live")}
	case 4:
		p.Exec = &corev1.ExecAction{Command: []string{"true"}}
	}
	return p
}
