package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	slotSize      = 16 << 10 // bytes read ahead per connection
	ringSize      = 64 << 10 // bytes written but not yet with the system
	acceptAhead   = 16       // connections accepted ahead per listener
	lingerTimeout = 5 * time.Second
	acceptPause   = 50 * time.Millisecond
)

// GoroutinesConfig of NewGoroutines.
type GoroutinesConfig struct{}

// Goroutines is the Poller for systems without epoll, and for any net.Conn. A
// connection has at most one goroutine that reads, into a slot that is filled
// again only after it was drained and while In is wanted, and one that writes
// out of a bounded buffer. So a reset is seen while In is wanted or the slot is
// empty, and not before.
type Goroutines struct {
	ctx    context.Context // ends in Close, with everything that blocks
	cancel context.CancelFunc
	wake   chan struct{} // holds at most one
	timer  *time.Timer   // of Wait alone
	work   sync.WaitGroup

	mu      sync.Mutex
	listed  []goSource // may be ready
	members []goSource // open sockets and listeners, for Close
	slots   [][]byte   // free
	woken   bool
	closed  bool
}

// goSource is a socket or listener of a Goroutines; its methods are called with
// mu held.
type goSource interface {
	state() *goState
	ready() (r Ready, again bool)
	shutdown()
}

// goState is common to sockets and listeners, guarded by Goroutines.mu.
type goState struct {
	token  Token
	index  int // in members, from 1; 0: not a member
	listed bool
	closed bool
}

// NewGoroutines returns a poller that works on every system.
func NewGoroutines(GoroutinesConfig) *Goroutines {
	p := &Goroutines{wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	//house:background it ends in Close, as everything of a poller does
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Now implements Poller.
func (p *Goroutines) Now() mono.Time { return mono.Now() }

// Wake implements Poller.
func (p *Goroutines) Wake() {
	p.mu.Lock()
	p.woken = true
	p.mu.Unlock()
	p.signal()
}

func (p *Goroutines) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Wait implements Poller.
func (p *Goroutines) Wait(dst []Ready, deadline mono.Time) []Ready {
	n := len(dst)
	for {
		var done bool
		dst, done = p.collect(dst)
		if done || len(dst) > n {
			return dst
		}
		if !p.sleep(deadline) {
			return dst
		}
	}
}

// sleep waits for a signal; false when the deadline has come instead.
func (p *Goroutines) sleep(deadline mono.Time) bool {
	if deadline == 0 {
		<-p.wake
		return true
	}
	d := deadline.Sub(mono.Now())
	if d <= 0 {
		return false
	}
	p.timer.Reset(d)
	select {
	case <-p.wake:
		return true
	case <-p.timer.C:
		return false
	}
}

// collect appends what is ready; done says that Wait returns in any case.
func (p *Goroutines) collect(dst []Ready) (_ []Ready, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := p.listed[:0]
	for _, s := range p.listed {
		st := s.state()
		r, again := s.ready()
		if r.In || r.Out || r.Err || r.Hup {
			dst = append(dst, r)
		}
		if st.listed = again; again {
			keep = append(keep, s)
		}
	}
	clear(p.listed[len(keep):])
	p.listed = keep
	done = p.woken || p.closed
	p.woken = false
	return dst, done
}

// list has s looked at by the next collect. With mu held.
func (p *Goroutines) list(s goSource) {
	if st := s.state(); !st.listed && !st.closed {
		st.listed = true
		p.listed = append(p.listed, s)
	}
}

// notify is list, from another goroutine, while Wait may be waiting.
func (p *Goroutines) notify(s goSource) {
	p.list(s)
	p.signal()
}

func (p *Goroutines) join(s goSource) {
	p.members = append(p.members, s)
	s.state().index = len(p.members)
}

func (p *Goroutines) leave(s goSource) {
	st := s.state()
	if st.index == 0 {
		return
	}
	last := p.members[len(p.members)-1]
	p.members[st.index-1] = last
	last.state().index = st.index
	p.members[len(p.members)-1] = nil
	p.members = p.members[:len(p.members)-1]
	st.index = 0
}

// start runs f on a goroutine that Close waits for. With mu held.
func (p *Goroutines) start(f func()) {
	if p.closed {
		return
	}
	p.work.Go(f) // ends when f's descriptor is closed, at the latest in Close
}

func (p *Goroutines) slot() []byte {
	if n := len(p.slots); n > 0 {
		b := p.slots[n-1]
		p.slots = p.slots[:n-1]
		return b
	}
	return make([]byte, slotSize)
}

// Close implements Poller.
func (p *Goroutines) Close() error {
	p.mu.Lock()
	p.closed = true
	members := p.members
	p.members, p.listed = nil, nil
	for _, s := range members {
		s.state().index = 0
		s.shutdown()
	}
	p.mu.Unlock()
	p.cancel()
	p.signal()
	p.work.Wait()
	return nil
}

// Wrap makes a Socket of any net.Conn; Attach registers it.
func (p *Goroutines) Wrap(c net.Conn) Socket { return &goSocket{p: p, conn: c} }

// Attach implements Poller.
func (p *Goroutines) Attach(s Socket, t Token) {
	g, ok := s.(*goSocket)
	if !ok {
		panic(fmt.Sprintf("BUG: goroutine poller given a %T", s))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case g.closed:
	case g.index > 0 && g.p != p:
		panic("BUG: socket attached to a second poller")
	case g.index > 0:
		g.token = t
	default:
		g.p, g.token, g.wantIn = p, t, true
		p.join(g)
		g.startRead()
	}
}

var keepAlive = net.KeepAliveConfig{ // R1.1; never changed
	Enable: true, Idle: 10 * time.Second, Interval: 10 * time.Second, Count: -1,
}

// Dial implements Poller.
func (p *Goroutines) Dial(addr netip.AddrPort, opts DialOptions, t Token) (Socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &goSocket{p: p, connecting: true, wantOut: true}
	s.token = t
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(p.ctx)
	p.join(s)
	p.start(func() { s.dial(ctx, addr, opts) })
	return s, nil
}

func (s *goSocket) dial(ctx context.Context, addr netip.AddrPort, opts DialOptions) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err == nil && opts.UserTimeout > 0 {
		// Not being able to bound it is no reason to refuse the connection.
		_ = connUserTimeout(conn, opts.UserTimeout)
	}
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	s.cancel()
	s.connecting = false
	switch {
	case err != nil:
		s.fail(err)
	case s.closed:
		conn.Close()
		return
	default:
		s.conn = conn
	}
	if s.wantIn {
		s.startRead()
	}
	p.notify(s)
}

// errnoOf takes the system's errno out of what package net wraps it in.
func errnoOf(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, io.ErrClosedPipe):
		return syscall.EPIPE
	}
	return err
}
