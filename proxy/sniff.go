package proxy

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/detect"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// side is what inbound and outbound do differently once it is known what a
// connection speaks.
type side interface { //nolint:interfacebloat // one per outcome of detection
	// mesh: the client's bytes begin mesh TLS (inbound alone).
	mesh(n *sniffer, early []byte)
	// http: serve the connection as HTTP; v is detect.HTTP1 or detect.HTTP2.
	http(n *sniffer, v detect.Verdict, early []byte)
	// connect makes the far side of a tunnel and calls n.connected.
	connect(n *sniffer)
	// mayAsk reports whether a silent client's server may be connected now; else
	// n.ask is called when its turn comes.
	mayAsk(n *sniffer) bool
	// unneeded takes connect back, whether or not it was answered.
	unneeded(n *sniffer)
	// tunnel joins the client with the far side.
	tunnel(n *sniffer, up *wire.Conn)
	// gone: the connection ended before it was known what it speaks.
	gone(n *sniffer, reason string)
	// decided notes an outcome, for metrics and for knownHTTP.
	decided(n *sniffer, v detect.Verdict, serverFirst bool)
	// knownHTTP is when the port was last seen to speak HTTP, 0 for never.
	knownHTTP() mono.Time
}

// silenceKnown is how long a client may be silent on a port that was seen to
// speak HTTP in the last knownFor, or where it may be a peer, whose ClientHello
// is late on a busy machine: the application would be connected to for nothing,
// and some servers count that against the client (rule R2.5); what such a server
// says first would be all that a late peer hears.
const (
	silenceKnown = time.Second
	knownFor     = 10 * time.Minute
)

// maxPeek bounds the client's bytes that are kept while it is undecided what
// they are.
const maxPeek = 64 << 10

// sniffer is the user of an accepted connection until it is known what the
// connection speaks (§2).
type sniffer struct {
	// immutable, but http
	s    *shard
	c    *wire.Conn
	side side
	// tls: look for a ClientHello. opaque: the port is declared to be bytes.
	// http: it is declared to be HTTP, whose servers do not speak first (R2.4), or
	// its server just spoke HTTP.
	// atOnce: the server side is connected at once (inside tulle/tcp, R2.5).
	tls, opaque, http, atOnce bool

	// owned by the worker
	buf     []byte // client's bytes
	eof     bool   // the client half-closed
	timer   loop.Timer
	dialing bool
	join    bool // join as soon as the server side is connected
	over    bool
	up      *wire.Conn
	upBuf   []byte // server's bytes
	upEOF   bool
}

const (
	timerSilence uint8 = iota
	timerUndecided
)

func (n *sniffer) start() {
	n.c.SetUser(n)
	n.c.Resume()
	switch {
	case n.opaque:
		n.toTunnel()
	case n.atOnce:
		n.dial()
	default:
		n.arm(timerSilence, n.silence())
	}
}

// silence is how long the client may say nothing.
func (n *sniffer) silence() time.Duration {
	switch {
	case n.http:
		return n.s.p.cfg.Timeouts.Idle // R3.5
	case n.speaksHTTP(), n.tls && n.s.mayBePeer(n.c):
		return silenceKnown
	}
	return n.s.p.cfg.Timeouts.Silence
}

// speaksHTTP reports whether the port is declared to speak HTTP or was seen to
// do so of late.
func (n *sniffer) speaksHTTP() bool {
	k := n.side.knownHTTP()
	return n.http || k != 0 && n.s.now().Sub(k) < knownFor
}

// declared takes what the control plane says of the port (R2.4).
func (n *sniffer) declared(p mesh.Protocol) {
	switch p {
	case mesh.ProtocolOpaque, mesh.ProtocolTLS:
		n.opaque = true
	case mesh.ProtocolHTTP, mesh.ProtocolHTTP1, mesh.ProtocolHTTP2, mesh.ProtocolGRPC:
		n.http = true
	case mesh.ProtocolDetect:
	}
}

func (n *sniffer) arm(kind uint8, d time.Duration) { n.s.w.Arm(&n.timer, n.s.now().Add(d), n, kind) }

// Received implements wire.User: the client's bytes.
func (n *sniffer) Received(p []byte) {
	if n.over {
		return
	}
	first := len(n.buf) == 0
	n.buf = n.s.w.Pool().Append(n.buf, p...)
	if n.join || n.opaque {
		n.full()
		return
	}
	switch v := detect.Client(n.buf, n.tls); v {
	case detect.More:
		if len(n.buf) >= maxPeek {
			n.fail("undecidable bytes")
		} else if first {
			n.arm(timerUndecided, n.s.p.cfg.Timeouts.Undecided)
		}
	case detect.Mesh:
		n.side.decided(n, v, false)
		n.finish(func(early []byte) { n.side.mesh(n, early) })
	case detect.HTTP1, detect.HTTP2:
		n.side.decided(n, v, false)
		n.finish(func(early []byte) { n.side.http(n, v, early) })
	default:
		n.side.decided(n, v, false)
		n.toTunnel()
	}
}

// full stops reading while bytes wait for the server side.
func (n *sniffer) full() {
	if len(n.buf) >= maxPeek {
		n.c.Pause()
	}
}

// finish hands the connection on, with the bytes that were read already.
func (n *sniffer) finish(next func(early []byte)) {
	n.over = true
	n.s.w.Cancel(&n.timer)
	n.disconnect()
	next(n.buf)
	n.free()
}

