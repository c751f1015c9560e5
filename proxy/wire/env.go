// Package wire is a byte stream owned by one worker: a socket, an optional TLS
// session over it and its output buffer. It moves bytes between the poller and
// a User, which is a protocol adapter, a detector or one end of a tunnel.
package wire

import (
	"errors"
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/chain"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// Marks of a connection's output buffer, in bytes. Over High its sources stop,
// while the budget is free; it falls to Least with what is left of the budget.
const (
	High  = 128 << 10
	Least = 4 << 10
)

// ReadPerTurn is how much is read from one connection in one turn, in bytes.
const ReadPerTurn = 64 << 10

// leastRead is what is read at once while memory is short, in bytes: a record of TLS.
const leastRead = 16 << 10

// lastReads bounds how often a connection is read that cannot be written to.
const lastReads = 16

// lingerTime and lingerBytes bound what is read and thrown away after a graceful
// close, so that a late byte of the peer does not turn our last answer into a
// reset (RFC 9112, section 9.6). The time begins when the output has left: before
// that, a peer that takes bytes may be as slow as it likes, and one that takes
// none is given up after stuckTime.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
	stuckTime   = 5 * time.Minute
)

// Errors of a connection.
var (
	// ErrConnectTimeout says that a connection was not established in time.
	ErrConnectTimeout = errors.New("connect timeout")
	// ErrHandshakeTimeout says that a TLS handshake did not finish in time.
	ErrHandshakeTimeout = errors.New("TLS handshake timeout")
	// ErrTooManyHandshakes says that the limit of handshakes in flight is reached (R1.5).
	ErrTooManyHandshakes = errors.New("too many TLS handshakes in flight")
	// ErrTruncated says that the peer's bytes ended without the end of the stream (R3.6).
	ErrTruncated = errors.New("connection ended early")
	// ErrEvicted says that what a connection kept was wanted for others (R4.2).
	ErrEvicted = errors.New("memory is short, and nobody took what the connection kept")
)

// Env is what all connections of one worker share.
type Env struct {
	W *loop.Worker
	// MaxHandshakes bounds TLS handshakes in flight; 0 is 1,024.
	MaxHandshakes int

	// Scratch memory within a turn.
	read, probe, plain, fill, cipher []byte

	shakes int
	open   int
	conns  chain.List[*Conn] // that are open
}

// NewEnv returns the environment of w's connections.
func NewEnv(w *loop.Worker, maxHandshakes int) *Env {
	if maxHandshakes == 0 {
		maxHandshakes = 1024
	}
	return &Env{W: w, MaxHandshakes: maxHandshakes, read: make([]byte, ReadPerTurn), probe: make([]byte, 4<<10), plain: make([]byte, 32<<10)}
}

// high is the mark at which sources stop now.
func (e *Env) high() int { return max(e.Pool().Budget().Share(High), Least) }

// readRoom is the memory that one read goes to: what is read from a source that has just stopped has
// to be kept too.
func (e *Env) readRoom() []byte { return e.read[:min(max(e.high()/2, leastRead), len(e.read))] }

// cipherRoom is scratch memory in which n bytes of plaintext and of ciphertext, in so many pieces, fit
// as records, a key update included: it must not be moved, since it is no buffer of the pool.
func (e *Env) cipherRoom(n, pieces int) []byte {
	const record, overhead, spare = 16 << 10, 32, 256
	need := n + (n/record+pieces)*overhead + spare
	if cap(e.cipher) < need {
		e.cipher = make([]byte, 0, need)
	}
	return e.cipher[:0]
}

// Now is the time of the worker's turn.
func (e *Env) Now() mono.Time { return e.W.Now() }

// Pool is the worker's slab memory.
func (e *Env) Pool() *slab.Pool { return e.W.Pool() }

// Open is the number of connections that are open.
func (e *Env) Open() int { return e.open }

// Handshakes is the number of handshakes in flight.
func (e *Env) Handshakes() int { return e.shakes }

// User is what a connection's bytes are for. Calls come from the worker and
// never after Failed, Close or Abort.
type User interface {
	// Received takes bytes; p is valid during the call alone.
	Received(p []byte)
	// EOF says that the peer half-closed: nothing more is received.
	EOF()
	// Failed says that the connection broke; it is closed already.
	Failed(err error)
	// Flushed says that output left; left bytes of it are still buffered.
	Flushed(left int)
}

// Filler is a User that has its output pulled once per turn (HTTP/2).
type Filler interface {
	// Fill appends at most about room bytes of output to dst.
	Fill(dst []byte, room int) []byte
	// Wants reports whether Fill would append something.
	Wants() bool
}

// Info is where a connection comes from and goes to.
type Info struct {
	Remote, Local netip.AddrPort
}
