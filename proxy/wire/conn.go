package wire

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/chain"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// Conn is one connection. All methods belong to the worker's goroutine.
type Conn struct {
	// immutable
	env   *Env
	token loop.Token
	link  chain.Link[*Conn] // in Env.conns
	sock  loop.Socket
	Info  Info

	// owned by the worker
	user   User
	filler Filler
	sess   *mtls.Session
	ready  func(error) // waits for connect or handshake; nil otherwise
	timer  loop.Timer

	plain buffer // plaintext waiting for encryption (TLS alone)
	out   buffer // bytes waiting for the socket

	state      state
	dirty      bool
	paused     bool // the user wants no bytes
	eof        bool // the peer's end was seen
	finWanted  bool // half-close after the output has left
	notified   bool // close_notify was sent
	finSent    bool
	wantOut    bool // the socket refused bytes
	stepping   bool // a handshake step runs elsewhere
	pendingRun bool // a task to read on is queued
	lingered   int  // bytes thrown away while lingering

	wrote     uint64    // bytes that the socket took
	wroteThen uint64    // the same, when output was last looked after
	since     mono.Time // what leaves next waits at least as long; 0: nothing does
	mark      uint64    // of wrote: when since moves
	broken    error     // of a write: told once what came before it was read
}

type state uint8

const (
	stateOpen state = iota
	stateConnecting
	stateHandshake
	stateLinger // our end is closed: throw away what still comes
	stateClosed
)

const (
	timerConnect uint8 = iota
	timerHandshake
	timerLinger
)

// Accept wraps a socket that a listener returned.
func Accept(env *Env, sock loop.Socket, info Info, user User) *Conn {
	c := &Conn{env: env, sock: sock, Info: info}
	c.SetUser(user)
	c.token = env.W.Register(c)
	env.conns.Add(&c.link, c)
	env.open++
	env.W.Poller().Attach(sock, c.token)
	sock.Want(true, false)
	return c
}

// SetUser hands the connection to another user.
func (c *Conn) SetUser(u User) {
	c.user = u
	c.filler, _ = u.(Filler)
}

// Session is the TLS session, nil on a plaintext connection.
func (c *Conn) Session() *mtls.Session { return c.sess }

// Env is the worker's environment.
func (c *Conn) Env() *Env { return c.env }

// SetUserTimeout bounds how long written bytes may stay unacknowledged, where
// the system can (R1.1: HTTP/2 hops alone).
func (c *Conn) SetUserTimeout(d time.Duration) {
	if u, ok := c.sock.(loop.UserTimeouter); ok {
		_ = u.SetUserTimeout(d) // keep-alive and PING find a dead peer too, later
	}
}

// Closed reports whether the connection is closed or closing.
func (c *Conn) Closed() bool { return c.state >= stateLinger }

// Wrote is the number of bytes that the socket has taken.
func (c *Conn) Wrote() uint64 { return c.wrote }

// Buffered is the number of bytes that have not left yet.
func (c *Conn) Buffered() int { return c.plain.n + c.out.n }

// High is how many of its own bytes a source may have queued before it stops,
// Low under how many it goes on (design-proxy.md, R4.2).
func (c *Conn) High() int { return c.env.high() }

// Low is the mark under which a source goes on.
func (c *Conn) Low() int { return c.env.high() / 4 }

// Ready implements loop.Handler.
func (c *Conn) Ready(r loop.Ready) {
	switch {
	case c.state == stateClosed:
		return
	case c.state == stateConnecting:
		c.connected()
		return
	case r.Err && !c.readable():
		c.readError()
		return
	}
	if r.Out && c.wantOut {
		c.Dirty()
	}
	if r.In || r.Hup || r.Err {
		c.read() // an error comes after the bytes that arrived before it
	}
}

// Probe reads now: it finds an end or an error that the poller has not told yet.
// Its caller may be in the middle of another connection's bytes: it has a buffer
// of its own.
func (c *Conn) Probe() { c.readInto(c.env.probe, ReadPerTurn) }

