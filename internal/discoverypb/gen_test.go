package discoverypb

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// gen makes values that mesh allows.
type gen struct{ *rand.Rand }

func (g gen) word() string { return []string{"", "a", "shop", "web-1"}[g.IntN(4)] }

func (g gen) flip() bool { return g.IntN(2) == 0 }

func (g gen) addr() netip.AddrPort {
	b := make([]byte, []int{4, 16}[g.IntN(2)])
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	ip, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(1+g.IntN(65535)))
}

func (g gen) target() mesh.Target {
	if g.flip() {
		return mesh.AddrTarget(g.addr())
	}
	return mesh.NameTarget([]string{"web", "catalog.shop", "a-b.c"}[g.IntN(3)], uint16(1+g.IntN(65535)))
}

func (g gen) endpoint() mesh.Endpoint {
	e := mesh.Endpoint{
		Addr: g.addr(), Weight: uint32(g.IntN(3)), Protocol: mesh.Protocol(g.IntN(len(protocols))), Terminating: g.flip(),
		Zone: g.word(), ForZones: []string{"", "a", "a,b,c"}[g.IntN(3)], Node: g.word(), Cluster: g.word(),
		Namespace: g.word(), Deployment: g.word(), Pod: g.word(),
	}
	if g.flip() {
		e.Identity = mesh.NewIdentity("tulle.local", "shop", "web")
	} else {
		e.NoTLS = mesh.NoTLSReason(1 + g.IntN(len(noTLSReasons)-1))
	}
	return e
}

func (g gen) duration() time.Duration {
	return []time.Duration{0, time.Nanosecond, time.Second, time.Duration(g.Int64N(1 << 40))}[g.IntN(4)]
}

func (g gen) policy() *mesh.TargetPolicy {
	p := &mesh.TargetPolicy{
		Kind: mesh.TargetKind(g.IntN(len(kinds))), Service: g.word(), Namespace: g.word(), Port: uint16(g.IntN(65536)),
		Protocol: mesh.Protocol(g.IntN(len(protocols))), Balancing: mesh.Balancing(g.IntN(len(balancings))),
	}
	for range g.IntN(3) {
		r := mesh.Route{Name: g.word()}
		for range g.IntN(3) {
			r.Backends = append(r.Backends, mesh.Backend{Target: g.target(), Weight: uint32(g.IntN(100))})
		}
		p.Routes = append(p.Routes, r)
	}
	if g.flip() {
		p.Retry = mesh.Retry{
			Statuses: []int{100 + g.IntN(500)}, GRPC: []int{g.IntN(17)},
			ConnectFailure: g.flip(), AnyMethod: g.flip(), Attempts: uint32(g.IntN(5)),
		}
	}
	p.Timeouts = mesh.Timeouts{Request: g.duration(), Response: g.duration(), Idle: g.duration(), PerTry: g.duration()}
	return p
}

func (g gen) inbound() *mesh.InboundPolicy {
	p := &mesh.InboundPolicy{
		Default: mesh.Default(g.IntN(len(defaults))), Terminating: g.flip(), TrustDomain: g.word(),
	}
	for range g.IntN(4) {
		p.Ports = append(p.Ports, mesh.PortPolicy{
			Port: uint16(1 + g.IntN(65535)), Default: mesh.Default(g.IntN(len(defaults))),
			Protocol: mesh.Protocol(g.IntN(len(protocols))),
		})
	}
	slices.SortFunc(p.Ports, func(a, b mesh.PortPolicy) int { return int(a.Port) - int(b.Port) })
	p.Ports = slices.CompactFunc(p.Ports, func(a, b mesh.PortPolicy) bool { return a.Port == b.Port })
	for range g.IntN(3) {
		ip := g.addr().Addr()
		p.ClusterNetworks = append(p.ClusterNetworks, netip.PrefixFrom(ip, g.IntN(ip.BitLen()+1)).Masked())
	}
	return p
}
