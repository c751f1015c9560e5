package inject

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/injector/config"
)

// asked is what annotations and labels say of injection.
type asked struct {
	enabled bool
	// from names what decided, "" when nothing did.
	from string
}

// asked finds the word that holds: the pod's before its Namespace's, on each an annotation before a label.
// `kubectl label` and `kubectl annotate` are both at hand, and an object selector sees labels alone.
func (p *Params) asked(pod *corev1.PodTemplateSpec, object string) (asked, error) {
	for _, at := range []struct {
		object, what string
		in           map[string]string
	}{
		{object, "annotation", pod.Annotations},
		{object, "label", pod.Labels},
		{"namespace " + p.Namespace.Name, "annotation", p.Namespace.Annotations},
		{"namespace " + p.Namespace.Name, "label", p.Namespace.Labels},
	} {
		switch value, said := at.in[AnnotationInject]; {
		case !said:
		case value == config.Enabled || value == config.Disabled:
			return asked{value == config.Enabled, at.what + " of " + at.object}, nil
		default:
			return asked{}, &config.Mistake{Object: at.object, Annotation: AnnotationInject, Value: value, Want: "enabled or disabled"}
		}
	}
	return asked{}, nil
}

// others are containers of meshes that redirect the pod's network as well.
var others = map[string]string{
	"istio-proxy": "Istio's", "istio-init": "Istio's", "linkerd-proxy": "Linkerd's", "linkerd-init": "Linkerd's",
	"kuma-sidecar": "Kuma's", "kuma-init": "Kuma's", "consul-dataplane": "Consul's",
}

// leaveAlone says why a pod gets no proxy; "" when it gets one.
func (p *Params) leaveAlone(pod *corev1.PodTemplateSpec, a asked) (Reason, string) {
	switch {
	case !p.Force && a.from != "" && !a.enabled:
		return IsDisabled, AnnotationInject + " is disabled by " + a.from
	case !p.Force && a.from == "":
		return NotAsked, ""
	case p.Namespace.Name == "kube-system" || p.Namespace.Name == p.Mesh.Namespace:
		return SystemNamespace, ""
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "" || pod.Annotations["kubernetes.io/config.source"] == "file":
		return StaticPod, ""
	case pod.Spec.HostNetwork:
		return HostNetwork, ""
	case isWindows(&pod.Spec):
		return Windows, ""
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if whose, other := others[c.Name]; other {
				return OtherProxy, "container " + c.Name + " is " + whose + " and redirects the same network"
			}
			if c.Name == ProxyContainer || c.Name == InitContainer {
				return ForeignProxy, "it has a container " + c.Name + " that was not put there by injection"
			}
		}
	}
	return "", ""
}

func isWindows(spec *corev1.PodSpec) bool {
	return spec.OS != nil && spec.OS.Name == corev1.Windows || strings.EqualFold(spec.NodeSelector[corev1.LabelOSStable], "windows")
}
