package inject_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

func asking(value string) corev1.PodTemplateSpec {
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}}
	if value != "" {
		pod.Annotations = map[string]string{inject.AnnotationInject: value}
	}
	return pod
}

func params() inject.Params {
	return inject.Params{Mesh: config.Default("tulle"), Namespace: inject.Namespace{Name: "shop"}}
}

// TestAPodIsLeftAloneForAReason holds every reason to its case, and the pod to what it was.
func TestAPodIsLeftAloneForAReason(t *testing.T) { // R13.1
	enabled := map[string]string{inject.AnnotationInject: "enabled"}
	disabled := map[string]string{inject.AnnotationInject: "disabled"}
	seen := map[inject.Reason]bool{}
	for name, c := range map[string]struct {
		change func(*corev1.PodTemplateSpec, *inject.Params)
		reason inject.Reason
		why    string
	}{
		"nobody asked": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) { pod.Annotations = nil }, inject.NotAsked, "neither the pod nor its namespace has tulle.dev/inject: enabled"},
		"the pod says no": {func(pod *corev1.PodTemplateSpec, p *inject.Params) {
			pod.Annotations, p.Namespace.Annotations = disabled, enabled
		},
			inject.IsDisabled, "tulle.dev/inject is disabled by annotation of pod shop/web"},
		"the pod's label says no": {func(pod *corev1.PodTemplateSpec, p *inject.Params) {
			pod.Annotations, pod.Labels, p.Namespace.Labels = nil, disabled, enabled
		},
			inject.IsDisabled, "disabled by label of pod shop/web"},
		"the namespace says no": {func(pod *corev1.PodTemplateSpec, p *inject.Params) {
			pod.Annotations, p.Namespace.Annotations = nil, disabled
		},
			inject.IsDisabled, "disabled by annotation of namespace shop"},
		"the namespace's annotation is stronger than its label": {func(pod *corev1.PodTemplateSpec, p *inject.Params) {
			pod.Annotations, p.Namespace.Annotations, p.Namespace.Labels = nil, disabled, enabled
		}, inject.IsDisabled, "disabled by annotation of namespace shop"},
		"the node's network": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) { pod.Spec.HostNetwork = true }, inject.HostNetwork, "hostNetwork"},
		"the system":         {func(_ *corev1.PodTemplateSpec, p *inject.Params) { p.Namespace.Name = "kube-system" }, inject.SystemNamespace, "kube-system"},
		"the control plane":  {func(_ *corev1.PodTemplateSpec, p *inject.Params) { p.Namespace.Name = "tulle" }, inject.SystemNamespace, "control plane"},
		"a mirror": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) {
			pod.Annotations[corev1.MirrorPodAnnotationKey] = "x"
		},
			inject.StaticPod, "static pod"},
		"Windows by os": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) { pod.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, inject.Windows, "Windows"},
		"Windows by node": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) {
			pod.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "windows"}
		},
			inject.Windows, "Windows"},
		"another mesh": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) {
			pod.Spec.InitContainers = []corev1.Container{{Name: "istio-init"}}
		}, inject.OtherProxy, "container istio-init is Istio's"},
		"a stranger": {func(pod *corev1.PodTemplateSpec, _ *inject.Params) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: inject.ProxyContainer})
		}, inject.ForeignProxy, "container tulle-proxy that was not put there by injection"},
	} {
		pod, p := asking("enabled"), params()
		c.change(&pod, &p)
		seen[c.reason] = true
		got, report, err := inject.Inject(pod, p)
		if err != nil || report.Reason != c.reason || !strings.Contains(report.Why, c.why) || report.Injected || report.Changed || report.Why == "" {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
		if steps, err := inject.Patch(pod, got); len(steps) > 0 || err != nil {
			t.Errorf("%s: changed by %v, %v", name, steps, err)
		}
		if report.IsWanted() == (c.reason == inject.NotAsked || c.reason == inject.IsDisabled) {
			t.Errorf("%s: wanted %v", name, report.IsWanted())
		}
	}
	for _, r := range inject.Reasons() {
		if !seen[r] {
			t.Errorf("no case for %s", r)
		}
	}
}

