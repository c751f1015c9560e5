package loop

import (
	"errors"
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// ErrAgain is what Read, Write, Accept and ConnectError answer when nothing can
// be done now; readiness will say when.
var ErrAgain = errors.New("again")

// Token names a registration at a Worker: an index and a generation, so that
// what arrives late for a handler that is gone reaches nobody. The zero Token
// names nothing.
type Token uint64

func makeToken(index, generation uint32) Token {
	return Token(generation)<<32 | Token(index)
}

func (t Token) index() uint32      { return uint32(t) }
func (t Token) generation() uint32 { return uint32(t >> 32) }

// Ready is what a poller knows about one socket or listener.
//
// In and Out are set only while they are wanted and are level-triggered: they
// come again until the socket answers ErrAgain or they are no longer wanted.
//
// Err (the peer reset the connection, or connecting failed) and Hup (both
// directions are closed) come whatever is wanted: at once, and once. With In
// wanted they come with In until everything was read; otherwise the socket is
// out of the set until the next Want, so a paused one does not spin.
type Ready struct {
	Token             Token
	In, Out, Hup, Err bool
}

// Socket is a non-blocking byte stream. It belongs to one worker.
//
// After Dial a socket wants Out alone, after Attach In alone.
type Socket interface {
	// Read answers ErrAgain when there is nothing to read, io.EOF when the peer
	// has closed its direction, and otherwise the system's errno, which stays:
	// every later Read and Write answers it too. Bytes that arrived before a
	// reset are read first.
	Read(p []byte) (int, error)
	// Write takes what fits, perhaps less than p; (0, ErrAgain) when nothing does.
	Write(p []byte) (int, error)
	// Want says which readiness is reported from the next Wait on.
	Want(in, out bool)
	// CloseWrite sends a FIN after what was written; reading goes on.
	CloseWrite() error
	// Close ends the socket and forgets it; nothing is reported for it any more.
	// With reset the peer gets a RST instead of a FIN. Without, the peer still
	// gets what was written, and a RST when something was left unread (as TCP
	// does).
	Close(reset bool)
}

// Connecting is what every Socket that came from Dial implements.
type Connecting interface {
	// ConnectError tells how connecting ended: nil, the errno, or ErrAgain while
	// it goes on. Ask when Out or Err is reported.
	ConnectError() error
}

// Addresser is what every Socket implements. The addresses are never
// IPv4-mapped IPv6; the zero value when the connection is not there (yet).
type Addresser interface {
	Addrs() (local, remote netip.AddrPort)
}

// UserTimeouter is what sockets over real TCP implement where the system can.
type UserTimeouter interface {
	// SetUserTimeout bounds how long written bytes may stay unacknowledged (R1.1:
	// HTTP/2 hops alone, since it also ends a peer that holds its window shut).
	SetUserTimeout(d time.Duration) error
}

// Accepted says where an accepted connection came from and went to. Addresses
// are never IPv4-mapped IPv6.
type Accepted struct {
	Remote, Local netip.AddrPort
	// OriginalDst is where the client wanted to go before the connection was
	// redirected here; the zero value when it was not redirected, or was not
	// asked for (ListenOptions.OriginalDst).
	OriginalDst netip.AddrPort
}

// Listener accepts connections. Readiness (In) says that Accept may succeed.
type Listener interface {
	// Accept answers ErrAgain when no connection waits. The new socket is not
	// registered until Poller.Attach, which may be that of another worker. Any
	// other error is for the log: the listener stays usable and is reported again
	// (after a pause when the system was out of descriptors or memory).
	Accept() (Socket, Accepted, error)
	Addr() netip.AddrPort
	// Pause stops reports until Resume; connections wait in the backlog.
	Pause()
	Resume()
	Close() error
}

// ListenOptions of a listening socket. Its connections inherit TCP_NODELAY and
// keep-alive of 10 s (R1.1).
type ListenOptions struct {
	// Backlog, 0 for 4096.
	Backlog int
	// ReusePort lets several workers listen on one port.
	ReusePort bool
	// OriginalDst looks up SO_ORIGINAL_DST of each connection.
	OriginalDst bool
	// UserTimeout of its connections, 0 for none.
	UserTimeout time.Duration
}

// DialOptions of an outgoing connection.
type DialOptions struct {
	// UserTimeout as SetUserTimeout, 0 for none.
	UserTimeout time.Duration
}

// Poller waits for readiness and makes the sockets that it can wait for. Only
// Wake may be called by other goroutines than the worker's.
type Poller interface {
	// Wait appends to dst what is ready and returns it, waiting until something
	// is, Wake is called, or deadline has come (zero: no deadline). It may return
	// nothing early.
	Wait(dst []Ready, deadline mono.Time) []Ready
	// Wake makes the current or the next Wait return at once.
	Wake()
	// Listen binds addr; readiness is reported under t.
	Listen(addr netip.AddrPort, opts ListenOptions, t Token) (Listener, error)
	// Dial begins to connect; Out (or Err) reports the outcome, which
	// Connecting.ConnectError tells. An error at once is possible too.
	Dial(addr netip.AddrPort, opts DialOptions, t Token) (Socket, error)
	// Attach registers an accepted socket, or gives a registered one a new token.
	Attach(s Socket, t Token)
	// Now reads the poller's clock.
	Now() mono.Time
	// Close frees the poller and all its sockets and listeners.
	Close() error
}

// EpollConfig of NewEpoll.
type EpollConfig struct {
	// Hold is how long after the last event a wait keeps its processor in a raw
	// system call before the goroutine parks. 0 means 1 ms, negative never.
	Hold time.Duration
}
