package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/mark"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Pod makes the row of a Pod, whose identity is of the trust domain; nil for one that has ended. Its
// zone is its node's and is not known here. A mistake in an annotation costs no pod its row: what
// cannot be read is not said, and a default policy that cannot be read is deny. Unlike a Namespace's
// its unknown annotations are not reported: injection has done that, once.
func Pod(o *corev1.Pod, trustDomain string) (*state.Workload, []status.Problem) {
	if o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	var p problems
	account := o.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	w := &state.Workload{
		Name: state.Name{Namespace: shared(o.Namespace), Name: o.Name}, Pod: true, HostNetwork: o.Spec.HostNetwork,
		Labels: sharedMap(o.Labels), Weight: 1, Terminating: o.DeletionTimestamp != nil,
		Node: shared(o.Spec.NodeName), Deployment: shared(deploymentOf(o)),
		Addrs: p.podIPs(o), Rules: p.failClosed(o.Annotations),
	}
	id, err := mesh.ParseIdentity(string(mesh.NewIdentity(trustDomain, o.Namespace, account)))
	if err != nil {
		p.ignoredf("spec.serviceAccountName", "%v: it gets no identity", err)
	}
	w.Identity = mesh.Identity(shared(string(id)))
	for i := range o.Spec.Containers {
		p.container(w, &o.Spec.Containers[i])
	}
	for i := range o.Spec.InitContainers {
		c := &o.Spec.InitContainers[i]
		switch {
		case c.Name == mark.InitContainer:
			w.Skipped = p.skipped(c)
		case c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways:
			p.container(w, c)
		}
	}
	return w, slices.DeleteFunc(p, func(x status.Problem) bool { return x.Severity == status.Notice })
}

// deploymentOf is what metrics say that a pod belongs to.
func deploymentOf(o *corev1.Pod) string {
	if d := o.Labels[mark.Deployment]; d != "" {
		return d
	}
	return mark.Owner(&o.ObjectMeta)
}

func (p *problems) podIPs(o *corev1.Pod) []netip.Addr {
	ips := o.Status.PodIPs
	if len(ips) == 0 && o.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: o.Status.PodIP}}
	}
	var all []netip.Addr
	for i, ip := range ips {
		if a, ok := p.addr(fmt.Sprintf("status.podIPs[%d]", i), ip.IP); ok {
			all = append(all, a)
		}
	}
	return all
}

// container takes a container's ports; the proxy's own are not the workload's.
func (p *problems) container(w *state.Workload, c *corev1.Container) {
	if c.Name == mark.ProxyContainer {
		w.Proxied = true
		return
	}
	for _, port := range c.Ports {
		if port.Protocol != "" && port.Protocol != corev1.ProtocolTCP || port.ContainerPort < 1 || port.ContainerPort > 65535 {
			continue
		}
		w.Ports = append(w.Ports, state.WorkloadPort{Name: shared(port.Name), Port: uint16(port.ContainerPort)})
	}
}

// skipped are the ports that the pod's own redirect leaves alone: what its Namespace says today does
// not change a pod that runs.
func (p *problems) skipped(c *corev1.Container) []state.PortRange {
	const flag = "--" + config.SkipInboundPorts
	for i, arg := range c.Args {
		value, ok := strings.CutPrefix(arg, flag+"=")
		if !ok {
			if arg != flag || i+1 == len(c.Args) {
				continue
			}
			value = c.Args[i+1]
		}
		return p.ranges("spec.initContainers["+c.Name+"].args", value)
	}
	return nil
}

// failClosed is rules where no last good state can be counted on, because every replica must come to
// the same end: who wanted a policy and misspelt it gets the strictest.
func (p *problems) failClosed(annotations map[string]string) state.PortRules {
	r := p.rules(annotations)
	strictest := mesh.DefaultDeny
	if _, said := annotations[annotationDefault]; said && r.Default == nil {
		r.Default = &strictest
	}
	for _, key := range sortedKeys(annotations) {
		port, perPort := strings.CutPrefix(key, annotationDefault+".")
		n, ok := portNumber(port)
		if !perPort || !ok || slices.ContainsFunc(r.PortDefaults, func(d state.PortDefault) bool { return d.Port == n }) {
			continue
		}
		r.PortDefaults = append(r.PortDefaults, state.PortDefault{Port: n, Default: strictest})
	}
	slices.SortFunc(r.PortDefaults, func(a, b state.PortDefault) int { return int(a.Port) - int(b.Port) })
	return r
}

// shared is s in one copy for all rows: a thousand pods have the same few namespaces and labels.
func shared(s string) string { return unique.Make(s).Value() }

func sharedMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[shared(k)] = shared(v)
	}
	return out
}
