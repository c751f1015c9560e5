package mtls

import (
	"net"
	"time"

	"github.com/tulle-mesh/tulle/proxy/slab"
)

// again is what a dry read answers after the handshake. crypto/tls keeps every
// error for ever but a net.Error that is temporary.
type again struct{}

func (again) Error() string   { return "tls: nothing to read now" }
func (again) Timeout() bool   { return false }
func (again) Temporary() bool { return true }

// memConn is the transport that crypto/tls sees: two stretches of memory. It
// never answers io.EOF, which crypto/tls would make of a FIN at a record's
// boundary what it makes of close_notify.
type memConn struct {
	kept   []byte // owned: what a former input left over; read first
	off    int    // read position in kept
	in     []byte // the caller's input, not copied
	out    []byte // records that wait to be taken
	pool   *slab.Pool
	pooled bool // kept came from pool
	fin    bool
	// yield hands control back to the worker while the handshake runs dry, and
	// reports false when the session is to be given up. nil after the handshake.
	yield func(struct{}) bool
}

// Read implements net.Conn.
func (m *memConn) Read(p []byte) (int, error) {
	for {
		if m.off < len(m.kept) {
			n := copy(p, m.kept[m.off:])
			if m.off += n; m.off == len(m.kept) {
				m.dropKept()
			}
			return n, nil
		}
		if len(m.in) > 0 {
			n := copy(p, m.in)
			if m.in = m.in[n:]; len(m.in) == 0 {
				m.in = nil
			}
			return n, nil
		}
		switch {
		case m.fin:
			return 0, ErrTruncated
		case m.yield == nil:
			return 0, ErrAgain
		case !m.yield(struct{}{}):
			return 0, ErrStopped
		}
	}
}

// Write implements net.Conn; it never fails and never waits.
func (m *memConn) Write(p []byte) (int, error) {
	m.out = m.pool.Append(m.out, p...)
	return len(p), nil
}

// keep moves what is left of in behind kept.
func (m *memConn) keep() {
	if len(m.in) == 0 {
		return
	}
	if !m.pooled {
		rest := m.kept[m.off:]
		m.kept, m.off, m.pooled = m.pool.Append(nil, rest...), 0, true
	}
	m.kept = m.pool.Append(m.kept, m.in...)
	m.in = nil
}

func (m *memConn) dropKept() {
	if m.pooled {
		m.pool.Put(m.kept)
	}
	m.kept, m.off, m.pooled = nil, 0, false
}

func (m *memConn) dropOut() {
	m.pool.Put(m.out)
	m.out = nil
}

type memAddr struct{}

func (memAddr) Network() string { return "memory" }
func (memAddr) String() string  { return "memory" }

// Close and the rest complete net.Conn; the socket and its deadlines are the worker's.
func (m *memConn) Close() error                     { return nil }
func (m *memConn) LocalAddr() net.Addr              { return memAddr{} }
func (m *memConn) RemoteAddr() net.Addr             { return memAddr{} }
func (m *memConn) SetDeadline(time.Time) error      { return nil }
func (m *memConn) SetReadDeadline(time.Time) error  { return nil }
func (m *memConn) SetWriteDeadline(time.Time) error { return nil }
