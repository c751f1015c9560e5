package loop

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// goSocket's fields are guarded by p.mu, but what its two goroutines borrow:
// the reader the slot while reading, the writer flying while writing.
type goSocket struct {
	goState
	p    *Goroutines
	conn net.Conn // nil while connecting, and when that failed

	wantIn, wantOut bool
	told            bool // Err or Hup has been reported since the last Want
	err             error
	eof             bool

	reading bool
	slot    []byte
	in      []byte // the unread part of slot

	writing bool
	out     []byte // to be written after flying
	flying  []byte
	shut    bool // CloseWrite was called

	connecting bool
	cancel     context.CancelFunc // of connecting
}

func (s *goSocket) state() *goState { return &s.goState }

func (s *goSocket) ready() (r Ready, again bool) {
	if s.closed || s.connecting || s.index == 0 {
		return Ready{}, false
	}
	over := s.err != nil || s.eof && s.shut
	in := s.wantIn && (len(s.in) > 0 || s.eof || s.err != nil)
	if over && !in && s.told {
		return Ready{}, false
	}
	r = Ready{
		Token: s.token,
		In:    in,
		Out:   s.wantOut && (s.room() > 0 || over),
		Err:   s.err != nil,
		Hup:   over && s.err == nil,
	}
	s.told = over
	return r, r.In || r.Out && !over
}

func (s *goSocket) room() int { return ringSize - len(s.out) - len(s.flying) }

func (s *goSocket) fail(err error) {
	if s.err == nil {
		s.err = errnoOf(err)
	}
}

// Want implements Socket.
func (s *goSocket) Want(in, out bool) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.wantIn, s.wantOut, s.told = in, out, false
	if in {
		s.startRead()
	}
	s.p.list(s)
}

// Read implements Socket.
func (s *goSocket) Read(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case len(b) == 0:
		return 0, nil
	case len(s.in) > 0:
		n := copy(b, s.in)
		s.in = s.in[n:]
		if len(s.in) == 0 && s.wantIn {
			s.startRead()
		}
		return n, nil
	case s.err != nil:
		return 0, s.err
	case s.eof:
		return 0, io.EOF
	}
	s.startRead()
	return 0, ErrAgain
}

func (s *goSocket) startRead() {
	if s.reading || len(s.in) > 0 || s.eof || s.err != nil || s.conn == nil || s.closed {
		return
	}
	s.reading = true
	if s.slot == nil {
		s.slot = s.p.slot()
	}
	s.p.start(s.readOnce)
}

func (s *goSocket) readOnce() {
	n, err := s.conn.Read(s.slot)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.reading = false
	if s.closed {
		s.releaseSlot()
		return
	}
	s.in = s.slot[:n]
	switch {
	case errors.Is(err, io.EOF):
		s.eof = true
	case err != nil:
		s.fail(err)
	}
	if n == 0 {
		s.releaseSlot()
	}
	s.p.notify(s)
}

func (s *goSocket) releaseSlot() {
	if s.slot != nil {
		s.p.slots = append(s.p.slots, s.slot)
		s.slot, s.in = nil, nil
	}
}

// Write implements Socket.
func (s *goSocket) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case s.err != nil:
		return 0, s.err
	case len(b) == 0:
		return 0, nil
	case s.connecting || s.room() <= 0:
		return 0, ErrAgain
	}
	n := min(len(b), s.room())
	s.out = append(s.out, b[:n]...)
	s.startWrite()
	return n, nil
}

func (s *goSocket) startWrite() {
	if !s.writing {
		s.writing = true
		s.p.start(s.writeAll)
	}
}

// writeAll writes until nothing is left, and then what the owner has asked for
// meanwhile: a FIN, or the end.
func (s *goSocket) writeAll() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for s.err == nil && len(s.out) > 0 {
		s.flying, s.out = s.out, s.flying[:0]
		s.p.mu.Unlock()
		_, err := s.conn.Write(s.flying)
		s.p.mu.Lock()
		s.flying = s.flying[:0]
		if err != nil {
			s.fail(err)
		}
		s.p.notify(s)
	}
	s.writing = false
	switch {
	case s.closed:
		s.conn.Close()
	case s.shut:
		s.sendFIN()
	}
}

func (s *goSocket) sendFIN() {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok && s.err == nil {
		// A connection that is gone already says so to the reader.
		_ = c.CloseWrite()
	}
	s.p.notify(s)
}

// CloseWrite implements Socket.
func (s *goSocket) CloseWrite() error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.closed || s.conn == nil {
		return net.ErrClosed
	}
	if !s.shut {
		s.shut = true
		if !s.writing {
			s.sendFIN()
		}
	}
	return nil
}

// Close implements Socket.
func (s *goSocket) Close(reset bool) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.close(reset || len(s.in) > 0)
}

func (s *goSocket) close(reset bool) {
	if s.closed {
		return
	}
	s.closed = true
	s.p.leave(s)
	if !s.reading {
		s.releaseSlot()
	}
	switch {
	case s.connecting:
		s.cancel()
	case s.conn == nil:
	case reset:
		if c, ok := s.conn.(interface{ SetLinger(int) error }); ok {
			_ = c.SetLinger(0) // else it closes with a FIN
		}
		s.conn.Close()
	case s.writing:
		_ = s.conn.SetWriteDeadline(time.Now().Add(lingerTimeout))
	default:
		s.conn.Close()
	}
}

func (s *goSocket) shutdown() { s.close(true) }

// ConnectError implements Connecting.
func (s *goSocket) ConnectError() error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.connecting {
		return ErrAgain
	}
	if s.conn == nil {
		return s.err
	}
	return nil
}

// Addrs implements Addresser.
func (s *goSocket) Addrs() (local, remote netip.AddrPort) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.conn == nil {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	return tcpAddr(s.conn.LocalAddr()), tcpAddr(s.conn.RemoteAddr())
}

// SetUserTimeout implements UserTimeouter.
func (s *goSocket) SetUserTimeout(d time.Duration) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return connUserTimeout(s.conn, d)
}
