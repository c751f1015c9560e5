package state

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// What follows from rows, as pure functions: the incremental writer and Audit share them.

// Listens yields every address of a workload; with port 0 an address whose every port it is.
func (w *Workload) Listens() iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for _, ip := range w.Addrs {
			if w.Pod && !yield(netip.AddrPortFrom(ip, 0)) {
				return
			}
			for _, p := range w.Ports {
				if !w.Pod && !yield(netip.AddrPortFrom(ip, p.Port)) {
					return
				}
			}
		}
	}
}

// listens is Listens of what leads to the workload.
func (w *Workload) listens() iter.Seq[netip.AddrPort] {
	if w.HostNetwork {
		return func(func(netip.AddrPort) bool) {}
	}
	return w.Listens()
}

// port is a port of a workload. A pod has every port.
func (w *Workload) port(number uint16) *WorkloadPort {
	for i := range w.Ports {
		if w.Ports[i].Port == number {
			return &w.Ports[i]
		}
	}
	if w.Pod {
		return &WorkloadPort{Port: number}
	}
	return nil
}

func (s *Slice) service() Name { return Name{s.Name.Namespace, s.Service} }

// lists yields every address of a slice.
func (s *Slice) lists() iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for _, e := range s.Endpoints {
			for _, ip := range e.Addrs {
				for _, p := range s.Ports {
					if !yield(netip.AddrPortFrom(ip, p.Port)) {
						return
					}
				}
			}
		}
	}
}

