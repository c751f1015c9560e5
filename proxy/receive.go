package proxy

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/policy"
	"github.com/tulle-mesh/tulle/proxy/share"
	"github.com/tulle-mesh/tulle/proxy/transport"
)

// app is one port of the application, as a worker knows it.
type app struct {
	s        *shard
	addr     netip.AddrPort
	h1       *transport.H1Pool
	h2       *transport.H2Pool
	users    int
	lastUsed mono.Time
	httpAt   mono.Time // last seen to speak HTTP (R2.5)
}

// roomForApp reports whether one at addr would be within the limit. A peer may dial every port that
// there is: those that nobody uses go first.
func (s *shard) roomForApp(addr netip.AddrPort) bool {
	most := s.p.cfg.Limits.Targets
	if s.apps[addr] == nil && len(s.apps) >= most {
		s.sweepApps(s.now(), 0)
	}
	return s.apps[addr] != nil || len(s.apps) < most
}

// app returns the worker's app at addr.
func (s *shard) app(addr netip.AddrPort) *app {
	a := s.apps[addr]
	if a == nil {
		a = &app{s: s, addr: addr}
		a.h1 = transport.NewH1Pool(&s.appParams, transport.Remote{Addr: addr})
		a.h2 = transport.NewH2Pool(&s.appParams, transport.Remote{Addr: addr})
		s.apps[addr] = a
		s.appList = append(s.appList, a)
	}
	a.lastUsed = s.now()
	return a
}

// protocol is what the workload's policy says of the port.
func (a *app) protocol() mesh.Protocol {
	if a.s.inbound == nil {
		return mesh.ProtocolDetect
	}
	p, _ := policy.Port(a.s.inbound, a.addr.Port())
	return p.Protocol
}

// receive is an inbound connection as the Director of its requests: policy,
// then the application.
type receive inbound

func (r *receive) i() *inbound { return (*inbound)(r) }

// Open implements exchange.Director.
func (r *receive) Open(x *exchange.Exchange) {
	i := r.i()
	if !x.Att.Counted {
		x.Att.Counted = true
		i.s.retry.Request(i.s.now())
		if i.s.inbound == nil { // not ready (R11.1): nothing was decided, a peer goes elsewhere
			x.Att.HTTP = i.metricsHTTP()
			x.Att.HTTP.Request(i.s.now())
			x.Answer(exchange.Answer{Status: 503, GRPC: 14, Reason: "no inbound policy was received yet", Unprocessed: true})
			return
		}
		d := i.decide()
		x.Att.HTTP = i.metricsHTTP()
		x.Att.HTTP.Request(i.s.now())
		if !d.Allow {
			x.Answer(exchange.Answer{Status: 403, GRPC: 7, Reason: "denied by " + d.Policy + ": " + d.Reason})
			return
		}
		if i.s.overRate(x) { // after the policy (R9.1)
			return
		}
	}
	if x.Req.Version >= 20 {
		i.a.h2.Open(x)
	} else {
		i.a.h1.Open(x)
	}
}

// overRate answers x when the application has had its requests of this second (R8.6).
func (s *shard) overRate(x *exchange.Exchange) bool {
	if s.p.rate == nil || s.p.rate.Withdraw(share.Token, s.now()) {
		return false
	}
	s.refused(metrics.RefusedRate)
	reason := "more than " + strconv.Itoa(s.p.cfg.Limits.Rate) + " requests in a second"
	x.Answer(exchange.Answer{Status: 429, GRPC: 8, Reason: reason, RetryAfter: 1})
	return true
}

// Cancel implements exchange.Director.
func (r *receive) Cancel(x *exchange.Exchange) {
	r.a.h1.Cancel(x)
	r.a.h2.Cancel(x)
}

// maxAppAttempts is how often a request is given to the application: there is no
// other to go to, and the peer's proxy tries again, too (R7.1).
const maxAppAttempts = 2

// Again implements exchange.Director: what certainly was not seen because its
// connection ended is sent once more on another, within a budget (R7.3). A request
// that the application itself refuses is not: its client hears that, and goes
// elsewhere.
func (r *receive) Again(x *exchange.Exchange, f *exchange.Failure) (time.Duration, bool) {
	switch {
	case f.Final || r.s.p.cfg.DisableRetries:
		return 0, false
	case f.Replace && !x.Att.Replaced:
		x.Att.Replaced = true
		x.Attempts--
		return 0, true
	}
	if f.Refused {
		f.PassOn = true
		return 0, false
	}
	if !f.Unprocessed || f.Connect || f.Status != 0 || x.Attempts >= maxAppAttempts {
		return 0, false
	}
	if !r.s.retry.Withdraw(r.s.now()) {
		r.s.store.Proxy.RetryBudgetExhausted++
		return 0, false
	}
	return 0, true
}

// Failed implements exchange.Director.
func (r *receive) Failed(_ *exchange.Exchange, f *exchange.Failure) {
	if f.Timeout {
		r.s.timedOut(f)
	}
}

// Response implements exchange.Director: an application may not speak in the
// mesh's name (R5.5).
func (r *receive) Response(x *exchange.Exchange, h *head.Head) {
	if x.Tunnel() {
		r.upgraded = append(r.upgraded, x)
		r.s.w.Soon((*again)(r.i())) // the policy may have changed since Open asked it (R9.4)
	}
	if !x.Answered() {
		hop.Strip(h)
	}
}

// First implements exchange.Director.
func (r *receive) First(*exchange.Exchange) {}

// Finished implements exchange.Director.
func (r *receive) Finished(x *exchange.Exchange, res exchange.Result) {
	if n := slices.Index(r.upgraded, x); n >= 0 {
		r.upgraded = slices.Delete(r.upgraded, n, n+1)
	}
	r.s.responded(x, res)
}

// Where implements exchange.Director.
func (r *receive) Where(*exchange.Exchange) string {
	return "inbound application " + r.a.addr.String()
}
