package h2

import "github.com/tulle-mesh/tulle/proxy/head"

// Kind says what an Event tells.
type Kind uint8

// Kinds of events. Stream is set in the first five.
const (
	// EventHead is a request (server role) or a final response (client role).
	EventHead Kind = iota + 1
	// EventInfo is an interim response (1xx).
	EventInfo
	// EventData is a piece of a body, without padding; it may be empty with End.
	EventData
	// EventTrailers ends a body with fields; End is always set.
	EventTrailers
	// EventReset ends a stream early, see Code, Local, Unprocessed and Reason.
	// The stream must not be touched after this event was handled.
	EventReset
	// EventRefused says that the engine refused a stream by itself, for counting
	// alone: Code REFUSED_STREAM and why as Reason, or N the status that was
	// answered (431, 414).
	EventRefused
	// EventGoAway says that the peer takes no new streams; what it did not
	// process was reset (Unprocessed) before this event.
	EventGoAway
	// EventSettings says that settings of the peer were applied.
	EventSettings
	// EventPong answers Ping; N is the round trip in nanoseconds.
	EventPong
	// EventError is the end of the connection: GOAWAY is queued already, the
	// owner flushes and closes. No event follows.
	EventError
)

// Reasons of REFUSED_STREAM.
const (
	ReasonLeaving = "going away"
	ReasonStreams = "too many streams"
	ReasonMemory  = "the buffers are full"
)

// Event is something that the peer did. What it refers to is valid until the
// next call of Next, Feed or Stash.
type Event struct {
	Kind   Kind
	Stream *Stream
	Head   *head.Head // fields alone in EventTrailers
	Data   []byte
	// End is set when nothing more comes from the peer on this stream.
	End bool

	Code ErrCode
	// Local is set when the engine reset the stream because of what the peer did.
	Local bool
	// Unprocessed is set when the peer said that it did not process the stream
	// (REFUSED_STREAM, GOAWAY above its last id): R7.1.
	Unprocessed bool
	// Reason says in a constant what the peer did wrong, when Local is set, and
	// why a stream was refused.
	Reason string

	N   int
	Err *ConnError
}
