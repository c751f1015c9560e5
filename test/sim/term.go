package sim

import (
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// Of a proxy that ends.
const (
	lameDuck = 500 * time.Millisecond
	drainFor = 8 * time.Second
	looking  = 50 * time.Millisecond // as proxy.Run looks
)

// endOne sends a server's proxy SIGTERM, as an ordinary container gets it: the
// application serves on, discovery takes the server away, and nobody may notice
// but who dials it directly (R11.2).
func (s *Sim) endOne() {
	v := s.servers[s.rng.IntN(len(s.servers))]
	s.at(func() {
		if v.killed || v.down {
			return
		}
		s.Kinds.add(KindEnd)
		s.note("SIGTERM", uint64(v.index))
		v.ends = s.now()
		v.p.Drain()
		s.W.After(s.upTo(20*time.Millisecond), func() {
			s.everyRow(v, func(c *client, t mesh.Target, port uint16) {
				c.d.change(t, nil, []netip.AddrPort{s.rowAddr(v, port)})
			})
		})
		s.O.Allow(oracle.Cause{
			Name: "the only proxy ends", From: s.now(), Until: 1 << 62,
			Covers: func(r *oracle.Request) bool { k := r.Plan.User.(*call); return k.mayReach(v) && s.alone(k, v) },
		})
		s.W.After(looking, func() { s.look(v) })
	})
}

// look has a proxy that ends exit once it may.
func (s *Sim) look(v *server) {
	after := s.now() - v.ends
	v.p.AskBusy(func(busy int) {
		if !v.p.MayExit(after, busy) {
			s.W.After(looking, func() { s.look(v) })
			return
		}
		s.note("exit", uint64(busy))
		if busy > 0 && !s.goesOn(v) {
			s.O.Reportf(0, "the proxy of %s waits for %d things until %v after SIGTERM, and nothing goes on", v.name, busy, after)
		}
		s.O.Allow(oracle.Cause{
			Name: "the proxy that it dialled has exited", From: s.now(), Until: s.soon(), FalseResponseEnd: true,
			Covers: func(r *oracle.Request) bool { return r.Plan.User.(*call).direct == v },
		})
		if busy > 0 || s.shaken() > 0 { // what goes on is cut
			s.O.Allow(oracle.Cause{Name: "the proxy has exited", From: s.now(), Until: s.soon(), Covers: touches(nil, v), FalseRequestEnd: true, FalseResponseEnd: !s.o.tls})
		}
		v.killed = true
		v.p.Close()
	})
}

// goesOn reports whether a call is under way at v; of a tunnel, either direction.
func (s *Sim) goesOn(v *server) bool {
	for _, k := range s.calls {
		for _, name := range k.r.Servers() {
			if name == v.name && (!k.r.Over() || k.sentReq < k.req) {
				return true
			}
		}
	}
	return false
}

// idle holds that proxies count nothing as going on once all is over: else they
// would wait for it at their end.
func (s *Sim) idle() {
	for _, h := range s.halves() {
		if h.killed {
			continue
		}
		n := -1
		h.p.AskBusy(func(busy int) { n = busy })
		s.W.RunUntil(s.W.Now().Add(1e9), func() bool { return n >= 0 })
		if n != 0 {
			s.O.Reportf(0, "the proxy of %s believes that %d requests and tunnels still go on", h.name, n)
		}
	}
}
