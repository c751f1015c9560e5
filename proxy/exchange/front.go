package exchange

import (
	"time"

	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// Front is the proxy's side of an accepted connection: whom its adapter asks.
type Front interface {
	// Request sees a request's head before it is copied, edits its fields, and
	// returns who directs it. local says that the client may see the proxy's own
	// errors (§8).
	Request(h *head.Head) (dir Director, local bool)
	// Draining reports whether the connection should end after what is in flight.
	Draining() bool
	// Refused is told of a malformed request (R3.4), another breach of protocol, or
	// one that is over a limit (R1.5).
	Refused(kind metrics.Refusal, reason string)
	// TimedOut is told of a client that took too long.
	TimedOut(kind metrics.Timeout)
	// Closed says that the connection is gone.
	Closed()
}

// ServerParams configure the server side of a connection.
type ServerParams struct {
	Env    *Env
	Front  Front
	Limits h1.Limits
	// HeaderTimeout bounds the reading of one head, IdleTimeout the time between
	// requests (rule R3.5).
	HeaderTimeout, IdleTimeout time.Duration
	// Hop: the client is another proxy of the mesh (R5.3).
	Hop bool
	// PingEvery is the time between PINGs on a quiet hop, and that in which each
	// must be answered (R1.1); 0 sends none.
	PingEvery time.Duration
	// MaxAge of an HTTP/2 connection, jittered by the caller; 0 is none (R4.4).
	MaxAge time.Duration
}

// ClientParams configure the client side of a connection.
type ClientParams struct {
	Env    *Env
	Limits h1.Limits
	// Hop: the server is another proxy of the mesh (R5.3).
	Hop bool
	// PingEvery is the time between PINGs on a hop, which fails when one is not
	// answered within PingTimeout (R1.1); 0 sends none.
	PingEvery, PingTimeout time.Duration
}