// Pause stops reading until Resume.
func (c *Conn) Pause() {
	if !c.paused {
		c.paused = true
		c.want()
	}
}

// Resume reads on.
func (c *Conn) Resume() {
	if !c.paused || c.Closed() {
		return
	}
	c.paused = false
	c.want()
	if c.sess != nil && c.state == stateOpen {
		c.later()
	}
}

// Run implements loop.Task: it takes up what a pause left in the TLS session.
func (c *Conn) Run() {
	c.pendingRun = false
	if c.state == stateOpen && c.sess != nil {
		c.decrypt()
	}
}

func (c *Conn) later() {
	if !c.pendingRun {
		c.pendingRun = true
		c.env.W.Soon(c)
	}
}

func (c *Conn) want() {
	if c.state == stateClosed {
		return
	}
	in := !c.eof && !c.stepping && !c.paused
	if c.state == stateLinger {
		in = c.readable()
	}
	c.sock.Want(in, c.wantOut || c.state == stateConnecting)
}

// Dirty has the connection flushed at the end of this turn.
func (c *Conn) Dirty() {
	if !c.dirty && c.state != stateClosed {
		c.dirty = true
		c.env.W.FlushLater(c)
	}
}

// Close ends the connection gracefully once its output has left: close_notify,
// FIN, and a short time in which late bytes of the peer are thrown away. The
// user hears nothing more.
func (c *Conn) Close() {
	if c.Closed() {
		return
	}
	done := c.eof && c.Buffered() == 0 && c.filler == nil && (c.sess == nil || c.notified)
	if c.state != stateOpen || done {
		c.shut(false)
		return
	}
	c.state = stateLinger
	c.finWanted = true
	c.watchOutput()
	c.user = nobody{}
	if c.filler != nil {
		c.fillNow()
		c.filler = nil
	}
	c.want()
	c.Dirty()
}

// Abort resets the connection at once (SO_LINGER 0, no close_notify: R3.6, R5.4).
func (c *Conn) Abort() {
	if c.state != stateClosed {
		c.shut(true)
	}
}

// shut closes the socket and frees what the connection holds.
func (c *Conn) shut(reset bool) {
	if c.state == stateHandshake {
		c.env.shakes--
	}
	c.state = stateClosed
	c.env.W.Cancel(&c.timer)
	c.env.W.Unregister(c.token)
	c.sock.Close(reset)
	c.env.open--
	c.env.conns.Remove(&c.link)
	c.user, c.filler, c.ready = nobody{}, nil, nil
	p := c.env.Pool()
	c.plain.clear(p)
	c.out.clear(p)
	if c.sess != nil {
		c.sess.Close() // a step that runs elsewhere cleans up after itself
	}
}

// fail closes the connection and tells the user, or whoever waits for it to
// become ready.
func (c *Conn) fail(err error) {
	if c.state == stateClosed {
		return
	}
	u, ready := c.user, c.ready
	c.shut(true)
	if ready != nil {
		ready(err)
		return
	}
	u.Failed(err)
}

func (c *Conn) arm(kind uint8, d time.Duration) {
	c.env.W.Arm(&c.timer, c.env.Now().Add(d), c, kind)
}

// Expired implements loop.TimerHandler.
func (c *Conn) Expired(_ *loop.Timer, kind uint8) {
	switch kind {
	case timerConnect:
		c.fail(ErrConnectTimeout)
	case timerHandshake:
		c.fail(ErrHandshakeTimeout)
	case timerLinger:
		switch {
		case c.state != stateLinger:
		case c.finSent:
			c.shut(false)
		case c.wrote > c.wroteThen:
			c.watchOutput()
		default:
			c.shut(true)
		}
	}
}

// watchOutput looks after stuckTime whether output has left meanwhile.
func (c *Conn) watchOutput() {
	c.wroteThen = c.wrote
	c.arm(timerLinger, stuckTime)
}

// nobody is the user of a connection that is going away.
type nobody struct{}

func (nobody) Received([]byte) {}
func (nobody) EOF()            {}
func (nobody) Failed(error)    {}
func (nobody) Flushed(int)     {}
