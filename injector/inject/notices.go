package inject

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/injector/config"
)

// podSecurityLabel is what a namespace enforces of the Pod Security Standards.
const podSecurityLabel = "pod-security.kubernetes.io/enforce"

// notices tells what will surprise somebody.
func (b *builder) notices() {
	b.noteSecurity()
	b.notePorts()
	b.noteLifetime()
	b.noteResources()
	b.noteSleep()
	spec := &b.pod.Spec
	if p := spec.DNSPolicy; !spec.HostNetwork && (p == corev1.DNSDefault || p == corev1.DNSNone) {
		b.report.notef("dnsPolicy %s: the proxy finds the control plane by its name in the cluster's DNS (%s) and will not become ready without it",
			p, b.p.Mesh.Address("tulle-identity", 8080))
	}
}

func (b *builder) noteSecurity() {
	if level := b.p.Namespace.Labels[podSecurityLabel]; level == "restricted" || level == "baseline" {
		b.report.notef("namespace %s enforces the Pod Security level %q, which forbids the NET_ADMIN that %s needs for the redirect: "+
			"the API server will refuse the pod; label the namespace %s=privileged", b.p.Namespace.Name, level, InitContainer, podSecurityLabel)
	}
}

func (b *builder) notePorts() {
	for _, c := range b.containers() {
		if c.Name == ProxyContainer || c.Name == InitContainer {
			continue
		}
		for _, p := range c.Ports {
			switch n := p.ContainerPort; {
			case p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP:
				b.report.notef("port %d of container %s is %s, which passes the proxy by", n, c.Name, p.Protocol)
			case n == OutboundPort || n == InboundPort || n == TapPort || n == AdminPort:
				b.report.notef("port %d of container %s is the proxy's: one of them cannot listen", n, c.Name)
			}
		}
	}
}

// noteSleep tells why the setting pre-stop has no effect.
func (b *builder) noteSleep() {
	seconds := b.set.Duration(config.PreStop).Seconds()
	switch {
	case seconds == 0 || b.sleep() > 0:
	case !b.p.Cluster.canSleep():
		b.report.notef("no preStop sleep: Kubernetes has it from 1.30 on; give the containers a preStop of their own")
	default:
		b.report.notef("no preStop sleep: %gs is not less than the pod's terminationGracePeriodSeconds, %d", seconds, b.grace())
	}
}

// noteLifetime tells what an ordinary container cannot do that a native sidecar can.
func (b *builder) noteLifetime() {
	if b.native {
		return
	}
	spec := &b.pod.Spec
	for _, c := range spec.InitContainers {
		if c.Name != InitContainer {
			b.report.notef("init container %s runs before the proxy, outside of the mesh: the proxy is no native sidecar here", c.Name)
		}
	}
	if spec.RestartPolicy != "" && spec.RestartPolicy != corev1.RestartPolicyAlways && !b.set.IsEnabled(config.Shutdown) {
		b.report.notef("the pod is meant to complete and the proxy will not: set %s%s=enabled and POST /shutdown at the end, or use native sidecars",
			config.Prefix, config.Shutdown)
	}
}

// noteResources tells when the pod loses its class of service.
func (b *builder) noteResources() {
	var app, all []corev1.Container
	for _, c := range b.containers() {
		all = append(all, *c)
		if c.Name != ProxyContainer && c.Name != InitContainer {
			app = append(app, *c)
		}
	}
	if b.pod.Spec.Resources == nil && guaranteed(app) && !guaranteed(all) {
		b.report.notef("the pod's quality of service turns from Guaranteed to Burstable: give the proxy the same requests and limits (%scpu-request, cpu-limit, memory-request, memory-limit)",
			config.Prefix)
	}
}

func guaranteed(all []corev1.Container) bool {
	for _, c := range all {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, ok := c.Resources.Limits[name]
			request, asked := c.Resources.Requests[name]
			if !ok || asked && request.Cmp(limit) != 0 {
				return false
			}
		}
	}
	return len(all) > 0
}
