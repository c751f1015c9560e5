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

// memConn is the transport that crypto/tls sees: two stretches of memory.
//
// It never answers io.EOF, which crypto/tls would make of a FIN at a record's
// boundary what it makes of close_notify. And it never hands out bytes behind
// the end of a record, so that crypto/tls buffers nothing between records: after
// the handshake it is asked only when a whole record is there (ready), and parts of
// one wait in the pool's memory.
type memConn struct {
	kept   []byte // owned: what a former input left over; read first
	off    int    // read position in kept
	in     []byte // the caller's input, not copied
	left   int    // bytes of the record begun that are still to be read
	out    []byte // records that wait to be taken
	pool   *slab.Pool
	pooled bool // kept came from pool
	fin    bool
	// yield hands control back to the worker while the handshake runs dry, and
	// reports false when the session is to be given up. nil after the handshake.
	yield func(struct{}) bool
}

const recordHeader = 5

func (m *memConn) available() int { return len(m.kept) - m.off + len(m.in) }

// peek returns the byte at position i of what is available.
func (m *memConn) peek(i int) byte {
	if k := len(m.kept) - m.off; i >= k {
		return m.in[i-k]
	}
	return m.kept[m.off+i]
}

// record is the length of the record that comes next, 0 when its header is not
// there yet.
func (m *memConn) record() int {
	if m.available() < recordHeader {
		return 0
	}
	return recordHeader + int(m.peek(3))<<8 + int(m.peek(4))
}

// ready reports whether crypto/tls would get on: a whole record is there, or the
// header of one that it will refuse.
func (m *memConn) ready() bool {
	if m.left > 0 { // it has the first part of a record already
		return m.available() >= m.left
	}
	n := m.record()
	return n > 0 && (m.available() >= n || n > maxRecord+256+recordHeader) // RFC 8446, 5.2
}

// Read implements net.Conn.
func (m *memConn) Read(p []byte) (int, error) {
	for {
		if m.left == 0 {
			m.left = m.record()
		}
		if n := min(len(p), m.left, m.available()); n > 0 {
			m.left -= n
			return m.consume(p[:n]), nil
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

// consume fills p from what is available.
func (m *memConn) consume(p []byte) int {
	n := copy(p, m.kept[m.off:])
	if m.off += n; m.off == len(m.kept) {
		m.dropKept()
	}
	k := copy(p[n:], m.in)
	if m.in = m.in[k:]; len(m.in) == 0 {
		m.in = nil
	}
	return n + k
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
