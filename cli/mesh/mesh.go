// Package mesh knows what Tulle's objects in a cluster are called, and reads them: the names of the
// control plane, meshed pods, their proxies and their versions.
package mesh

import (
	"context"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
)

// Names in the control plane's namespace.
const (
	Identity    = "tulle-identity"
	Destination = "tulle-destination"
	Injector    = "tulle-injector"
	Webhook     = "tulle-injector" // the MutatingWebhookConfiguration, cluster-wide

	RootSecret     = "tulle-identity-root"
	IssuerSecret   = "tulle-identity-issuer"
	InjectorSecret = "tulle-injector-tls"
	Bundle         = "tulle-trust-bundle"
	BundleKey      = "trust-bundle.pem"
	Config         = "tulle-config"
	ConfigKey      = "values.yaml"

	// ManagedBy labels what a service of the control plane made for itself, with the service.
	ManagedBy = "app.kubernetes.io/managed-by"
)

// Marks of meshed pods.
const (
	Inject     = "tulle.dev/inject"
	Injected   = "tulle.dev/injected"
	ProxyLabel = "tulle.dev/proxy"

	Proxy = "tulle-proxy"
	Init  = "tulle-init"
)

// Ports of a proxy and of the control plane's services.
const (
	ProxyAdmin      = 4191
	ControllerAdmin = 9990
	IdentityPort    = 8080
	DestinationPort = 8086
)

// Deployments are the control plane's, in the order in which they come up.
func Deployments() []string { return []string{Identity, Destination, Injector} }

// VersionLabel is the recommended label that the chart sets.
const VersionLabel = "app.kubernetes.io/version"

// DeploymentVersion is what a Deployment of the control plane runs: its image's tag, else its label.
func DeploymentVersion(d *appsv1.Deployment) string {
	for i := range d.Spec.Template.Spec.Containers {
		if v := Tag(d.Spec.Template.Spec.Containers[i].Image); v != "" {
			return v
		}
	}
	if v := d.Labels[VersionLabel]; v != "" {
		return v
	}
	return "unknown"
}

// Tag is an image's tag, or nothing.
func Tag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[i+1:]
	}
	return ""
}

// Pods lists the pods with a proxy in namespace, or everywhere, that have not ended.
func Pods(ctx context.Context, k *cluster.Cluster, namespace string) ([]corev1.Pod, error) {
	list, err := k.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: ProxyLabel + "=true"})
	if err != nil {
		return nil, k.Explain("list meshed pods", err)
	}
	var live []corev1.Pod
	for i := range list.Items {
		if !Ended(&list.Items[i]) {
			live = append(live, list.Items[i])
		}
	}
	return live, nil
}

// Ended reports whether a pod will not run again.
func Ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// ProxyContainer is a pod's proxy, native sidecar or ordinary container; nil: it has none.
func ProxyContainer(spec *corev1.PodSpec) *corev1.Container {
	for _, all := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range all {
			if all[i].Name == Proxy {
				return &all[i]
			}
		}
	}
	return nil
}

// ProxyStatus is what the kubelet says of a pod's proxy; nil: nothing yet.
func ProxyStatus(p *corev1.Pod) *corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range all {
			if all[i].Name == Proxy {
				return &all[i]
			}
		}
	}
	return nil
}

// ProxyVersion is the version of a pod's proxy: its image's tag, else what the injector noted.
func ProxyVersion(p *corev1.Pod) string {
	if c := ProxyContainer(&p.Spec); c != nil {
		if v := Tag(c.Image); v != "" {
			return v
		}
	}
	if v := p.Annotations[Injected]; v != "" {
		return v
	}
	return "unknown"
}

// ControlPods lists the pods of a Deployment of the control plane, or of all of them.
func ControlPods(ctx context.Context, k *cluster.Cluster, deployment string) ([]corev1.Pod, error) {
	list, err := k.Kube.CoreV1().Pods(k.Tulle).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, k.Explain("list pods of the control plane", err)
	}
	var own []corev1.Pod
	for i := range list.Items {
		if d := DeploymentOf(&list.Items[i]); d != "" && (deployment == "" || d == deployment) && !Ended(&list.Items[i]) {
			own = append(own, list.Items[i])
		}
	}
	return own, nil
}

// DeploymentOf is the Deployment of the control plane that a pod belongs to, by the ServiceAccount that
// each has for itself; empty: none.
func DeploymentOf(p *corev1.Pod) string {
	for _, name := range Deployments() {
		if p.Spec.ServiceAccountName == name {
			return name
		}
	}
	return ""
}

// IsReady reports whether a pod serves.
func IsReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
