package loop

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// goListener's fields are guarded by p.mu.
type goListener struct {
	goState
	p    *Goroutines
	ln   net.Listener
	addr netip.AddrPort
	opts ListenOptions

	paused    bool
	accepting bool
	conns     []net.Conn // accepted ahead
	err       error      // of the last accept, told once
}

// Listen implements Poller.
func (p *Goroutines) Listen(addr netip.AddrPort, opts ListenOptions, t Token) (Listener, error) {
	network := "tcp"
	if addr.Addr().Is4() {
		network = "tcp4" // else 0.0.0.0 would mean IPv6 too
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: func(_, _ string, c syscall.RawConn) error {
		if !opts.ReusePort {
			return nil
		}
		return control(c, setReusePort)
	}}
	ln, err := lc.Listen(p.ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &goListener{p: p, ln: ln, addr: tcpAddr(ln.Addr()), opts: opts}
	l.token = t
	p.join(l)
	l.startAccept()
	return l, nil
}

func (l *goListener) state() *goState { return &l.goState }

func (l *goListener) ready() (r Ready, again bool) {
	in := !l.paused && !l.closed && (len(l.conns) > 0 || l.err != nil)
	return Ready{Token: l.token, In: in}, in
}

func (l *goListener) startAccept() {
	if !l.accepting && !l.paused && !l.closed && len(l.conns) < acceptAhead {
		l.accepting = true
		l.p.start(l.acceptAll)
	}
}

// acceptAll accepts until enough connections wait.
func (l *goListener) acceptAll() {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for !l.paused && !l.closed && len(l.conns) < acceptAhead {
		p.mu.Unlock()
		conn, err := l.ln.Accept()
		if err != nil && p.ctx.Err() == nil {
			pause(p.ctx.Done())
		}
		p.mu.Lock()
		switch {
		case err == nil && l.closed:
			conn.Close()
		case err == nil:
			l.conns = append(l.conns, conn)
		default:
			l.err = errnoOf(err)
		}
		p.notify(l)
	}
	l.accepting = false
}

// pause rests after a failed accept, so that it does not spin.
func pause(done <-chan struct{}) {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	}
}

// Accept implements Listener.
func (l *goListener) Accept() (Socket, Accepted, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.closed {
		return nil, Accepted{}, net.ErrClosed
	}
	if err := l.err; err != nil {
		l.err = nil
		return nil, Accepted{}, fmt.Errorf("accept on %s: %w", l.addr, err)
	}
	if len(l.conns) == 0 {
		return nil, Accepted{}, ErrAgain
	}
	conn := l.conns[0]
	l.conns = append(l.conns[:0], l.conns[1:]...)
	l.startAccept()
	a := Accepted{Remote: tcpAddr(conn.RemoteAddr()), Local: tcpAddr(conn.LocalAddr())}
	if l.opts.OriginalDst {
		a.OriginalDst = connOriginalDst(conn, a.Local)
	}
	if l.opts.UserTimeout > 0 {
		_ = connUserTimeout(conn, l.opts.UserTimeout) // a bound that cannot be had is gone without
	}
	return l.p.Wrap(conn), a, nil
}

// Addr implements Listener.
func (l *goListener) Addr() netip.AddrPort { return l.addr }

// Pause implements Listener.
func (l *goListener) Pause() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.paused = true
}

// Resume implements Listener.
func (l *goListener) Resume() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.paused = false
	l.startAccept()
	l.p.list(l)
}

// Close implements Listener.
func (l *goListener) Close() error {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.shutdown()
	return nil
}

func (l *goListener) shutdown() {
	if l.closed {
		return
	}
	l.closed = true
	l.p.leave(l)
	l.ln.Close()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func tcpAddr(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// control runs f on the descriptor behind c.
func control(c syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// connControl runs f on the descriptor of c, if it has one.
func connControl(c net.Conn, f func(fd int) error) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no descriptor", c)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return control(rc, f)
}

func connUserTimeout(c net.Conn, d time.Duration) error {
	return connControl(c, func(fd int) error { return setUserTimeout(fd, d) })
}

func connOriginalDst(c net.Conn, local netip.AddrPort) (dst netip.AddrPort) {
	// Where there is no descriptor there was no redirect.
	_ = connControl(c, func(fd int) error {
		dst = originalDst(fd, local)
		return nil
	})
	return dst
}
