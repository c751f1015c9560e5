package sim

import (
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// rollCall sends requests when all troubles are over: nothing of them may be
// left. Every server that discovery names is there, so every request succeeds,
// and servers that were ejected serve again (R6.4).
func (s *Sim) rollCall() {
	if s.O.Pending() > 0 || s.todo > 0 {
		return
	}
	rest := 3*time.Second + 10*s.o.discoveryDelay
	if s.ejects() {
		rest = 61 * time.Second // the longest ejection
	}
	s.W.Run(s.W.Now().Add(rest))
	s.rolling = true
	first := len(s.calls)
	s.roll(6)
	if s.ejects() {
		s.W.Run(s.W.Now().Add(6 * time.Second)) // they are slow to start
		first = len(s.calls)
		s.roll(40)
	}
	s.served(s.calls[first:])
}

// ejects reports whether servers may be ejected in this run, and how they come back is looked at.
func (s *Sim) ejects() bool { return s.o.script.Has(KindEjection) && s.o.keepTargets }

// roll has every client send n requests to every service, one after the other.
func (s *Sim) roll(n int) {
	for _, c := range s.clients {
		for _, svc := range s.services {
			if c.killed || slices.ContainsFunc(s.backends(svc), func(b *service) bool {
				return slices.ContainsFunc(b.servers, func(v *server) bool { return v.killed })
			}) {
				continue
			}
			var calls []*call
			for range n {
				calls = append(calls, s.plainCall(c, svc))
			}
			if s.one(2) {
				s.W.After(s.upTo(time.Millisecond), (&h1Client{s: s, c: c, calls: calls, pipeline: 1}).start)
				continue
			}
			for _, k := range calls {
				k.proto, k.code = protoH2, 8
			}
			s.W.After(s.upTo(time.Millisecond), newH2Client(s, c, calls).start)
		}
	}
	s.last = s.W.Now()
	for limit := s.W.Now(); limit < s.last.Add(patience); {
		limit = s.last.Add(patience)
		if s.W.RunUntil(limit, func() bool { return s.todo == 0 && s.O.Pending() == 0 }) {
			return
		}
	}
}

// plainCall is a small request that nothing befalls.
func (s *Sim) plainCall(c *client, svc *service) *call {
	s.todo++
	return &call{
		s: s, c: c, svc: svc, proto: protoH1, port: portHTTP, method: "GET", status: 200, abortAt: -1, abortGot: -1, resetAt: -1,
		resp: int64(s.rng.IntN(300)), chunk: 300, stallReq: stall{at: -1}, stallResp: stall{at: -1}, respFrame: framingLength,
		think: 20 * time.Microsecond,
	}
}

// forgotten holds that what is no longer asked for is no longer subscribed to.
func (s *Sim) forgotten() {
	if s.o.keepTargets {
		return
	}
	s.W.Run(s.W.Now().Add(40 * time.Second)) // a proxy sweeps every 30 s
	for _, c := range s.clients {
		n := 0
		for _, r := range c.d.targets {
			if r.sub {
				n++
			}
		}
		if n > 0 && !c.killed {
			s.O.Reportf(0, "the proxy of %s still asks for %d targets that nobody dials", c.name, n)
		}
	}
}

// served holds that nobody is passed over who serves.
func (s *Sim) served(calls []*call) {
	if !s.ejects() {
		return
	}
	for _, c := range s.clients {
		for _, svc := range s.services {
			if svc.weights != nil || svc.kind == mesh.BalanceEWMA {
				continue
			}
			for _, v := range svc.servers {
				if v.drains > 0 {
					continue
				}
				asked := false
				n := 0
				for _, k := range calls {
					if k.c == c && k.svc == svc && k.r != nil {
						n++
						asked = asked || slices.Contains(k.r.Servers(), v.name)
					}
				}
				if n >= 40 && !asked {
					s.O.Reportf(0, "server %s is back for a minute, and none of %d requests of %s came to it", v.name, n, c.name)
				}
			}
		}
	}
}
