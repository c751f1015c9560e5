package proxy

import (
	"net/netip"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/chain"
	"github.com/tulle-mesh/tulle/proxy/detect"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/policy"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// The way of an inbound connection: accepted; mesh TLS recognised by its
// ClientHello and terminated; then HTTP between proxies, or bytes that are
// detected as in plaintext; every request and every tunnel passes the policy
// before the application is dialled at its original address (R1.3).

// inbound is one accepted connection from the network.
type inbound struct {
	s        *shard
	a        *app
	c        *wire.Conn
	link     chain.Link[*inbound]
	client   mesh.Identity // from the certificate; empty in plaintext
	clientID []byte        // the same, as a field's value
	peer     bool          // mutual TLS of the mesh
	tcp      bool          // inside tulle/tcp: the client waits for a result (R5.4)
	told     bool          // the result was sent
	h2       *exchange.H2Server
	tun      func()               // resets the tunnel
	upgraded []*exchange.Exchange // tunnels inside HTTP: Upgrade, CONNECT
	dial     *inDial
	until    mono.Time // waits no longer than that for the first policy
	leaving  bool      // it was accepted before the workload's end began
	over     bool

	stats *metrics.HTTP
	authz *metrics.Authz
	rule  string // of stats and authz
}

// fieldClientID is the name of the field that tells the application who asks.
var fieldClientID = []byte(hop.FieldClientID) //nolint:gochecknoglobals // a constant

// openPort accepts a connection for a mapped port (machines without a redirect).
func (s *shard) openPort(app netip.AddrPort) func(loop.Socket, wire.Info, netip.AddrPort) {
	return func(sock loop.Socket, info wire.Info, _ netip.AddrPort) { s.openInbound(sock, info, app) }
}

// openInbound accepts a connection whose application is at dst.
func (s *shard) openInbound(sock loop.Socket, info wire.Info, dst netip.AddrPort) {
	if !s.roomForApp(dst) {
		s.refused(metrics.RefusedTarget)
		sock.Close(true)
		return
	}
	s.relieve()
	i := &inbound{s: s, a: s.app(dst)}
	i.a.users++
	i.c = wire.Accept(s.wire, sock, info, i)
	s.inbounds.Add(&i.link, i)
	if s.inbound == nil {
		i.waitForPolicy()
		return
	}
	i.begin()
}

// begin finds out what the client speaks.
func (i *inbound) begin() {
	n := &sniffer{s: i.s, c: i.c, side: i, tls: !i.s.p.cfg.DisableTLS}
	n.start()
}

// waitForPolicy holds a connection that came before the first inbound policy (R11.1): that is on its
// way as a rule, and a refusal would cost the peer's retry budget.
func (i *inbound) waitForPolicy() {
	i.c.Pause()
	i.until = i.s.now().Add(i.s.p.cfg.Timeouts.Resolve)
	i.s.early = append(i.s.early, i)
	if len(i.s.early) == 1 {
		i.s.w.Arm(&i.s.earlyTimer, i.until, i.s, timerEarly)
	}
}

// admit lets connections go on that waited for a policy: all once it is there, else those that have
// waited long enough, to be told so.
func (s *shard) admit(now mono.Time) {
	for len(s.early) > 0 && (s.inbound != nil || s.early[0].until <= now) {
		i := s.early[0]
		s.early = s.early[1:]
		if !i.over {
			i.begin()
		}
	}
	if len(s.early) > 0 {
		s.w.Arm(&s.earlyTimer, s.early[0].until, s, timerEarly)
		return
	}
	s.early = nil
	s.w.Cancel(&s.earlyTimer)
}

// end forgets the connection.
func (i *inbound) end(reason string) {
	if i.over {
		return
	}
	i.over = true
	i.a.users--
	i.a.lastUsed = i.s.now()
	i.s.inbounds.Remove(&i.link)
	if reason != "" {
		i.s.p.log.Debug("inbound connection ended", logAddr(i.a.addr), logReason(reason))
	}
}

// Received and the rest implement wire.User while a handshake runs.
func (i *inbound) Received([]byte) {}

// EOF implements wire.User.
func (i *inbound) EOF() {}

// Failed implements wire.User.
func (i *inbound) Failed(err error) { i.end(err.Error()) }

// Flushed implements wire.User.
func (i *inbound) Flushed(int) {}

// mesh implements side: the client speaks mesh TLS.
func (i *inbound) mesh(_ *sniffer, early []byte) {
	p := i.s.p
	sess := mtls.Server(p.deps.Credentials, mtls.ServerParams{ALPN: []string{hop.ALPNHTTP, hop.ALPNTCP}, Pool: i.s.w.Pool()})
	i.c.SetUser(i)
	i.c.Secure(sess, early, p.cfg.Timeouts.Handshake, i.secured)
}

func (i *inbound) secured(err error) {
	if err != nil {
		i.s.handshakeFailed(err)
		i.end(err.Error())
		return
	}
	sess := i.c.Session()
	i.client, i.peer = sess.Peer(), true
	i.s.sawPeer(i.c)
	i.clientID = []byte(i.client)
	if sess.ALPN() == hop.ALPNHTTP {
		i.c.SetUserTimeout(3 * i.s.p.cfg.Timeouts.Ping)
		i.serveH2(i.s.serverParams(i, true), nil)
		return
	}
	// ALPN describes the hop, not the port (R2.3): what is inside is detected.
	i.tcp = true
	n := &sniffer{s: i.s, c: i.c, side: i, atOnce: true, opaque: i.a.protocol() == mesh.ProtocolOpaque}
	n.start()
}

// http implements side.
func (i *inbound) http(_ *sniffer, v detect.Verdict, early []byte) {
	if i.tcp && !i.told { // it did not wait for the result
		i.told = true
		i.c.Append(hop.AppendResult(nil, ""))
	}
	p := i.s.serverParams(i, false)
	if v == detect.HTTP2 {
		i.serveH2(p, early)
		return
	}
	exchange.ServeH1(p, i.c, early)
}

// mayAsk implements side: the application is near, and costs no handshake.
func (i *inbound) mayAsk(*sniffer) bool { return true }

// unneeded implements side.
func (i *inbound) unneeded(*sniffer) {
	if i.dial != nil {
		i.dial.over = true
		i.dial = nil
	}
}

// decided implements side.
func (i *inbound) decided(_ *sniffer, v detect.Verdict, serverFirst bool) {
	switch {
	case v == detect.HTTP1, v == detect.HTTP2:
		i.a.httpAt = i.s.now()
	case serverFirst:
		i.a.httpAt = 0 // it is another port than it was
	}
	if !i.peer {
		i.s.sawPlain(i.c, v, serverFirst)
	}
	i.s.detected(metrics.Inbound, i.a.addr.Port(), v, serverFirst)
}

// knownHTTP implements side.
func (i *inbound) knownHTTP() mono.Time { return i.a.httpAt }

// gone implements side.
func (i *inbound) gone(_ *sniffer, reason string) {
	if i.dial != nil {
		i.dial.over = true
	}
	i.end(reason)
}

// decide asks the policy (R9.2) and counts its answer.
func (i *inbound) decide() policy.Decision {
	d := policy.Decide(i.s.inbound, i.a.addr.Port(), i.client)
	now := i.s.now()
	if i.authz == nil || i.rule != d.Policy {
		i.rule = d.Policy
		l := i.labels()
		i.authz = i.s.store.Authz(l, now)
		i.stats = nil
	}
	i.authz.Decide(d.Allow, now)
	return d
}

func (i *inbound) labels() metrics.Labels {
	w := &i.s.p.cfg.Workload
	l := metrics.Labels{
		Direction: metrics.Inbound, TLS: i.peer, ClientID: i.client, Policy: i.rule,
		Namespace: w.Namespace, Deployment: w.Deployment, Zone: w.Zone,
	}
	if i.peer {
		l.ServerID = i.s.p.deps.Credentials.Get().Identity
	} else {
		l.NoTLS = mesh.NoTLSPlaintext
	}
	return l
}

func (i *inbound) metricsHTTP() *metrics.HTTP {
	if i.stats == nil {
		i.stats = i.s.store.HTTP(i.labels(), i.s.now())
	}
	return i.stats
}

// recheck closes the connection when the policy no longer allows it, or its
// certificate's root is no longer trusted (R9.4, proxy.md "TLS").
func (i *inbound) recheck() {
	if i.over {
		return
	}
	d := policy.Decide(i.s.inbound, i.a.addr.Port(), i.client)
	reason := ""
	if !d.Allow {
		reason = "denied by " + d.Policy + ": " + d.Reason
	} else if sess := i.c.Session(); sess != nil && i.peer {
		if err := sess.Recheck(i.s.p.deps.Credentials.Get().Bundle); err != nil {
			reason = err.Error()
		}
	}
	if reason == "" {
		return
	}
	if i.h2 != nil {
		i.h2.Drain() // requests in flight were allowed when they came
	}
	for len(i.upgraded) > 0 { // tunnels last
		i.upgraded[0].Break(h2.ErrCodeCancel) // takes itself out through Finished
	}
	if i.tun != nil {
		i.tun()
	}
}

// again is an inbound connection whose policy is to be asked once more, in the
// next phase of the turn.
type again inbound

// Run implements loop.Task.
func (a *again) Run() { (*inbound)(a).recheck() }

// serveH2 serves the connection as HTTP/2.
func (i *inbound) serveH2(p *exchange.ServerParams, early []byte) {
	cfg := i.s.h2Config()
	if i.peer {
		cfg.Flood = h2.ManyClients()
	}
	i.h2 = exchange.ServeH2(p, cfg, i.c, early)
	if i.leaving {
		i.h2.Drain()
	}
}

// drain ends the connection gracefully, once it is known what it speaks.
func (i *inbound) drain() {
	i.leaving = true
	if i.h2 != nil {
		i.h2.Drain()
	}
}

// Request implements exchange.Front: who the client is comes from its
// certificate alone (R5.5).
func (i *inbound) Request(h *head.Head) (exchange.Director, bool) {
	hop.Strip(h)
	if i.client != "" {
		h.Add(fieldClientID, i.clientID)
	}
	return (*receive)(i), i.peer
}

// Draining implements exchange.Front.
func (i *inbound) Draining() bool { return i.s.draining }

// Refused implements exchange.Front.
func (i *inbound) Refused(kind metrics.Refusal, reason string) {
	i.s.refused(kind)
	i.s.p.log.Debug("request refused", logAddr(i.a.addr), logReason(reason))
}

// TimedOut implements exchange.Front.
func (i *inbound) TimedOut(kind metrics.Timeout) { i.s.store.Proxy.Timeouts[kind]++ }

// Closed implements exchange.Front.
func (i *inbound) Closed() { i.end("") }
