package sim

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// denial is a server whose policy does not let everybody in for a while.
type denial struct {
	v           *server
	port        uint16 // 0: all ports
	bare        bool   // clients in the mesh are let in
	from, until oracle.Time
}

// covers reports whether a call may not come in.
func (d *denial) covers(k *call) bool {
	return k.mayReach(d.v) && (d.port == 0 || d.port == k.port) && (!d.bare || k.c.bare)
}

// denySome has a server's policy deny clients for a while: nothing of theirs may
// reach it then, and their tunnels end (R9.2, R9.4).
func (s *Sim) denySome() {
	v := s.servers[s.rng.IntN(len(s.servers))]
	s.at(func() {
		if v.killed {
			return
		}
		s.Kinds.add(KindDeny)
		s.note("deny", uint64(v.index))
		d := denial{v: v}
		if s.one(2) {
			d.port = of(s, ports[:]...)
		}
		how := of(s, mesh.DefaultDeny, mesh.DefaultAllAuthenticated, mesh.DefaultClusterAuthenticated)
		d.bare = how != mesh.DefaultDeny && s.o.tls
		p := &mesh.InboundPolicy{TrustDomain: "cluster.local", Default: how}
		if d.port != 0 {
			p.Default, p.Ports = mesh.DefaultAllUnauthenticated, []mesh.PortPolicy{{Port: d.port, Default: how}}
		}
		heard := oracle.Time(v.d.setInbound(p))
		d.from, d.until = heard+s.grace, heard+50*time.Millisecond+s.upTo(200*time.Millisecond)
		s.denials = append(s.denials, d)
		s.O.Allow(oracle.Cause{
			Name: "the client is denied", From: s.now(), Until: d.until + s.grace + s.o.discoveryDelay*2,
			Covers: func(r *oracle.Request) bool { return d.covers(r.Plan.User.(*call)) },
		})
		s.W.At(mtime(d.from), func() { s.deniedTunnels(&d, heard) })
		s.W.At(mtime(d.until), func() { v.d.setInbound(&mesh.InboundPolicy{TrustDomain: "cluster.local"}) })
	})
}

// deniedTunnels looks for tunnels that were open when the policy came and still are.
func (s *Sim) deniedTunnels(d *denial, heard oracle.Time) {
	if s.o.script.Has(KindStall) { // a server that does not read does not see the end
		return
	}
	goesOn := func(k *call, a *oracle.Attempt) {
		if k != nil && d.covers(k) && k.beganAt < heard && !a.Over() {
			s.O.Reportf(k.r.ID, "its tunnel to server %s goes on though the policy denies it", d.v.name)
		}
	}
	for _, c := range d.v.conns {
		if c.gone {
			continue
		}
		switch k := c.do.(type) {
		case *tunnelServer:
			goesOn(k.call, k.a)
		case *h1Server:
			if k.tunnel && k.began && k.a != nil {
				goesOn(k.call, k.a)
			}
		case *h2Server:
			for _, st := range k.w.streams {
				if x := st.user.(*served); st.call.upgrade && x.began {
					goesOn(st.call, x.a)
				}
			}
		}
	}
}

// denied reports what reached a server that must not have.
func (s *Sim) denied(c *call, v *server) {
	for i := range s.denials {
		if d := &s.denials[i]; d.v == v && d.covers(c) && c.beganAt > d.from && s.now() < d.until {
			s.O.Reportf(c.r.ID, "reached server %s, whose policy denies it", v.name)
			return
		}
	}
}