// disconnect lets go of a server side that was connected for nothing.
func (n *sniffer) disconnect() {
	if !n.dialing {
		return
	}
	n.dialing = false
	n.side.unneeded(n)
	if n.up != nil {
		n.up.Close()
		n.up = nil
	}
}

func (n *sniffer) free() {
	pool := n.s.w.Pool()
	pool.Put(n.buf)
	pool.Put(n.upBuf)
	n.buf, n.upBuf = nil, nil
}

// EOF implements wire.User: the client half-closed before it was known what it
// speaks; only bytes can go on from here. On a port that speaks HTTP an end without
// a byte is a pre-opened connection that nobody needed, and the server need not hear
// of it.
func (n *sniffer) EOF() {
	if n.over {
		return
	}
	if len(n.buf) == 0 && !n.opaque && (n.http || !n.atOnce && n.speaksHTTP()) {
		n.unused()
		return
	}
	n.eof = true
	n.toTunnel()
}

// unused ends a connection on which no request came.
func (n *sniffer) unused() {
	n.drop()
	n.c.Close()
	n.side.gone(n, "")
}

// Failed implements wire.User.
func (n *sniffer) Failed(err error) {
	n.drop()
	n.side.gone(n, err.Error())
}

// Flushed implements wire.User.
func (n *sniffer) Flushed(int) {}

// drop ends the sniffer and whatever it has of the server side.
func (n *sniffer) drop() {
	if n.over {
		return
	}
	n.over = true
	n.s.w.Cancel(&n.timer)
	if n.up != nil {
		n.up.Abort()
	}
	n.free()
}

// fail refuses the connection.
func (n *sniffer) fail(reason string) {
	if n.over {
		return
	}
	n.drop()
	n.c.Abort()
	n.side.gone(n, reason)
}

// toTunnel treats the connection as bytes.
func (n *sniffer) toTunnel() {
	n.join = true
	n.s.w.Cancel(&n.timer)
	if n.up != nil {
		n.joinNow()
		return
	}
	n.full()
	n.dial()
}

func (n *sniffer) dial() {
	if !n.dialing {
		n.dialing = true
		n.side.connect(n)
	}
}

// connected says that the server side stands; early is what it sent already.
func (n *sniffer) connected(up *wire.Conn, early []byte) {
	if n.over {
		up.Close()
		return
	}
	n.up = up
	up.SetUser((*probe)(n))
	if len(early) > 0 {
		n.upBuf = n.s.w.Pool().Append(n.upBuf, early...)
	}
	if n.join {
		n.joinNow()
		return
	}
	if len(early) > 0 {
		(*probe)(n).decide()
	}
}

// notConnected says that there is no server side. Where the port is known to
// speak HTTP and the client has only been silent, nothing is lost by it: the
// connection stays undecided (R2.5), and a request that comes gets its answer.
func (n *sniffer) notConnected(reason string) {
	if !n.join && !n.atOnce && !n.over && n.speaksHTTP() {
		n.dialing = false
		return
	}
	n.fail(reason)
}

func (n *sniffer) joinNow() {
	n.over = true
	n.s.w.Cancel(&n.timer)
	up := n.up
	n.up = nil
	n.side.tunnel(n, up)
	n.free()
}

// Expired implements loop.TimerHandler.
func (n *sniffer) Expired(_ *loop.Timer, kind uint8) {
	switch {
	case n.over:
	case kind == timerUndecided:
		n.s.store.Proxy.Timeouts[metrics.TimeoutDetect]++
		n.fail("undecided for too long")
	case n.http && len(n.buf) == 0:
		n.unused()
	default:
		n.ask()
	}
}

// ask connects the server side of a client that is silent: perhaps the server
// speaks first.
func (n *sniffer) ask() {
	if !n.over && !n.dialing && len(n.buf) == 0 && n.side.mayAsk(n) {
		n.dial()
	}
}

// probe is the sniffer as the user of the server side (R2.5).
type probe sniffer

// Received implements wire.User.
func (p *probe) Received(b []byte) {
	p.upBuf = p.s.w.Pool().Append(p.upBuf, b...)
	p.decide()
}

func (p *probe) decide() {
	n := (*sniffer)(p)
	switch v := detect.Server(n.upBuf); v {
	case detect.More:
	case detect.HTTP1, detect.HTTP2:
		// The port is HTTP: this connection was for nothing, the client's bytes will tell.
		// Should they be something else, it is connected again; should none come, the
		// client is an idle one.
		n.side.decided(n, v, true)
		n.disconnect()
		n.http = true
		n.arm(timerSilence, n.s.p.cfg.Timeouts.Idle)
		n.s.w.Pool().Put(n.upBuf)
		n.upBuf = nil
	default:
		n.side.decided(n, v, true)
		n.join = true
		n.joinNow()
	}
}

// EOF implements wire.User: the server ended before it said anything.
func (p *probe) EOF() {
	p.upEOF = true
	p.join = true
	(*sniffer)(p).joinNow()
}

// Failed implements wire.User.
func (p *probe) Failed(err error) {
	p.up = nil
	(*sniffer)(p).fail(err.Error())
}

// Flushed implements wire.User.
func (p *probe) Flushed(int) {}
