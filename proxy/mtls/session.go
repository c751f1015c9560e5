// Package mtls is mutual TLS 1.3 between proxies without I/O: ciphertext in,
// plaintext out, and the reverse, over crypto/tls on a memory-backed connection.
//
// A handshake is the one coroutine of the data path. crypto/tls blocks in it,
// so Session.Step runs it inside iter.Pull: when it runs dry it yields. Steps
// may run on any goroutine, one at a time; Stop ends a handshake that is given
// up. After the handshake nothing but the connection's state remains, and
// Session belongs to one worker.
//
// A peer is verified in VerifyConnection, which crypto/tls calls before it
// answers with our own proof, against the bundle of that moment (rule R5.2).
// InsecureSkipVerify is set because a SPIFFE ID is no host name; Verify does
// all that it skips. There are no session tickets: they would outlive a
// withdrawn root.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync/atomic"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

var (
	// ErrAgain says that there is nothing to read before more ciphertext comes.
	ErrAgain error = again{}
	// ErrTruncated says that the peer's TCP ended without close_notify: what was
	// read may be cut short (rule R3.6).
	ErrTruncated = errors.New("tls: connection ended without close_notify")
	// ErrStopped is the outcome of a handshake that Stop ended.
	ErrStopped = errors.New("tls: handshake given up")
	// ErrClosed says that our side has sent close_notify.
	ErrClosed = errors.New("tls: write after close_notify")
	// ErrNoCredentials says that there is no certificate or no bundle yet.
	ErrNoCredentials = errors.New("tls: no certificate yet")
)

// AlertError is a fatal alert that the peer sent. A client whose certificate
// was refused learns it so after its handshake is done: TLS 1.3 clients finish first.
type AlertError struct{ Alert string }

// Error returns the alert in crypto/tls's words.
func (e *AlertError) Error() string { return "tls: peer sent alert: " + e.Alert }

// ClientParams says whom a client wants to reach.
type ClientParams struct {
	// Peer is the endpoint's identity as discovery gave it; empty never matches.
	Peer mesh.Identity
	// ALPN is offered, the best first; the server must choose one of them.
	ALPN []string
	// Pool holds buffers after the handshake; nil is the heap.
	Pool *slab.Pool
}

// ServerParams says what a server accepts: any identity of Tulle's form.
type ServerParams struct {
	// ALPN is accepted, the best first; the client must offer one of them.
	ALPN []string
	// Pool holds buffers after the handshake; nil is the heap.
	Pool *slab.Pool
}

// Session is one TLS connection over memory. While a step runs, Stop alone may
// be called; between steps Step, Stop and FeedEOF.
type Session struct {
	conn  *tls.Conn
	mem   memConn
	creds *Credentials
	state atomic.Int32 // of the handshake; all else belongs to who holds it
	hs    *handshake   // nil once the handshake has ended
	err   error        // why the handshake failed

	// set by a finished handshake
	chain    []*x509.Certificate
	usage    x509.ExtKeyUsage // of the peer
	peer     mesh.Identity
	alpn     string
	notAfter time.Time

	// owned by the worker
	readErr error // sticky
	more    bool  // crypto/tls may hold plaintext that did not fit
	closed  bool  // close_notify sent
}

// handshake is what exists only until the handshake ends.
type handshake struct {
	next func() (struct{}, bool)
	stop func()
	err  error
	own  time.Time // NotAfter of our leaf
	pool *slab.Pool
}

// States of a handshake. A Stop that meets a running step leaves the end to it.
const (
	stateIdle int32 = iota
	stateRunning
	stateStopping
	stateEnded
)

// Client returns a session that will greet the server.
func Client(c *Credentials, p ClientParams) *Session {
	s, cfg := begin(c, p.ALPN, p.Pool)
	s.usage = x509.ExtKeyUsageServerAuth
	cfg.InsecureSkipVerify = true // verified in VerifyConnection
	want := p.Peer
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return accept(cs, Expect{Bundle: c.Get().Bundle, Usage: x509.ExtKeyUsageServerAuth, Want: want, At: c.now()})
	}
	s.conn = tls.Client(&s.mem, cfg)
	return s
}

// Server returns a session that waits for a client's greeting.
func Server(c *Credentials, p ServerParams) *Session {
	s, cfg := begin(c, p.ALPN, p.Pool)
	s.usage = x509.ExtKeyUsageClientAuth
	cfg.ClientAuth = tls.RequireAnyClientCert // verified in VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return accept(cs, Expect{Bundle: c.Get().Bundle, Usage: x509.ExtKeyUsageClientAuth, Any: true, At: c.now()})
	}
	s.conn = tls.Server(&s.mem, cfg)
	return s
}

func begin(c *Credentials, alpn []string, pool *slab.Pool) (*Session, *tls.Config) {
	own := c.Get()
	s := &Session{creds: c, hs: &handshake{own: own.NotAfter, pool: pool}}
	if !own.Ready() {
		s.hs, s.err = nil, ErrNoCredentials
		s.state.Store(stateEnded)
	}
	return s, &tls.Config{
		Certificates:                []tls.Certificate{own.Leaf},
		NextProtos:                  alpn,
		MinVersion:                  tls.VersionTLS13,
		CurvePreferences:            []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		Time:                        c.now,
	}
}

