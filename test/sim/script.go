package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// script schedules what befalls the mesh, and tells the oracle whom it may hurt.
func (s *Sim) script() {
	w := &s.o.weather
	s.grace = 25*(w.Delay+w.Jitter+w.LocalDelay) + 5*time.Millisecond
	has := s.o.script.Has
	s.disturbed = has(KindReset) || has(KindCrash) || has(KindKill) || has(KindIdleClose) || has(KindGoAway) || has(KindEjection) || has(KindRetry)
	for _, e := range []struct {
		kind Kind
		f    func()
	}{
		{KindReset, s.resetSome}, {KindCrash, s.crashOne}, {KindKill, s.killOne}, {KindRenewal, s.renewSome}, {KindDrain, s.drainOne},
		{KindEjection, s.spoilOne}, {KindStale, s.staleRow}, {KindEndpoints, s.moveEndpoints}, {KindIdentity, s.wrongIdentity},
		{KindGoAway, s.goAwaySome}, {KindEnd, s.endOne}, {KindDeny, s.denySome}, {KindDelay, s.slowDown}, {KindOrder, s.reorder},
	} {
		if has(e.kind) {
			e.f()
		}
	}
}

// at schedules f at some time while there is traffic.
func (s *Sim) at(f func()) {
	s.W.After(time.Millisecond+s.upTo(s.o.span+100*time.Millisecond), f)
}

// soon is when an event of now is known everywhere.
func (s *Sim) soon() oracle.Time { return s.now() + s.grace }

// touches is true of requests of a client that may go to a server; nil for any.
func touches(c *client, v *server) func(r *oracle.Request) bool {
	return func(r *oracle.Request) bool {
		k := r.Plan.User.(*call)
		return (c == nil || k.c == c) && (v == nil || k.mayReach(v))
	}
}

// resetSome resets connections as a box on the way does.
func (s *Sim) resetSome() {
	for range 1 + s.rng.IntN(3) {
		s.at(func() {
			var all [][2]netip.AddrPort
			s.W.ResetWhere(func(from, to netip.AddrPort) bool {
				all = append(all, [2]netip.AddrPort{from, to})
				return false
			})
			if len(all) == 0 {
				return
			}
			x := all[s.rng.IntN(len(all))]
			s.Kinds.add(KindReset)
			c, v := s.hostClient(x[0].Addr(), x[1].Addr()), s.hostServer(x[0].Addr(), x[1].Addr())
			s.O.Allow(oracle.Cause{Name: "a connection was reset", From: s.now(), Until: s.soon(), Covers: touches(c, v)})
			s.note("reset connection", uint64(x[0].Port()))
			s.W.ResetWhere(func(from, to netip.AddrPort) bool { return from == x[0] && to == x[1] })
		})
	}
}

func (s *Sim) hostClient(addrs ...netip.Addr) *client {
	for _, c := range append([]*client{s.outsider}, s.clients...) {
		if slices.Contains(addrs, c.host.IP()) {
			return c
		}
	}
	return nil
}

func (s *Sim) hostServer(addrs ...netip.Addr) *server {
	for _, v := range s.servers {
		if slices.Contains(addrs, v.host.IP()) {
			return v
		}
	}
	return nil
}

// alone reports whether a call may have nobody else to go to when v is gone:
// there is nobody else, or something may have befallen them as well.
func (s *Sim) alone(k *call, v *server) bool {
	if s.shaken() > 1 || k.direct == v {
		return true
	}
	for _, b := range s.backends(k.svc) {
		if len(b.servers) == 1 && b.servers[0] == v {
			return true
		}
	}
	return false
}

// shaken is how many kinds of things may take a server away.
func (s *Sim) shaken() int {
	n := 0
	for _, kind := range []Kind{KindCrash, KindKill, KindEjection, KindEndpoints, KindIdentity, KindDrain, KindReset, KindDeny, KindEnd} {
		if s.o.script.Has(kind) {
			n++
		}
	}
	return n
}

// kept is how much of a body is kept for another attempt, for sure: frames are
// counted whole.
const kept = 60 << 10

// crashOne kills a server's applications and starts them again.
func (s *Sim) crashOne() {
	v := s.servers[s.rng.IntN(len(s.servers))]
	away := time.Millisecond + s.upTo(of(s, 80*time.Millisecond, 300*time.Millisecond))
	s.at(func() {
		if v.down || v.killed {
			return
		}
		s.Kinds.add(KindCrash)
		s.note("crash", uint64(v.index))
		s.O.Allow(oracle.Cause{Name: "the application crashed", From: s.now(), Until: s.soon(), Covers: touches(nil, v), FalseResponseEnd: true})
		s.O.Allow(oracle.Cause{
			Name: "the application is away", From: s.now(), Until: s.now() + away + s.grace,
			Covers: func(r *oracle.Request) bool {
				k := r.Plan.User.(*call)
				// In plaintext the peer cannot say that it has not processed a request,
				// and a body that was not kept cannot be sent to another (R7.1).
				return k.mayReach(v) && (s.alone(k, v) || !s.o.tls || k.req > kept)
			},
		})
		v.crash(s.one(2))
		s.W.After(away, v.restart)
	})
}

