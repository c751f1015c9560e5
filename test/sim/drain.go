package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// drainOne tells a proxy that its workload ends; discovery says so to clients
// too, which choose others then (R6.3, R11.2).
func (s *Sim) drainOne() {
	if len(s.servers) < 2 {
		return
	}
	v := s.servers[s.rng.IntN(len(s.servers))]
	s.at(func() {
		s.Kinds.add(KindDrain)
		s.note("drain", uint64(v.index))
		told := oracle.Time(v.d.setInbound(&mesh.InboundPolicy{TrustDomain: "cluster.local", Terminating: true}))
		v.drains = told + s.grace
		s.W.After(s.upTo(5*time.Millisecond), func() {
			s.everyRow(v, func(c *client, t mesh.Target, port uint16) {
				e := s.row(v, port)
				e.Terminating = true
				v.leaves = max(v.leaves, oracle.Time(c.d.change(t, []mesh.Endpoint{e}, nil))+s.grace)
			})
		})
		open := s.hops(v)
		s.W.At(mtime(told+1200*time.Millisecond+2*s.grace), func() { s.drained(v, open) })
	})
}

// calm reports whether nothing but a drain keeps clients from their servers.
func (s *Sim) calm() bool {
	const fine = 1<<KindDrain | 1<<KindStall | 1<<KindOrder | 1<<KindLarge | 1<<KindRetry | 1<<KindAbort
	return s.o.script&^fine == 0
}

// drained looks for hops that a server's proxy has not told to end: a pool would
// keep them for longer.
func (s *Sim) drained(v *server, open []netip.AddrPort) {
	if !s.o.tls || !s.calm() || s.O.Pending() > 0 {
		return
	}
	for _, from := range s.hops(v) {
		if slices.Contains(open, from) {
			s.O.Reportf(0, "server %s drains, and a connection from %s stays open", v.name, from)
		}
	}
}

// hops are the connections that clients' proxies have with a server's.
func (s *Sim) hops(v *server) (open []netip.AddrPort) {
	s.W.ResetWhere(func(from, to netip.AddrPort) bool {
		if c := s.hostClient(from.Addr()); c != nil && !c.bare && to.Addr() == v.host.IP() {
			open = append(open, from)
		}
		return false
	})
	return open
}

// mayTake reports what reached a server that others stand in for.
func (s *Sim) mayTake(c *call, v *server) {
	if v.leaves > 0 && c.beganAt > v.leaves && c.direct == nil && c.svc.weights == nil && len(c.svc.servers) > 1 && s.calm() {
		s.O.Reportf(c.r.ID, "reached server %s, which is terminating, while others serve", v.name)
	}
}
