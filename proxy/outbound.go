package proxy

import (
	"net/netip"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/detect"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// The way of an outbound connection: accepted for a target; parked until the
// target is resolved; detected, unless the target's policy says what it speaks;
// then served as HTTP, each request directed by the target (direct.go), or
// joined with an endpoint as a tunnel (out_tunnel.go).

// outbound is one accepted connection of the application.
type outbound struct {
	s     *shard
	t     *target
	c     *wire.Conn
	until mono.Time // parked no longer than that
	h2    *exchange.H2Server
	tun   *outTunnel
	over  bool
}

// openUpstream accepts a connection of an explicit upstream.
func (s *shard) openUpstream(key mesh.Target) func(loop.Socket, wire.Info, netip.AddrPort) {
	return func(sock loop.Socket, info wire.Info, _ netip.AddrPort) { s.openOutbound(sock, info, key) }
}

// openRedirected accepts a connection that was redirected to the outbound
// listener. Outbound never dials loopback or the proxy's own ports (R1.2).
func (s *shard) openRedirected(sock loop.Socket, info wire.Info, dst netip.AddrPort) {
	if dst.Addr().IsLoopback() || s.p.ownPort(dst) {
		s.refused(metrics.RefusedLoop)
		sock.Close(true)
		return
	}
	s.openOutbound(sock, info, mesh.AddrTarget(dst))
}

func (s *shard) openOutbound(sock loop.Socket, info wire.Info, key mesh.Target) {
	if s.targets[key] == nil && len(s.targets) >= s.p.cfg.Limits.Targets {
		s.refused(metrics.RefusedTarget)
		sock.Close(true)
		return
	}
	s.relieve()
	o := &outbound{s: s, t: s.target(key)}
	o.t.users++
	o.until = s.now().Add(s.p.cfg.Timeouts.Resolve)
	o.c = wire.Accept(s.wire, sock, info, o)
	if o.t.resolved() {
		o.resolved()
		return
	}
	o.c.Pause()
	if !o.t.park(o) {
		o.c.Abort()
		o.end("too many connections wait for " + o.t.name())
	}
}

// resolved goes on once the target is known.
func (o *outbound) resolved() {
	if o.over {
		return
	}
	n := &sniffer{s: o.s, c: o.c, side: o}
	n.declared(o.t.protocol())
	n.start()
}

// unresolved refuses a connection whose target is unknown (R11.4).
func (o *outbound) unresolved() {
	if !o.over {
		o.TimedOut(metrics.TimeoutResolve)
		o.c.Abort()
		o.end(o.t.whyNone())
	}
}

// end forgets the connection.
func (o *outbound) end(reason string) {
	if o.over {
		return
	}
	o.over = true
	o.t.users--
	o.t.lastUsed = o.s.now()
	if reason != "" {
		o.s.p.log.Debug("outbound connection ended", logTarget(o.t), logReason(reason))
	}
}

// Received and the rest implement wire.User while the connection is parked:
// reading is off.
func (o *outbound) Received([]byte) {}

// EOF implements wire.User.
func (o *outbound) EOF() {}

// Failed implements wire.User.
func (o *outbound) Failed(err error) { o.end(err.Error()) }

// Flushed implements wire.User.
func (o *outbound) Flushed(int) {}

// mesh implements side; outbound never looks for a ClientHello.
func (o *outbound) mesh(*sniffer, []byte) { panic("BUG: mesh TLS on the outbound side") }

// http implements side.
func (o *outbound) http(_ *sniffer, v detect.Verdict, early []byte) {
	p := o.s.serverParams(o, false)
	if v == detect.HTTP2 {
		o.h2 = exchange.ServeH2(p, o.s.h2Config(), o.c, early)
		return
	}
	exchange.ServeH1(p, o.c, early)
}

// unneeded implements side.
func (o *outbound) unneeded(*sniffer) {
	if o.tun != nil {
		o.tun.stop()
		o.tun = nil
	}
}

// decided implements side.
func (o *outbound) decided(_ *sniffer, v detect.Verdict, serverFirst bool) {
	switch {
	case v == detect.HTTP1, v == detect.HTTP2:
		o.t.httpAt = o.s.now()
	case serverFirst:
		o.t.httpAt = 0 // it is another port than it was
	}
	o.s.detected(metrics.Outbound, o.t.port(), v, serverFirst)
}

// port is the target's, for metrics.
func (t *target) port() uint16 {
	if t.key.Name != "" {
		return t.key.Port
	}
	return t.key.Addr.Port()
}

// knownHTTP implements side.
func (o *outbound) knownHTTP() mono.Time { return o.t.httpAt }

// gone implements side.
func (o *outbound) gone(_ *sniffer, reason string) {
	if o.tun != nil {
		o.tun.stop()
	}
	o.end(reason)
}

// Request implements exchange.Front: an application may not speak in the
// mesh's name (R5.5).
func (o *outbound) Request(h *head.Head) (exchange.Director, bool) {
	hop.Strip(h)
	o.t.lastUsed = o.s.now()
	return (*direct)(o.t), true
}

// Draining implements exchange.Front: outbound works to the end (R11.2).
func (o *outbound) Draining() bool { return false }

// Refused implements exchange.Front.
func (o *outbound) Refused(kind metrics.Refusal, reason string) {
	o.s.refused(kind)
	o.s.p.log.Debug("request refused", logTarget(o.t), logReason(reason))
}

// TimedOut implements exchange.Front.
func (o *outbound) TimedOut(kind metrics.Timeout) { o.s.store.Proxy.Timeouts[kind]++ }

// Closed implements exchange.Front.
func (o *outbound) Closed() { o.end("") }