// killOne kills a server's proxy; discovery takes the server away.
func (s *Sim) killOne() {
	v := s.servers[s.rng.IntN(len(s.servers))]
	s.at(func() {
		if v.killed {
			return
		}
		s.Kinds.add(KindKill)
		s.note("kill", uint64(v.index))
		v.killed = true
		s.O.Allow(oracle.Cause{
			Name: "the proxy was killed", From: s.now(), Until: s.soon(), Covers: touches(nil, v),
			FalseRequestEnd: true, FalseResponseEnd: !s.o.tls, // TLS tells an end from a FIN (R3.6)
		})
		s.O.Allow(oracle.Cause{
			Name: "the proxy of a server dialled in plaintext was killed", From: s.now(), Until: s.soon(), FalseResponseEnd: true,
			Covers: func(r *oracle.Request) bool { return r.Plan.User.(*call).direct == v },
		})
		s.O.Allow(oracle.Cause{
			Name: "the only proxy was killed", From: s.now(), Until: 1 << 62,
			Covers: func(r *oracle.Request) bool {
				k := r.Plan.User.(*call)
				return k.mayReach(v) && s.alone(k, v)
			},
		})
		v.p.Close()
		s.W.After(s.upTo(100*time.Millisecond), func() {
			s.everyRow(v, func(c *client, t mesh.Target, port uint16) {
				c.d.change(t, nil, []netip.AddrPort{s.rowAddr(v, port)})
			})
		})
	})
}

// everyRow calls f for every place where a row of v stands.
func (s *Sim) everyRow(v *server, f func(c *client, t mesh.Target, port uint16)) {
	for _, c := range s.clients {
		for _, svc := range s.services {
			if !slices.Contains(svc.servers, v) {
				continue
			}
			for _, port := range ports {
				f(c, s.target(svc, port), port)
			}
		}
	}
}

// renewSome gives proxies new certificates; nobody may notice. Short-lived ones
// have their hops drained while a call is under way.
func (s *Sim) renewSome() {
	s.Kinds.add(KindRenewal)
	for _, h := range s.halves() {
		s.at(func() {
			s.note("renew", 0)
			must(h.creds.SetLeaf(s.certs.leaf(h.id, false, 1)))
		})
	}
}

// spoilOne has a server's applications fail for a while: 503 or resets.
func (s *Sim) spoilOne() {
	v := s.servers[s.rng.IntN(len(s.servers))]
	how := of(s, badStatus, badReset, badRefuse)
	s.W.After(s.upTo(s.o.span/2), func() {
		s.Kinds.add(KindEjection)
		s.note("spoil", uint64(v.index))
		some := []*server{v}
		if how == badRefuse { // nobody is left: retries are bounded by their budget alone
			some = s.servers
		}
		for _, v := range some {
			v.bad = how
			s.W.After(50*time.Millisecond+s.upTo(200*time.Millisecond), func() { v.bad = badNot })
		}
		s.hammer()
	})
}

// hammer has clients ask until a server that fails has failed often enough (R6.4).
func (s *Sim) hammer() {
	for _, c := range s.clients {
		for _, svc := range s.services {
			if len(svc.servers) < 2 || c.killed {
				continue
			}
			var calls []*call
			for range 24 {
				calls = append(calls, s.plainCall(c, svc))
			}
			(&h1Client{s: s, c: c, calls: calls, pipeline: 1}).start()
		}
	}
}

// broke is told that v broke a call off.
func (s *Sim) broke(c *call, v *server) {
	s.note("break", uint64(c.r.ID))
	if v.bad == badReset {
		c.r.Excusef("the application resets everything")
	}
}

// idleClosed is told that v closed an idle connection, whose last response had so
// many bytes: a request may have been on its way to it.
func (s *Sim) idleClosed(v *server, last int64) {
	s.Kinds.add(KindIdleClose)
	local := 3*time.Millisecond + 10*s.o.weather.LocalDelay
	if last > 2<<10 { // it leaves before the FIN
		local += s.grace
	}
	s.O.Allow(oracle.Cause{Name: "an idle connection was closed", From: s.now(), Until: s.now() + local, Covers: touches(nil, v)})
}

