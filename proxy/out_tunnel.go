package proxy

import (
	"errors"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/route"
	"github.com/tulle-mesh/tulle/proxy/transport"
	"github.com/tulle-mesh/tulle/proxy/tunnel"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// outTunnel finds an endpoint for a connection that is bytes: balanced by
// connect time and open connections (R6.2), tried again on another endpoint
// while nothing of the client's was sent (R7.1).
type outTunnel struct {
	o        *outbound
	n        *sniffer
	b        *target // the backend
	e        *balance.Endpoint
	u        *endpoint
	flight   balance.Flight
	tried    [maxAttempts]*balance.Endpoint
	attempts int
	over     bool // nobody waits for the outcome any more
	joined   bool
	asking   bool // for a silent client, counted by the target while it connects
	// Of the endpoint's connection, before it is joined.
	up  *wire.Conn
	buf []byte // the peer's result, as far as it is here
}

// connect implements side.
func (o *outbound) connect(n *sniffer) {
	o.s.relieve()
	if o.s.p.shedding.Load() {
		o.s.refused(metrics.RefusedMemory)
		n.notConnected(shedReason)
		return
	}
	o.tun = &outTunnel{o: o, n: n, b: o.t, asking: !n.join}
	if o.tun.asking {
		o.t.asking++
		o.t.askedAt = o.s.now()
	}
	if o.t.policy != nil {
		if _, to, ok := route.Pick(o.t.policy, o.s.w.Rand()); ok && to != o.t.key {
			o.tun.b = o.s.target(to)
		}
	}
	o.tun.choose(o.s.now().Add(o.s.p.cfg.Timeouts.Endpoint))
}

// choose picks an endpoint, or waits until one is ready.
func (c *outTunnel) choose(until mono.Time) {
	s := c.o.s
	c.b.lastUsed = s.now()
	var e *balance.Endpoint
	if c.b.resolved() {
		var ok bool
		if e, ok = c.b.bal.Pick(s.now(), c.tried[:min(c.attempts, len(c.tried))]); !ok && c.attempts > 0 {
			e, _ = c.b.bal.Pick(s.now(), nil)
		}
	}
	if e == nil {
		if !c.b.wait(waiter{conn: c, until: until}) {
			c.fail(c.b.whyNone())
		}
		return
	}
	c.dial(e)
}

func (c *outTunnel) dial(e *balance.Endpoint) {
	s := c.o.s
	c.e, c.u = e, c.b.endpoint(e)
	if reason := s.denySelf(c.u); reason != "" {
		c.fail(reason)
		return
	}
	c.flight = e.StartTunnel(s.now())
	if c.attempts < len(c.tried) {
		c.tried[c.attempts] = e
	}
	c.attempts++
	r := transport.Remote{Addr: c.u.addr}
	if c.u.secure() {
		r = s.remote(e, hop.ALPNTCP)
	}
	transport.Dial(&s.plainParams, &r, c.dialed)
}

func (c *outTunnel) dialed(up *wire.Conn, err error) {
	switch {
	case c.over:
		if err == nil {
			up.Abort()
		}
	case err != nil:
		c.failed(err)
	case c.u.secure():
		c.up, c.buf = up, nil    // an earlier attempt's result is not this one's
		up.SetUser((*result)(c)) // the peer's word on its connection to the application
	default:
		c.ready(up, nil)
	}
}

// ready says that the endpoint is connected, early is what it sent already.
func (c *outTunnel) ready(up *wire.Conn, early []byte) {
	c.up = nil
	c.joined = true
	c.flight.FirstData(c.o.s.now())
	c.n.connected(up, early)
	c.asked()
}

// failed tries the next endpoint, or gives up.
func (c *outTunnel) failed(err error) {
	s := c.o.s
	cause := balance.CauseConnect
	if _, ok := errors.AsType[*mtls.VerifyError](err); ok {
		cause = balance.CauseIdentity
	}
	s.p.report(c.b.key, c.e.Addr, err)
	c.flight.Done(s.now(), balance.Failure(cause, 0))
	if c.attempts < maxAttempts && !s.p.cfg.DisableRetries {
		if c.b.retry.Withdraw(s.now()) {
			c.choose(s.now().Add(s.p.cfg.Timeouts.Endpoint))
			return
		}
		s.store.Proxy.RetryBudgetExhausted++
	}
	c.fail("endpoint " + c.e.Addr.String() + ": " + err.Error())
}

func (c *outTunnel) fail(reason string) {
	if c.over {
		return
	}
	c.over = true
	c.n.notConnected("outbound " + c.o.t.name() + ": " + reason)
	c.asked()
}

// stop gives up: the client is gone.
func (c *outTunnel) stop() {
	if c.over {
		return
	}
	c.over = true
	c.flight.Done(c.o.s.now(), balance.Outcome{Result: balance.Cancelled})
	if c.up != nil {
		c.up.Abort()
		c.up = nil
	}
	c.asked()
}

// A client that pre-opens connections, a thousand at once, is silent on most of
// them. Asking the server of each (R2.5) costs a TLS handshake, and the connections
// that carry requests would wait behind all those: so only some are connected at a
// time. Where the port speaks HTTP hardly anything depends on the answer, and one
// server is asked each second.
const (
	maxAsking    = 16
	askKnownEach = silenceKnown
)

// mayAsk implements side.
func (o *outbound) mayAsk(n *sniffer) bool {
	t, now := o.t, o.s.now()
	switch {
	case n.speaksHTTP():
		if t.asking == 0 && now.Sub(t.askedAt) >= askKnownEach {
			return true
		}
	case t.asking < maxAsking:
		return true
	case len(t.toAsk) < o.s.p.cfg.Limits.Waiting:
		t.toAsk = append(t.toAsk, n)
		return false
	}
	n.arm(timerSilence, silenceKnown)
	return false
}

// asked says that the server side is connected, or that it will not be; the next
// silent clients have their turn.
func (c *outTunnel) asked() {
	if !c.asking {
		return
	}
	c.asking = false
	t := c.o.t
	t.asking--
	for len(t.toAsk) > 0 && t.asking < maxAsking {
		n := t.toAsk[0]
		t.toAsk = t.toAsk[1:]
		n.ask()
	}
}

// result is an outTunnel as the user of a secure connection whose result is
// awaited (R5.4).
type result outTunnel

// Received implements wire.User.
func (r *result) Received(p []byte) {
	r.buf = append(r.buf, p...)
	reason, n, ok, more := hop.ParseResult(r.buf)
	switch {
	case more:
	case ok:
		(*outTunnel)(r).ready(r.up, r.buf[n:])
	default:
		r.up.Close()
		r.up = nil
		(*outTunnel)(r).failed(errors.New(reason))
	}
}

// EOF implements wire.User.
func (r *result) EOF() {
	r.up.Abort()
	r.Failed(wire.ErrTruncated)
}

// Failed implements wire.User.
func (r *result) Failed(err error) {
	r.up = nil
	if !r.over {
		(*outTunnel)(r).failed(err)
	}
}

// Flushed implements wire.User.
func (r *result) Flushed(int) {}

// tunnel implements side: the client and its endpoint are joined.
func (o *outbound) tunnel(n *sniffer, up *wire.Conn) {
	s, c := o.s, o.tun
	c.over = true
	m := c.u.metricsTCP(c.e)
	m.Open(s.now())
	s.tunnels++
	tunnel.Join(tunnel.Params{
		A: o.c, B: up, CountA: nothing{}, CountB: m,
		EarlyA: n.buf, EarlyB: n.upBuf, EndedA: n.eof, EndedB: n.upEOF,
		Done: func(err error) {
			s.tunnels--
			m.Close(errno(err), s.now())
			outcome := balance.Outcome{}
			if err != nil {
				outcome.Result = balance.Cancelled // a reset may be either side's
			}
			c.flight.Done(s.now(), outcome)
			o.end("")
		},
	})
}

// nothing counts nothing: of a tunnel's two sides the mesh's is counted.
type nothing struct{}

func (nothing) Read(int)  {}
func (nothing) Write(int) {}

var _ tunnel.Counter = (*metrics.TCP)(nil)
