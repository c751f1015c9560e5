package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/proxy/admin/probe"
)

type probeSet = probe.Set

// rewriteProbes points the application's HTTP, TCP and gRPC probes at the proxy's own door (R9.3), which
// performs them. Exec probes are the container's own affair.
func (b *builder) rewriteProbes() {
	for _, c := range b.containers() {
		for _, p := range []struct {
			kind string
			at   *corev1.Probe
		}{{probe.Liveness, c.LivenessProbe}, {probe.Readiness, c.ReadinessProbe}, {probe.Startup, c.StartupProbe}} {
			if p.at != nil {
				b.rewriteProbe(c, p.kind, p.at)
			}
		}
		b.noteHooks(c)
	}
}

func (b *builder) rewriteProbe(c *corev1.Container, kind string, p *corev1.Probe) {
	spec, ok := performed(c, p)
	if !ok {
		if p.Exec == nil {
			b.report.notef("the %s probe of container %s is left as it is: its port is not to be found", kind, c.Name)
		}
		return
	}
	if b.probes == nil {
		b.probes = probe.Set{}
	}
	b.probes[c.Name+"/"+kind] = spec
	b.undo.probe(c.Name, kind, p.ProbeHandler)
	p.ProbeHandler = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: probe.Path(c.Name, kind), Port: intstr.FromInt32(AdminPort), Scheme: corev1.URISchemeHTTP,
	}}
}

// performed is what the proxy does in the kubelet's place.
func performed(c *corev1.Container, p *corev1.Probe) (probe.Spec, bool) {
	s := probe.Spec{Seconds: int(p.TimeoutSeconds)}
	switch {
	case p.HTTPGet != nil:
		h := p.HTTPGet
		port, ok := portOf(c, h.Port)
		s.HTTP = &probe.HTTP{Host: h.Host, Port: port, Path: h.Path, TLS: h.Scheme == corev1.URISchemeHTTPS}
		for _, f := range h.HTTPHeaders {
			s.HTTP.Headers = append(s.HTTP.Headers, probe.Header{Name: f.Name, Value: f.Value})
		}
		return s, ok
	case p.TCPSocket != nil:
		port, ok := portOf(c, p.TCPSocket.Port)
		s.TCP = &probe.TCP{Host: p.TCPSocket.Host, Port: port}
		return s, ok
	case p.GRPC != nil:
		s.GRPC = &probe.GRPC{Port: uint16(p.GRPC.Port)}
		if p.GRPC.Service != nil {
			s.GRPC.Service = *p.GRPC.Service
		}
		return s, p.GRPC.Port > 0 && p.GRPC.Port < 1<<16
	}
	return s, false
}

// portOf resolves a port's name the way that the kubelet does.
func portOf(c *corev1.Container, p intstr.IntOrString) (uint16, bool) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, named := range c.Ports {
			if named.Name == p.StrVal {
				n = int(named.ContainerPort)
			}
		}
	}
	return uint16(n), n > 0 && n < 1<<16
}

// noteHooks tells of hooks that the kubelet calls over the network. The proxy does not perform them as it does
// probes: its door is open to the network, and a hook is no question but an action ("drain", "quit"), which a
// policy that denies must keep strangers from.
func (b *builder) noteHooks(c *corev1.Container) {
	if c.Lifecycle == nil {
		return
	}
	for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if h != nil && h.HTTPGet != nil {
			b.report.notef("container %s has a lifecycle hook by HTTP: it passes through the inbound policy like any other client; "+
				"where that wants an identity, use an exec hook, or let the hook's port in (%s%s.PORT=all-unauthenticated)",
				c.Name, config.Prefix, config.DefaultInboundPolicy)
		}
	}
}

// sleepBeforeStop has containers without a preStop of their own sleep until clients have stopped choosing
// the pod (R13.2, R11.2).
func (b *builder) sleepBeforeStop() {
	seconds := b.sleep()
	if seconds == 0 {
		return
	}
	for i := range b.pod.Spec.Containers {
		c := &b.pod.Spec.Containers[i]
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			continue
		}
		b.undo.preStop(c.Name, c.Lifecycle == nil)
		if c.Lifecycle == nil {
			c.Lifecycle = &corev1.Lifecycle{}
		}
		c.Lifecycle.PreStop = sleepFor(seconds)
	}
}

func sleepFor(seconds int64) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
}

// sleep is how many seconds containers sleep before they end; 0: not at all.
func (b *builder) sleep() int64 {
	seconds := int64(b.set.Duration(config.PreStop).Seconds())
	if seconds == 0 || !b.p.Cluster.canSleep() || seconds >= b.grace() {
		return 0
	}
	return seconds
}

// grace is how many seconds the pod has between being told to end and being killed.
func (b *builder) grace() int64 {
	if g := b.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return *g
	}
	return 30
}