// staleRow adds an endpoint where nobody is.
func (s *Sim) staleRow() {
	s.Kinds.add(KindStale)
	svc := s.services[s.rng.IntN(len(s.services))]
	var addr netip.Addr
	how := s.rng.IntN(3)
	switch how {
	case 0:
		addr = netip.AddrFrom4([4]byte{10, 1, 9, 9}) // no such host
	case 1:
		addr = s.W.Host(netip.AddrFrom4([4]byte{10, 1, 9, 8})).IP() // nobody listens
	default:
		addr = s.W.Host(netip.AddrFrom4([4]byte{10, 1, 9, 7})).IP()
		s.W.Host(addr).Off() // no answer at all
	}
	if s.shaken() > 0 { // the others may be gone or ejected meanwhile
		s.O.Allow(oracle.Cause{
			Name: "nobody may be left but a stale endpoint", From: s.now(), Until: s.now() + s.o.span + 3*time.Second,
			Covers: func(r *oracle.Request) bool { return slices.Contains(s.backends(r.Plan.User.(*call).svc), svc) },
		})
	}
	for _, port := range ports {
		for _, c := range s.clients {
			e := s.row(s.servers[0], port)
			e.Addr = netip.AddrPortFrom(addr, e.Addr.Port())
			at := s.upTo(s.o.span)
			s.W.After(at, func() { c.d.change(s.target(svc, port), []mesh.Endpoint{e}, nil) })
			s.W.After(at+s.upTo(300*time.Millisecond), func() {
				c.d.change(s.target(svc, port), nil, []netip.AddrPort{e.Addr})
			})
		}
	}
}

// moveEndpoints takes endpoints away and brings them back; requests under way
// finish.
func (s *Sim) moveEndpoints() {
	s.Kinds.add(KindEndpoints)
	n := 1 + s.rng.IntN(2)
	for range n {
		v := s.servers[s.rng.IntN(len(s.servers))]
		s.at(func() {
			s.everyRow(v, func(c *client, t mesh.Target, port uint16) {
				heard := c.d.change(t, nil, []netip.AddrPort{s.rowAddr(v, port)})
				back := s.upTo(150 * time.Millisecond)
				if n == 1 && !s.o.script.Has(KindDrain) { // nobody else brings it back
					s.impostor(impostor{c, v, t, oracle.Time(heard) + s.grace, s.now() + back})
				}
				s.W.After(back, func() {
					if !v.killed {
						c.d.change(t, []mesh.Endpoint{s.row(v, port)}, nil)
					}
				})
			})
		})
	}
}

// wrongIdentity has discovery name another identity than a server has; nothing
// may reach it then.
func (s *Sim) wrongIdentity() {
	v := s.servers[s.rng.IntN(len(s.servers))]
	s.at(func() {
		s.Kinds.add(KindIdentity)
		s.note("identity", uint64(v.index))
		until := s.now() + 50*time.Millisecond + s.upTo(200*time.Millisecond)
		s.O.Allow(oracle.Cause{
			Name: "the only endpoint is somebody else", From: s.now(), Until: until + s.grace + s.o.discoveryDelay*9,
			Covers: func(r *oracle.Request) bool {
				k := r.Plan.User.(*call)
				// A server that speaks first may have refused the other attempt: see tunnelServer.
				return k.mayReach(v) && (s.alone(k, v) || k.port == portBanner)
			},
		})
		s.everyRow(v, func(c *client, t mesh.Target, port uint16) {
			e := s.row(v, port)
			e.Identity = identity("nobody", 0)
			heard := c.d.change(t, []mesh.Endpoint{e}, nil)
			s.impostor(impostor{c, v, t, oracle.Time(heard) + s.grace, until})
			s.W.At(mtime(until), func() { c.d.change(t, []mesh.Endpoint{s.row(v, port)}, nil) })
		})
	})
}

// goAwaySome has applications end their HTTP/2 connections gracefully.
func (s *Sim) goAwaySome() {
	for range 1 + s.rng.IntN(4) {
		v := s.servers[s.rng.IntN(len(s.servers))]
		s.at(func() {
			ended := 0
			for _, k := range slices.Clone(v.h2) {
				if !k.gone && !k.away {
					s.Kinds.add(KindGoAway)
					s.note("goaway", uint64(k.last))
					k.leave()
					ended++
				}
			}
			if ended > 1 && !s.o.tls { // the inbound proxy repeats a request once (R7.1), and cannot say unread to a peer it does not know
				s.O.Allow(oracle.Cause{Name: "two connections were told to go away", From: s.now(), Until: s.soon(), Covers: touches(nil, v)})
			}
		})
	}
}

// slowDown delays packets for a while, or holds them back.
func (s *Sim) slowDown() {
	c, v := s.clients[s.rng.IntN(len(s.clients))], s.servers[s.rng.IntN(len(s.servers))]
	s.at(func() {
		s.Kinds.add(KindDelay)
		if s.one(2) {
			d := s.upTo(200 * time.Millisecond)
			s.grace += d
			s.W.Partition(c.host, v.host, d)
			return
		}
		d := s.upTo(20 * time.Millisecond)
		s.grace += 2 * d
		c.host.Slow(d)
		s.W.After(s.upTo(200*time.Millisecond), func() { c.host.Slow(0) })
	})
}

// reorder has discovery repeat and reorder what it says.
func (s *Sim) reorder() {
	s.Kinds.add(KindOrder)
	for range 1 + s.rng.IntN(4) {
		s.at(func() {
			for _, c := range s.clients {
				for _, svc := range s.services {
					c.d.set(s.target(svc, portHTTP), s.policy(svc, portHTTP), c.d.targets[s.target(svc, portHTTP)].rows)
				}
			}
		})
	}
}
