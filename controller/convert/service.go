package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/mark"
)

// Namespace makes the row of a Namespace, of one with a Broken problem too: where a last good state is
// kept, it holds, and elsewhere a default policy that cannot be read is deny.
func Namespace(o *corev1.Namespace) (*state.Namespace, []status.Problem) {
	var p problems
	n := &state.Namespace{Name: o.Name, Rules: p.failClosed(o.Annotations)}
	asked, said := o.Annotations[mark.Inject]
	if !said {
		asked = o.Labels[mark.Inject]
	}
	n.Inject = asked == config.Enabled
	return n, p
}

// Service makes the row of a Service.
func Service(o *corev1.Service) (*state.Service, []status.Problem) {
	var p problems
	if o.Spec.Type == corev1.ServiceTypeExternalName {
		p.ignoredf("spec.type", "ExternalName is not supported yet")
		return nil, p
	}
	s := &state.Service{
		Name: state.Name{Namespace: o.Namespace, Name: o.Name}, Selector: o.Spec.Selector,
		Rules: state.PortRules{Opaque: p.rules(o.Annotations).Opaque},
	}
	s.Addrs = p.clusterIPs(&o.Spec)
	for i, ip := range o.Spec.ExternalIPs {
		if a, ok := p.addr(fmt.Sprintf("spec.externalIPs[%d]", i), ip); ok {
			s.External = append(s.External, a)
		}
	}
	for i := range o.Spec.Ports {
		p.servicePort(s, fmt.Sprintf("spec.ports[%d]", i), &o.Spec.Ports[i])
	}
	if d := o.Spec.TrafficDistribution; d != nil {
		switch *d {
		case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
			s.SameZone = true
		default:
			p.ignoredf("spec.trafficDistribution", "%q is not supported yet", *d)
		}
	}
	s.NodeLocal = o.Spec.InternalTrafficPolicy != nil && *o.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	s.Sticky = o.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
	if p.isBroken() {
		return nil, p
	}
	return s, p
}

// clusterIPs reads the cluster addresses; "None" and nothing are none.
func (p *problems) clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	field, ips := "spec.clusterIPs", spec.ClusterIPs
	if len(ips) == 0 {
		field, ips = "spec.clusterIP", []string{spec.ClusterIP}
	}
	var addrs []netip.Addr
	for _, s := range ips {
		if s == "" || s == corev1.ClusterIPNone {
			continue
		}
		if a, ok := p.addr(field, s); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func (p *problems) addr(field, s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		p.brokenf(field, "%q is not an IP address", s)
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

func (p *problems) port(field string, n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		p.brokenf(field, "%d is not a port: want 1 to 65535", n)
		return 0, false
	}
	return uint16(n), true
}

func (p *problems) servicePort(s *state.Service, field string, o *corev1.ServicePort) {
	if o.Protocol != "" && o.Protocol != corev1.ProtocolTCP {
		return // passed by, not meshed
	}
	port, ok := p.port(field+".port", o.Port)
	if !ok {
		return
	}
	if slices.ContainsFunc(s.Ports, func(q state.ServicePort) bool { return q.Port == port }) {
		p.brokenf(field+".port", "%d is there twice", port)
		return
	}
	row := state.ServicePort{
		Name: o.Name, Port: port, Protocol: p.portProtocol(field, o.Name, o.AppProtocol),
		TargetName: o.TargetPort.StrVal,
	}
	if row.TargetName == "" {
		row.Target = port
		if o.TargetPort.IntVal != 0 {
			row.Target, _ = p.port(field+".targetPort", o.TargetPort.IntVal)
		}
	}
	s.Ports = append(s.Ports, row)
}

// Slice makes the row of an EndpointSlice.
func Slice(o *discoveryv1.EndpointSlice) (*state.Slice, []status.Problem) {
	var p problems
	service := o.Labels[discoveryv1.LabelServiceName]
	if service == "" {
		p.ignoredf("metadata.labels", "name no Service: want %s", discoveryv1.LabelServiceName)
		return nil, p
	}
	if o.AddressType == discoveryv1.AddressTypeFQDN {
		p.ignoredf("addressType", "FQDN is not supported")
		return nil, p
	}
	s := &state.Slice{Name: state.Name{Namespace: o.Namespace, Name: o.Name}, Service: service}
	for i := range o.Ports {
		p.slicePort(s, fmt.Sprintf("ports[%d]", i), &o.Ports[i])
	}
	for i := range o.Endpoints {
		p.sliceEndpoint(s, fmt.Sprintf("endpoints[%d]", i), &o.Endpoints[i])
	}
	if p.isBroken() {
		return nil, p
	}
	return s, p
}

func (p *problems) slicePort(s *state.Slice, field string, o *discoveryv1.EndpointPort) {
	if o.Protocol != nil && *o.Protocol != corev1.ProtocolTCP {
		return
	}
	if o.Port == nil {
		p.ignoredf(field, "without a number is not supported")
		return
	}
	port, ok := p.port(field+".port", *o.Port)
	if !ok {
		return
	}
	s.Ports = append(s.Ports, state.SlicePort{
		Name: deref(o.Name), Port: port, Protocol: p.portProtocol(field, deref(o.Name), o.AppProtocol),
	})
}

// sliceEndpoint takes an endpoint that serves. Conditions that are not said: ready and serving are
// true, terminating is false (KEP-1672).
func (p *problems) sliceEndpoint(s *state.Slice, field string, o *discoveryv1.Endpoint) {
	c := o.Conditions
	terminating := c.Terminating != nil && *c.Terminating
	ready := c.Ready == nil || *c.Ready
	serving := ready
	if c.Serving != nil {
		serving = *c.Serving
	}
	if !ready && (!terminating || !serving) {
		return
	}
	e := state.SliceEndpoint{Terminating: terminating, Zone: deref(o.Zone), Node: deref(o.NodeName)}
	for j, ip := range o.Addresses {
		if a, ok := p.addr(fmt.Sprintf("%s.addresses[%d]", field, j), ip); ok {
			e.Addrs = append(e.Addrs, a)
		}
	}
	if r := o.TargetRef; r != nil {
		e.Pod = r.Name
		e.Ref = r.Kind == "Pod" && (r.Namespace == "" || r.Namespace == s.Name.Namespace)
	}
	if o.Hints != nil {
		e.ForZones = zones(o.Hints.ForZones)
	}
	s.Endpoints = append(s.Endpoints, e)
}

func zones(hints []discoveryv1.ForZone) string {
	var names []string
	for _, z := range hints {
		if z.Name != "" && !strings.Contains(z.Name, ",") {
			names = append(names, z.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