// accept is VerifyConnection of both directions.
func accept(cs tls.ConnectionState, e Expect) error {
	got, err := Verify(cs.PeerCertificates, e)
	if err != nil {
		return err
	}
	if cs.NegotiatedProtocol == "" {
		return &VerifyError{Reason: ReasonALPN, Want: e.Want, Got: got}
	}
	return nil
}

// Step runs the handshake until it needs more than in, which is copied. out is
// to be sent whatever the outcome (an alert is sent on failure) and aliases the
// session's memory until the next call. done is true once the handshake has
// ended, well or with err; it then stays so. Step may be called from any
// goroutine, but by one at a time.
func (s *Session) Step(in []byte) (out []byte, done bool, err error) {
	if !s.state.CompareAndSwap(stateIdle, stateRunning) {
		return nil, true, s.outcome()
	}
	h := s.hs
	s.mem.kept = append(s.mem.kept[s.mem.off:], in...)
	s.mem.off = 0
	s.mem.out = s.mem.out[:0]
	if h.next == nil {
		h.next, h.stop = iter.Pull(s.run)
	}
	_, running := h.next()
	out = s.mem.out
	if !running {
		s.finish(h)
		return out, true, s.err
	}
	if !s.state.CompareAndSwap(stateRunning, stateIdle) { // Stop came meanwhile
		s.abandon(h)
		return nil, true, ErrStopped
	}
	return out, false, nil
}

// outcome is what Step answers when there is no step to run.
func (s *Session) outcome() error {
	if s.state.Load() == stateEnded {
		return s.err
	}
	return ErrStopped
}

// run is the coroutine's body.
func (s *Session) run(yield func(struct{}) bool) {
	s.mem.yield = yield
	s.hs.err = s.conn.Handshake()
	s.mem.yield = nil
}

func (s *Session) finish(h *handshake) {
	defer s.state.Store(stateEnded)
	s.hs = nil
	s.mem.out = nil
	s.mem.pool = h.pool
	if h.err != nil {
		s.err = explain(h.err)
		return
	}
	cs := s.conn.ConnectionState()
	s.chain, s.alpn = cs.PeerCertificates, cs.NegotiatedProtocol
	id, err := IdentityOf(s.chain[0])
	if err != nil {
		panic("BUG: a verified peer without an identity")
	}
	s.peer = id
	s.notAfter = s.chain[0].NotAfter
	if h.own.Before(s.notAfter) {
		s.notAfter = h.own
	}
}

// Stop gives a handshake up and ends its coroutine; a step that is running on
// another goroutine ends it when it returns. After the handshake, and called
// again, it does nothing.
func (s *Session) Stop() {
	for {
		switch s.state.Load() {
		case stateIdle:
			if s.state.CompareAndSwap(stateIdle, stateStopping) {
				s.abandon(s.hs)
				return
			}
		case stateRunning:
			if s.state.CompareAndSwap(stateRunning, stateStopping) {
				return
			}
		default:
			return
		}
	}
}

func (s *Session) abandon(h *handshake) {
	if h.stop != nil {
		h.stop()
	}
	s.hs, s.err = nil, ErrStopped
	s.mem = memConn{}
	s.state.Store(stateEnded)
}

// explain gives crypto/tls's errors this package's types.
func explain(err error) error {
	var op *net.OpError
	var ve *VerifyError
	switch {
	case errors.As(err, &ve):
		return ve
	case errors.As(err, &op) && op.Op == "remote error":
		return &AlertError{Alert: op.Err.Error()}
	case errors.Is(err, ErrTruncated), errors.Is(err, ErrStopped):
		return err
	}
	return fmt.Errorf("tls: %w", err)
}

// Done reports whether the handshake has succeeded.
func (s *Session) Done() bool { return s.state.Load() == stateEnded && s.err == nil }

// Peer is the identity that the peer proved.
func (s *Session) Peer() mesh.Identity { return s.peer }

// ALPN is the protocol agreed on.
func (s *Session) ALPN() string { return s.alpn }

// NotAfter is the earlier end of the two leaves: an HTTP/2 hop drains before it.
func (s *Session) NotAfter() time.Time { return s.notAfter }

// Recheck holds the peer's chain against another bundle. A leaf that has run
// out meanwhile is judged at its last moment: a tunnel outlives its leaves, not
// its root.
func (s *Session) Recheck(b *Bundle) error {
	if !s.Done() {
		return ErrStopped
	}
	at := s.creds.now()
	for _, c := range s.chain {
		if c.NotAfter.Before(at) {
			at = c.NotAfter
		}
	}
	_, err := Verify(s.chain, Expect{Bundle: b, Usage: s.usage, Want: s.peer, At: at})
	return err
}