func TestAskedInEveryWay(t *testing.T) { // R13.1
	enabled := map[string]string{inject.AnnotationInject: "enabled"}
	for name, ask := range map[string]func(*corev1.PodTemplateSpec, *inject.Params){
		"the pod's annotation":       func(pod *corev1.PodTemplateSpec, _ *inject.Params) { pod.Annotations = enabled },
		"the pod's label":            func(pod *corev1.PodTemplateSpec, _ *inject.Params) { pod.Labels = enabled },
		"the namespace's annotation": func(_ *corev1.PodTemplateSpec, p *inject.Params) { p.Namespace.Annotations = enabled },
		"the namespace's label":      func(_ *corev1.PodTemplateSpec, p *inject.Params) { p.Namespace.Labels = enabled },
		"by hand":                    func(_ *corev1.PodTemplateSpec, p *inject.Params) { p.Force = true },
	} {
		pod, p := asking(""), params()
		ask(&pod, &p)
		if _, report, err := inject.Inject(pod, p); err != nil || !report.Injected || !report.Changed {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	_, _, err := inject.Inject(asking("true"), params())
	if err == nil || err.Error() != `pod shop/web: annotation tulle.dev/inject="true": want enabled or disabled` {
		t.Error(err)
	}
}

// TestInjectedByHandStaysSo: without anybody's word nothing is done to it again.
func TestInjectedByHandStaysSo(t *testing.T) {
	p := params()
	p.Force = true
	pod, _, err := inject.Inject(asking(""), p)
	if err != nil {
		t.Fatal(err)
	}
	again, report, err := inject.Inject(pod, params())
	if err != nil || !report.Injected || report.Changed || report.Reason != "" || report.String() != "pod shop/web: already injected" {
		t.Errorf("%+v %v", report, err)
	}
	if steps, _ := inject.Patch(pod, again); len(steps) > 0 {
		t.Error(steps)
	}
}

// TestWhatIsAddedLaterIsSeenTo: another webhook adds a container, and admission asks again (R13.1, IfNeeded);
// an older version's proxy is replaced.
func TestWhatIsAddedLaterIsSeenTo(t *testing.T) {
	pod, _, err := inject.Inject(asking("enabled"), params())
	if err != nil {
		t.Fatal(err)
	}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "added"})
	pod.Spec.InitContainers[0].Image = "tulle-proxy:old"
	pod, report, err := inject.Inject(pod, params())
	if err != nil || !report.Changed {
		t.Fatal(report, err)
	}
	if len(pod.Spec.Containers) != 2 || pod.Spec.Containers[1].Lifecycle == nil || strings.HasSuffix(pod.Spec.InitContainers[0].Image, "old") {
		t.Errorf("%+v", pod.Spec)
	}
	back, _, err := inject.Uninject(pod, "x")
	if err != nil || len(back.Spec.Containers) != 2 || back.Spec.Containers[1].Lifecycle != nil || back.Spec.InitContainers != nil {
		t.Errorf("%+v %v", back.Spec, err)
	}
}

func TestABrokenRecordIsNamed(t *testing.T) {
	pod := asking("enabled")
	pod.Annotations[inject.AnnotationOriginal] = "{"
	if _, _, err := inject.Inject(pod, params()); err == nil || !strings.Contains(err.Error(), "pod shop/web: annotation tulle.dev/original") {
		t.Error(err)
	}
	if _, _, err := inject.Uninject(pod, "pod x"); err == nil || !strings.Contains(err.Error(), "pod x: annotation tulle.dev/original") {
		t.Error(err)
	}
}

func TestClusterOf(t *testing.T) {
	for _, c := range []struct {
		major, minor string
		want         int
	}{{"1", "29", 29}, {"1", "31+", 31}, {"2", "0", 0}, {"1", "", 0}} {
		if got := inject.ClusterOf(c.major, c.minor); got.Minor != c.want {
			t.Errorf("%s.%s: %d, want %d", c.major, c.minor, got.Minor, c.want)
		}
	}
}

func TestFindKnowsWhatMakesPods(t *testing.T) {
	d := &appsv1.Deployment{}
	template, ok := inject.Find(d)
	if !ok {
		t.Fatal("not found")
	}
	template.Set(asking("enabled"))
	if d.Spec.Template.Spec.Containers[0].Name != "web" {
		t.Error("Set does not reach the object")
	}
	for _, other := range []any{&corev1.Service{}, &corev1.ReplicationController{}, nil} {
		if _, ok := inject.Find(other); ok {
			t.Errorf("%T has a template", other)
		}
	}
	if _, ok := inject.Path("Service"); ok {
		t.Error("a Service has a template")
	}
}
