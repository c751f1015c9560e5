package simnet

import (
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// appDelay is the most that an endpoint's process takes to be scheduled.
const appDelay = 20 * time.Microsecond

// Callbacks of an Endpoint; nil ones are not called. They run inside
// World.Run and may call everything.
type Callbacks struct {
	// Connected: the connect has succeeded (not called for accepted ones).
	Connected func(e *Endpoint)
	// Data has arrived; p is valid during the call.
	Data func(e *Endpoint, p []byte)
	// EOF: the peer has closed its direction. Called once, after all data.
	EOF func(e *Endpoint)
	// Drained: all that was written has left for the network.
	Drained func(e *Endpoint)
	// Failed: connecting failed or the connection was reset. The last call.
	Failed func(e *Endpoint, err error)
}

// Endpoint is one end of a connection of a client, server or application that
// is no worker. It writes without bound and reads by itself while not paused.
type Endpoint struct {
	// User is the owner's.
	User any

	e         *end
	cb        Callbacks
	queue     []byte // written, not yet taken by the connection
	due       bool   // an app event is scheduled
	connected bool
	eof       bool
	failed    bool
	paused    bool
	drained   bool
	shut      bool // CloseWrite follows the queue
	closing   bool // Close follows the queue
	limit     int
}

// Dial connects from h, through its outgoing redirect if it has one.
func (h *Host) Dial(to netip.AddrPort, cb Callbacks) *Endpoint { return h.dial(to, cb, true) }

// DialDirect is Dial past the redirect.
func (h *Host) DialDirect(to netip.AddrPort, cb Callbacks) *Endpoint { return h.dial(to, cb, false) }

func (h *Host) dial(to netip.AddrPort, cb Callbacks, redirectable bool) *Endpoint {
	e := h.w.newEnd(h)
	a := &Endpoint{e: e, cb: cb, drained: true}
	e.app = a
	if err := h.connect(e, to, redirectable); err != nil {
		e.err = err
		a.wake()
	}
	return a
}

// Listen accepts connections at addr (of h, its loopback, or unspecified); f
// says what to call for each.
func (h *Host) Listen(addr netip.AddrPort, f func(e *Endpoint, a loop.Accepted) Callbacks) (*Listener, error) {
	l := &Listener{accept: f}
	if err := h.bind(l, addr); err != nil {
		return nil, err
	}
	return l, nil
}

func (h *Host) adopt(e *end, a loop.Accepted, f func(e *Endpoint, a loop.Accepted) Callbacks) {
	app := &Endpoint{e: e, connected: true, drained: true}
	e.app = app
	app.cb = f(app, a)
	app.wake()
}

func (a *Endpoint) wake() {
	if !a.due && !a.e.closed {
		a.due = true
		a.e.w.push(event{at: a.e.w.now.Add(1 + a.e.w.upTo(appDelay)), kind: kindApp, end: a.e})
	}
}

// run handles all that is new.
func (a *Endpoint) run() {
	a.due = false
	if a.e.closed || a.failed || a.e.connecting {
		return
	}
	if !a.connected {
		a.connected = a.e.err == nil
		if a.connected && a.cb.Connected != nil {
			a.cb.Connected(a)
		}
	}
	a.push()
	a.pull()
	if a.e.err != nil && (a.paused || a.e.in.arrived == 0) && !a.e.closed {
		a.failed = true
		a.e.close(false)
		if a.cb.Failed != nil {
			a.cb.Failed(a, a.e.err)
		}
	}
}

// push moves the queue into the connection.
func (a *Endpoint) push() {
	for len(a.queue) > 0 && a.e.err == nil && !a.e.connecting && !a.e.closed {
		n, err := a.e.write(a.queue)
		if err != nil {
			return
		}
		a.queue = a.queue[n:]
	}
	if len(a.queue) > 0 || a.e.closed || a.e.connecting {
		return
	}
	a.queue = nil
	switch {
	case a.closing:
		a.e.close(false)
	case a.shut && a.e.err == nil && !a.e.out.fin:
		_ = a.e.closeWrite() // connected and not reset: it succeeds
	}
	if !a.drained {
		a.drained = true
		if a.cb.Drained != nil && !a.e.closed {
			a.cb.Drained(a)
		}
	}
}

// pull hands over what has arrived.
func (a *Endpoint) pull() {
	b := a.e.w.buf[:]
	for !a.paused && !a.e.closed && a.e.in.arrived > 0 {
		n, err := a.e.read(a.piece(b))
		if err != nil {
			return
		}
		if a.cb.Data != nil {
			a.cb.Data(a, b[:n])
		}
	}
	if !a.paused && !a.e.closed && !a.eof && a.e.in.eof && a.e.in.arrived == 0 && a.e.err == nil {
		a.eof = true
		if a.cb.EOF != nil {
			a.cb.EOF(a)
		}
	}
}

func (a *Endpoint) piece(b []byte) []byte {
	if a.limit > 0 && a.limit < len(b) {
		return b[:a.limit]
	}
	return b
}

// Write queues p, which it copies.
func (a *Endpoint) Write(p []byte) {
	if len(p) == 0 || a.e.closed || a.shut || a.closing {
		return
	}
	a.drained = false
	a.queue = append(a.queue, p...)
	a.wake()
}

// CloseWrite sends a FIN after what was written.
func (a *Endpoint) CloseWrite() {
	a.shut = true
	a.wake()
}

// Close ends the connection: with a RST now, or after what was written with a
// FIN (a RST when something was left unread). No callback follows.
func (a *Endpoint) Close(reset bool) {
	a.cb = Callbacks{}
	if reset || len(a.queue) == 0 || a.e.connecting || a.e.err != nil {
		a.queue = nil
		a.e.close(reset)
		return
	}
	a.closing = true
	a.wake()
}

// Pause stops reading: the peer's window closes. Resume reads on.
func (a *Endpoint) Pause() { a.paused = true }

// Resume reads on.
func (a *Endpoint) Resume() {
	a.paused = false
	a.wake()
}

// ReadAtMost limits the bytes of one Data call; 0 means 16 KiB.
func (a *Endpoint) ReadAtMost(n int) { a.limit = n }

// Buffered is how many written bytes have not left for the network.
func (a *Endpoint) Buffered() int { return len(a.queue) }

// Taken says that the peer has read all that was written.
func (a *Endpoint) Taken() bool { return len(a.queue) == 0 && len(a.e.out.buf) == a.e.out.head }

// Closed says that Close was called and done.
func (a *Endpoint) Closed() bool { return a.e.closed }

// Local and Remote are the addresses that the endpoint sees.
func (a *Endpoint) Local() netip.AddrPort { return a.e.local }

// Remote is whom it is connected to.
func (a *Endpoint) Remote() netip.AddrPort { return a.e.goalOrRemote() }

// ID numbers the endpoint in the world's trace.
func (a *Endpoint) ID() uint64 { return a.e.id }

// goalOrRemote: a redirected dialler still sees the address that it dialled.
func (e *end) goalOrRemote() netip.AddrPort {
	if e.goal.IsValid() {
		return e.goal
	}
	return e.remote
}

// World is where the endpoint is.
func (a *Endpoint) World() *World { return a.e.w }
