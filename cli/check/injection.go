package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// webhookReached creates a pod in dry run, which nobody stores or runs: whether the API server reaches
// the webhook and believes its certificate, it alone knows.
func webhookReached(ctx context.Context, e *env) Finding {
	no := false
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "tulle-check-", Namespace: corev1.NamespaceDefault,
			Annotations: map[string]string{inject.AnnotationInject: config.Enabled},
		},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			Containers:                   []corev1.Container{{Name: "check", Image: "tulle.dev/never-pulled"}},
		},
	}
	got, err := e.Kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "PodSecurity"):
		return skip("Pod Security of namespace %s admits no proxy, so that it cannot be tried there", pod.Namespace)
	case apierrors.IsForbidden(err):
		return skip("you may not create pods in namespace %s, not even in dry run", pod.Namespace)
	case err != nil && strings.Contains(err.Error(), "webhook"):
		return fail("the API server asked the injector and got no good answer: %s", err)
	case err != nil:
		return unknown(e.Explain("create a pod in dry run", err))
	case mesh.ProxyContainer(&got.Spec) == nil:
		return fail("a pod with %s: %s was admitted without a proxy: the API server did not reach the injector, or gave up on it", inject.AnnotationInject, config.Enabled)
	}
	return ok("tried in dry run in namespace %s", pod.Namespace)
}

// annotations reads the settings of every namespace and pod as the injector does.
func annotations(ctx context.Context, e *env) Finding {
	all, err := e.survey(ctx)
	if err != nil {
		return unknown(err)
	}
	var wrong, doubtful []string
	look := func(object string, from config.Source, in map[string]string) {
		_, notices, err := all.mesh.Resolve(config.Layer{From: from, Object: object, Annotations: in})
		if err != nil {
			wrong = append(wrong, strings.Split(err.Error(), "\n")...)
		}
		for _, n := range notices {
			if n.Object == object {
				doubtful = append(doubtful, n.String())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all.namespaces)) {
		look("namespace "+name, config.FromNamespace, all.namespaces[name].Annotations)
	}
	seen := map[string]bool{}
	for i := range all.pods {
		p := &all.pods[i]
		object := owner(p)
		if mesh.Ended(p) || seen[object] {
			continue
		}
		seen[object] = true
		look(object, config.FromPod, p.Annotations)
	}
	if len(wrong) > 0 {
		return failures(append(wrong, doubtful...), "")
	}
	return warnings(doubtful, "")
}

// owner names what a pod belongs to, so that ten pods of a Deployment are one line.
func owner(p *corev1.Pod) string { return "pods of " + p.Namespace + "/" + inject.Owner(&p.ObjectMeta) }

func asks(m *metav1.ObjectMeta) string {
	if v := m.Annotations[inject.AnnotationInject]; v != "" {
		return v
	}
	return m.Labels[inject.AnnotationInject]
}

// namespaceLabels: the webhook's strict entry selects by label, which the injector mirrors (R13.1).
func namespaceLabels(ctx context.Context, e *env) Finding {
	namespaces, err := e.namespaces(ctx)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	n := 0
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		ns := namespaces[name]
		if said := ns.Annotations[inject.AnnotationInject]; said != config.Enabled || name == e.Tulle || name == metav1.NamespaceSystem {
			continue
		}
		n++
		if label := ns.Labels[inject.AnnotationInject]; label != config.Enabled {
			problems = append(problems, fmt.Sprintf("namespace %s has the annotation %s: %s and not the label", name, inject.AnnotationInject, config.Enabled))
		}
	}
	return warnings(problems, count(n, "namespace"))
}

// unmeshed asks the injector's own function about every pod without a proxy.
func unmeshed(ctx context.Context, e *env) Finding {
	all, err := e.survey(ctx)
	if err != nil {
		return unknown(err)
	}
	counts := map[string]int{}
	var order []string
	with := 0
	for i := range all.pods {
		p := &all.pods[i]
		if mesh.Ended(p) || p.DeletionTimestamp != nil || all.namespaces[p.Namespace] == nil {
			continue
		}
		if mesh.ProxyContainer(&p.Spec) != nil {
			with++
			continue
		}
		why := whyUnmeshed(p, all.namespaces[p.Namespace], all.mesh)
		if why == "" {
			continue
		}
		line := owner(p) + ": " + why
		if counts[line] == 0 {
			order = append(order, line)
		}
		counts[line]++
	}
	for i, line := range order {
		if n := counts[line]; n > 1 {
			order[i] = fmt.Sprintf("%d %s", n, line)
		}
	}
	return warnings(order, count(with, "pod"))
}

func whyUnmeshed(p *corev1.Pod, ns *corev1.Namespace, m *config.Mesh) string {
	_, r, err := inject.Inject(corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}, inject.Params{
		Mesh: m, Namespace: inject.Namespace{Name: ns.Name, Annotations: ns.Annotations, Labels: ns.Labels}, Object: podName(p),
	})
	switch {
	case err != nil:
		return "it cannot have a proxy: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	case r.IsWanted():
		return r.Why
	case r.Reason != "":
		return ""
	case p.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return ""
	}
	return "created before a proxy was asked for, or while the injector was away"
}

// podSecurity: tulle-init runs as root with NET_ADMIN (R13.3), which only the level privileged admits.
func podSecurity(ctx context.Context, e *env) Finding {
	namespaces, err := e.namespaces(ctx)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		ns := namespaces[name]
		level := ns.Labels["pod-security.kubernetes.io/enforce"]
		if asks(&ns.ObjectMeta) == config.Enabled && name != e.Tulle && (level == "baseline" || level == "restricted") {
			problems = append(problems, fmt.Sprintf("namespace %s asks for proxies and enforces Pod Security %q, which refuses NET_ADMIN: its pods are not created", name, level))
		}
	}
	return failures(problems, "")
}
