package mtls

import (
	"errors"
	"fmt"
	"io"
)

// maxRecord is the plaintext of one record (RFC 8446, 5.1), recordOverhead what
// TLS 1.3 adds to it: header, content type and tag.
const (
	maxRecord      = 16 << 10
	recordOverhead = recordHeader + 1 + 16
)

// Feed gives s ciphertext. It is not copied: in must stay valid until Read has
// answered ErrAgain or an error, or Stash was called.
func (s *Session) Feed(in []byte) {
	s.mem.keep()
	s.mem.in = in
}

// FeedEOF tells s that the peer's TCP has ended. What was fed before can still
// be read; then Read answers ErrTruncated, unless close_notify came first.
func (s *Session) FeedEOF() { s.mem.fin = true }

// Stash copies ciphertext that was fed and not read yet; it returns how many
// bytes it now keeps.
func (s *Session) Stash() int {
	s.mem.keep()
	return len(s.mem.kept) - s.mem.off
}

// Read fills p from as many records as there are; n < len(p) means that s is dry
// and has swallowed what was fed. It answers ErrAgain when nothing can be read now, io.EOF after close_notify (a half-close) and for all
// else an error that means the connection broke: *AlertError, ErrTruncated or a
// record that does not decrypt. Output may have grown (key updates, alerts).
func (s *Session) Read(p []byte) (n int, err error) {
	if !s.Done() {
		return 0, s.unusable()
	}
	for n < len(p) && s.readErr == nil {
		if !s.more && !s.mem.fin && !s.mem.ready() {
			s.mem.keep()
			break
		}
		m, err := s.conn.Read(p[n:])
		n += m
		s.more = n == len(p)
		if err != nil && err != ErrAgain {
			s.readErr = readError(err)
		}
	}
	switch {
	case n > 0, len(p) == 0:
		return n, nil
	case s.readErr != nil:
		return 0, s.readErr
	}
	return 0, ErrAgain
}

func readError(err error) error {
	if err == io.EOF {
		return io.EOF
	}
	return explain(err)
}

// Write encrypts p behind Output.
func (s *Session) Write(p []byte) error {
	if err := s.writable(); err != nil {
		return err
	}
	s.reserve(len(p))
	return s.seal(p)
}

// Seal appends what waits in Output and then p, encrypted, to dst. dst is nil or a buffer
// of the session's pool, which replaces it when it is too small. It spares the
// copy of Write and Take.
func (s *Session) Seal(dst, p []byte) ([]byte, error) {
	if err := s.writable(); err != nil {
		return dst, err
	}
	if len(s.mem.out) > 0 {
		dst = s.mem.pool.Append(dst, s.mem.out...)
	}
	s.mem.dropOut()
	s.mem.out = dst
	s.reserve(len(p))
	err := s.seal(p)
	dst, s.mem.out = s.mem.out, nil
	return dst, err
}

func (s *Session) seal(p []byte) error {
	if _, err := s.conn.Write(p); err != nil {
		return fmt.Errorf("tls write: %w", err)
	}
	return nil
}

// reserve makes room for n bytes of plaintext, so that many records do not
// move the buffer many times.
func (s *Session) reserve(n int) {
	m := &s.mem
	need := len(m.out) + n + (n/maxRecord+1)*recordOverhead
	if cap(m.out) >= need {
		return
	}
	b := append(m.pool.Get(need), m.out...)
	m.pool.Put(m.out)
	m.out = b
}

// CloseNotify ends our direction: close_notify goes behind Output. Reading goes
// on; writing is over. Called again it does nothing.
func (s *Session) CloseNotify() {
	if s.writable() != nil {
		return
	}
	s.closed = true
	_ = s.conn.CloseWrite() // memory does not fail; an earlier fatal alert already ended the direction
}

// Output is the ciphertext that waits to be sent; it aliases the session's
// memory until the next call that changes it.
func (s *Session) Output() []byte { return s.mem.out }

// Take appends Output to dst and gives its buffer back.
func (s *Session) Take(dst []byte) []byte {
	dst = append(dst, s.mem.out...)
	s.mem.dropOut()
	return dst
}

// Close gives all buffers back; s must not be used afterwards. It sends nothing.
func (s *Session) Close() {
	s.Stop()
	if s.state.Load() != stateEnded {
		return // a running step cleans up; nothing of a handshake is from the pool
	}
	s.mem.dropKept()
	s.mem.dropOut()
	s.mem.in = nil
}

func (s *Session) writable() error {
	switch {
	case !s.Done():
		return s.unusable()
	case s.closed:
		return ErrClosed
	}
	return nil
}

func (s *Session) unusable() error {
	if s.err != nil {
		return s.err
	}
	return errors.New("tls: used before the handshake is done")
}