// Selects reports whether the Service's selector selects a workload.
func (s *Service) Selects(w *Workload) bool {
	if w == nil || len(s.Selector) == 0 || s.Name.Namespace != w.Name.Namespace {
		return false
	}
	for k, v := range s.Selector {
		if got, ok := w.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// leadsTo is the port of a workload that a Service's port leads to; nil for none.
func (p ServicePort) leadsTo(w *Workload) *WorkloadPort {
	if p.TargetName == "" {
		return w.port(p.Target)
	}
	for i := range w.Ports {
		if w.Ports[i].Name == p.TargetName {
			return &w.Ports[i]
		}
	}
	return nil
}

// ProtocolOf is what a port of a Service speaks, strongest word first (rule R2.4).
func (s Settings) protocolOf(svc *Service, ns *Namespace, p ServicePort) mesh.Protocol {
	switch {
	case contains(firstSaid(svc.Rules.Opaque, ns), p.Port):
		return mesh.ProtocolOpaque
	case p.Protocol != mesh.ProtocolDetect:
		return p.Protocol
	case contains(s.Opaque, p.Port):
		return mesh.ProtocolOpaque
	}
	return mesh.ProtocolDetect
}

// firstSaid is what the narrower scope says, else what its namespace says.
func firstSaid(own []PortRange, ns *Namespace) []PortRange {
	if own != nil || ns == nil {
		return own
	}
	return ns.Rules.Opaque
}

// speaks is what a workload's port speaks. said is what Services that lead to it say.
func (s Settings) speaks(w *Workload, ns *Namespace, p *WorkloadPort, said mesh.Protocol) mesh.Protocol {
	switch {
	case contains(firstSaid(w.Rules.Opaque, ns), p.Port):
		return mesh.ProtocolOpaque
	case p.Protocol != mesh.ProtocolDetect:
		return p.Protocol
	case said != mesh.ProtocolDetect:
		return said
	case contains(s.Opaque, p.Port):
		return mesh.ProtocolOpaque
	}
	return mesh.ProtocolDetect
}

// rowOf is the endpoint that a workload's port is. said is what the Service says that the port
// speaks, ProtocolDetect for none.
func (s Settings) rowOf(w *Workload, ns *Namespace, a netip.AddrPort, said mesh.Protocol) mesh.Endpoint {
	p := w.port(a.Port())
	e := mesh.Endpoint{
		Addr: a, Weight: max(w.Weight, 1), Protocol: s.speaks(w, ns, p, said),
		Terminating: w.Terminating, Zone: w.Zone, Node: w.Node, Cluster: w.Cluster,
		Namespace: w.Name.Namespace, Deployment: w.Deployment, Pod: w.Name.Name,
	}
	e.Identity, e.NoTLS = s.identityOf(w, p)
	return e
}

// identityOf obeys rule R5.6: what the spec says decides, never health.
func (s Settings) identityOf(w *Workload, p *WorkloadPort) (mesh.Identity, mesh.NoTLSReason) {
	switch {
	case s.NoMutualTLS:
		return "", mesh.NoTLSDisabled
	case !w.Proxied || w.Identity == "":
		return "", mesh.NoTLSNotMeshed
	case p.Skipped || contains(w.Skipped, p.Port):
		return "", mesh.NoTLSSkipped
	}
	return w.Identity, mesh.NoTLSNone
}

// selected yields the endpoints that a workload adds to a Service's port.
func (s Settings) selected(svc *Service, p ServicePort, w *Workload, ns *Namespace) iter.Seq[*mesh.Endpoint] {
	return func(yield func(*mesh.Endpoint) bool) {
		to := p.leadsTo(w)
		if to == nil || w.Pod {
			return // a pod is an endpoint where a slice says so
		}
		said := s.protocolOf(svc, ns, p)
		for _, ip := range w.Addrs {
			e := s.rowOf(w, ns, netip.AddrPortFrom(ip, to.Port), said)
			if svc.SameZone {
				e.ForZones = e.Zone
			}
			if !yield(&e) {
				return
			}
		}
	}
}

// listed makes the endpoint of one address of a slice. owner is the workload that listens there,
// nil for none: then it has no identity.
func (s Settings) listed(l listing, owner *Workload, ns *Namespace) *mesh.Endpoint {
	said := l.port.Protocol
	if said == mesh.ProtocolDetect {
		said = l.said
	}
	var e mesh.Endpoint
	if owner != nil {
		e = s.rowOf(owner, ns, l.addr, said)
	} else {
		e = mesh.Endpoint{
			Addr: l.addr, Weight: 1, NoTLS: mesh.NoTLSNotMeshed, Protocol: said,
			Namespace: l.slice.Name.Namespace, Pod: l.from.Pod,
		}
		if s.NoMutualTLS {
			e.NoTLS = mesh.NoTLSDisabled
		}
	}
	e.Terminating = e.Terminating || l.from.Terminating
	e.Zone = cmp.Or(l.from.Zone, e.Zone)
	e.Node = cmp.Or(l.from.Node, e.Node)
	e.ForZones = l.from.ForZones
	return &e
}

// listing is one address of a slice under one port.
type listing struct {
	slice *Slice
	from  *SliceEndpoint
	port  SlicePort
	addr  netip.AddrPort
	said  mesh.Protocol // by the Service
}

// listings yields the addresses that a slice gives to a Service's port.
func (s *Slice) listings(p ServicePort) iter.Seq[listing] {
	return func(yield func(listing) bool) {
		for _, sp := range s.Ports {
			if sp.Name != p.Name {
				continue
			}
			for i := range s.Endpoints {
				from := &s.Endpoints[i]
				for _, ip := range from.Addrs {
					if !yield(listing{slice: s, from: from, port: sp, addr: netip.AddrPortFrom(ip, sp.Port)}) {
						return
					}
				}
			}
		}
	}
}

// policyOf is the policy of a Service's port for clients of a namespace.
func (s Settings) policyOf(svc *Service, ns *Namespace, p ServicePort, routes []*Route) *mesh.TargetPolicy {
	policy := &mesh.TargetPolicy{
		Kind: mesh.TargetService, Service: svc.Name.Name, Namespace: svc.Name.Namespace,
		Port: p.Port, Protocol: s.protocolOf(svc, ns, p),
	}
	if svc.Sticky {
		policy.Balancing = mesh.BalanceSource
	}
	if r := winner(routes, svc.Name, p.Port); r != nil {
		policy.Routes = []mesh.Route{{Name: r.Name.String(), Backends: r.Backends}}
	}
	return policy
}

// winner is the route that holds for a parent: every route takes every request today, so the older
// one wins, then the first by name (Gateway API, conflict resolution).
func winner(routes []*Route, service Name, port uint16) *Route {
	var best *Route
	for _, r := range routes {
		attached := slices.ContainsFunc(r.Parents, func(p RouteParent) bool {
			return p.Service == service && (p.Port == 0 || p.Port == port)
		})
		if attached && (best == nil || r.before(best)) {
			best = r
		}
	}
	return best
}

func (r *Route) before(o *Route) bool {
	if c := r.Created.Compare(o.Created); c != 0 {
		return c < 0
	}
	return r.Name.String() < o.Name.String()
}

// inboundOf is the inbound policy of a workload. said tells what Services say of its ports.
func (s Settings) inboundOf(w *Workload, ns *Namespace, said map[uint16]mesh.Protocol) *mesh.InboundPolicy {
	policy := &mesh.InboundPolicy{
		Default: s.Default, Terminating: w.Terminating,
		ClusterNetworks: s.ClusterNetworks, TrustDomain: s.TrustDomain,
	}
	ports := make(map[uint16]mesh.Default)
	for _, rules := range scopes(ns, w) {
		if rules.Default != nil { // a narrower scope's word is about all ports
			policy.Default = *rules.Default
			clear(ports)
		}
		for _, p := range rules.PortDefaults {
			ports[p.Port] = p.Default
		}
	}
	for number := range s.spoken(w, ns, said) {
		p := w.port(number)
		d, own := ports[number]
		delete(ports, number)
		protocol := s.speaks(w, ns, p, said[number])
		if !own && protocol == mesh.ProtocolDetect {
			continue
		}
		if !own {
			d = policy.Default
		}
		policy.Ports = append(policy.Ports, mesh.PortPolicy{Port: number, Default: d, Protocol: protocol})
	}
	for port, d := range ports { // of ports that the workload does not list
		policy.Ports = append(policy.Ports, mesh.PortPolicy{Port: port, Default: d})
	}
	slices.SortFunc(policy.Ports, func(a, b mesh.PortPolicy) int { return cmp.Compare(a.Port, b.Port) })
	return policy
}

// maxOpaque bounds how many ports of ranges an inbound policy names: it has no ranges.
const maxOpaque = 1024

// spoken are the ports of a workload of which somebody says what they speak. Of a pod that may be
// ports that its spec does not have.
func (s Settings) spoken(w *Workload, ns *Namespace, said map[uint16]mesh.Protocol) map[uint16]bool {
	numbers := make(map[uint16]bool, len(w.Ports))
	for _, p := range w.Ports {
		numbers[p.Port] = true
	}
	if !w.Pod {
		return numbers
	}
	for number := range said {
		numbers[number] = true
	}
	left := maxOpaque
	for _, r := range slices.Concat(firstSaid(w.Rules.Opaque, ns), s.Opaque) {
		for n := int(r.From); n <= int(r.To) && left > 0; n++ {
			numbers[uint16(n)] = true
			left--
		}
	}
	return numbers
}

func scopes(ns *Namespace, w *Workload) []PortRules {
	if ns == nil {
		return []PortRules{w.Rules}
	}
	return []PortRules{ns.Rules, w.Rules}
}
