package simnet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

const firstEphemeral = 32768

// Host is a machine, or a pod: an address, a loopback of its own, listeners,
// and perhaps a redirect into a proxy.
type Host struct {
	w         *World
	ip        netip.Addr
	listeners []*Listener
	port      uint16 // the last ephemeral one
	extra     time.Duration
	off       bool
	in, out   redirect
}

// redirect is what tulle-init writes with nftables.
type redirect struct {
	port   uint16 // 0: none
	exempt []uint16
}

// Host returns the host at ip, which it adds when there is none.
func (w *World) Host(ip netip.Addr) *Host {
	if h := w.find(ip); h != nil {
		return h
	}
	h := &Host{w: w, ip: ip, port: firstEphemeral}
	w.hosts = append(w.hosts, h)
	return h
}

func (w *World) find(ip netip.Addr) *Host {
	for _, h := range w.hosts {
		if h.ip == ip {
			return h
		}
	}
	return nil
}

// IP is the host's address.
func (h *Host) IP() netip.Addr { return h.ip }

// World is where the host is.
func (h *Host) World() *World { return h.w }

// RedirectIn sends connections that arrive from other hosts to the listener at
// port, but for the exempt ports; 0 ends it.
func (h *Host) RedirectIn(port uint16, exempt ...uint16) { h.in = redirect{port, exempt} }

// RedirectOut sends connections that endpoints of this host open, but to its
// loopback, to the listener at port; those of its pollers (the proxy's own uid)
// go where they want. 0 ends it.
func (h *Host) RedirectOut(port uint16, exempt ...uint16) { h.out = redirect{port, exempt} }

func (r *redirect) applies(port uint16) bool {
	return r.port != 0 && !slices.Contains(r.exempt, port)
}

func (h *Host) ephemeral() uint16 {
	h.port++
	if h.port < firstEphemeral {
		h.port = firstEphemeral
	}
	return h.port
}

func (h *Host) local(a netip.Addr) bool { return a == h.ip || a.IsLoopback() || a.IsUnspecified() }

// bind adds l to the host.
func (h *Host) bind(l *Listener, addr netip.AddrPort) error {
	if !h.local(addr.Addr()) {
		return fmt.Errorf("listen %s on host %s: %w", addr, h.ip, syscall.EADDRNOTAVAIL)
	}
	if addr.Port() == 0 {
		addr = netip.AddrPortFrom(addr.Addr(), h.ephemeral())
	}
	for _, o := range h.listeners {
		same := o.addr.Addr() == addr.Addr() || o.addr.Addr().IsUnspecified() || addr.Addr().IsUnspecified()
		if o.addr.Port() == addr.Port() && same && !(o.opts.ReusePort && l.opts.ReusePort) {
			return fmt.Errorf("listen %s on host %s: %w", addr, h.ip, syscall.EADDRINUSE)
		}
	}
	l.w, l.host, l.addr = h.w, h, addr
	h.listeners = append(h.listeners, l)
	return nil
}

// listening picks a listener for addr; one of several at random (SO_REUSEPORT).
func (h *Host) listening(addr netip.AddrPort) *Listener {
	var found []*Listener
	for _, l := range h.listeners {
		if l.addr.Port() == addr.Port() && (l.addr.Addr() == addr.Addr() || l.addr.Addr().IsUnspecified()) {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 0:
		return nil
	case 1:
		return found[0]
	}
	return found[h.w.rng.IntN(len(found))]
}

// waiting is a connection in a listener's backlog.
type waiting struct {
	e *end
	a loop.Accepted
}

// Listener is a listening socket, of a poller or of endpoints.
type Listener struct {
	w    *World
	host *Host
	addr netip.AddrPort
	opts loop.ListenOptions

	backlog []waiting
	half    int // handshakes under way
	closed  bool

	// Of a poller.
	poller  *Poller
	member  membership
	paused  bool
	resting bool // after a failed accept

	// Of endpoints.
	accept func(e *Endpoint, a loop.Accepted) Callbacks
}

func (l *Listener) full() bool {
	limit := l.opts.Backlog
	if limit == 0 {
		limit = 4096
	}
	return len(l.backlog)+l.half >= limit
}

// offer puts an arrived connection into the backlog.
func (l *Listener) offer(e *end, a loop.Accepted) {
	if l.accept != nil {
		l.host.adopt(e, a, l.accept)
		return
	}
	l.backlog = append(l.backlog, waiting{e, a})
	l.poller.list(l)
}

func (l *Listener) ready() (loop.Ready, bool) {
	in := !l.closed && !l.paused && !l.resting && len(l.backlog) > 0
	return loop.Ready{Token: l.member.token, In: in}, in
}

func (l *Listener) membership() *membership { return &l.member }

// Accept implements loop.Listener.
func (l *Listener) Accept() (loop.Socket, loop.Accepted, error) {
	switch {
	case l.closed:
		return nil, loop.Accepted{}, net.ErrClosed
	case len(l.backlog) == 0:
		return nil, loop.Accepted{}, loop.ErrAgain
	}
	if p := l.poller; p.failAccepts > 0 {
		p.failAccepts--
		l.w.stats.FailedAccepts++
		l.resting = true
		l.w.push(event{at: l.w.now.Add(50 * time.Millisecond), kind: kindRest, listener: l})
		return nil, loop.Accepted{}, fmt.Errorf("accept on %s: %w", l.addr, p.failWith)
	}
	c := l.backlog[0]
	l.backlog = append(l.backlog[:0], l.backlog[1:]...)
	if !l.opts.OriginalDst {
		c.a.OriginalDst = netip.AddrPort{}
	}
	return &Socket{c.e}, c.a, nil
}

func (l *Listener) rested() {
	l.resting = false
	if !l.closed {
		l.poller.list(l)
	}
}

// Addr implements loop.Listener.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Pause implements loop.Listener.
func (l *Listener) Pause() { l.paused = true }

// Resume implements loop.Listener.
func (l *Listener) Resume() {
	l.paused = false
	if l.poller != nil && !l.closed {
		l.poller.list(l)
	}
}

// Close implements loop.Listener. Connections in the backlog are reset.
func (l *Listener) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	l.host.listeners = slices.DeleteFunc(l.host.listeners, func(o *Listener) bool { return o == l })
	if l.poller != nil {
		l.poller.leave(l)
	}
	for _, c := range l.backlog {
		c.e.close(true)
	}
	l.backlog = nil
	return nil
}
