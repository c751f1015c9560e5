// Package h1 is an HTTP/1.0 and HTTP/1.1 engine without I/O (RFC 9112): bytes
// in, events out; heads in, bytes out.
//
// The parser is strict, because leniency is how requests are smuggled (rule
// R3.4): one reading of a message, or a refusal. White space around a field's
// value is not kept; everything else of a head is, but the fields of one hop
// (rule R3.2).
package h1

import (
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// Limits of a head (rule R1.5). Zero fields are the defaults.
type Limits struct {
	HeaderBytes int // 64 KiB
	HeaderCount int // 256
	TargetBytes int // 32 KiB
}

func (l Limits) withDefaults() Limits {
	if l.HeaderBytes == 0 {
		l.HeaderBytes = 64 << 10
	}
	if l.HeaderCount == 0 {
		l.HeaderCount = 256
	}
	if l.TargetBytes == 0 {
		l.TargetBytes = 32 << 10
	}
	return l
}

// Role says what a parser reads.
type Role uint8

// Roles: a server reads requests, a client responses.
const (
	Server Role = iota
	Client
)

// Kind says what an Event tells.
type Kind uint8

// Kinds of events.
const (
	EventHead     Kind = iota + 1 // a request's or a final response's head
	EventInfo                     // an interim response
	EventData                     // body bytes
	EventTrailers                 // fields after a chunked body; EventEnd follows
	EventEnd                      // the message is complete
	EventTunnel                   // 101, or a 2xx to CONNECT: from here on bytes, see Rest
	EventError                    // the message cannot be read; nothing follows
)

// Event is something that was read. It is valid until the next call of Next,
// Stash or Feed.
type Event struct {
	Kind Kind
	Head *head.Head // EventHead, EventInfo, EventTrailers (fields alone), EventTunnel
	Data []byte     // EventData
	Err  *Error     // EventError
}

// Error says why a message was refused.
type Error struct {
	// Status is what a server answers: 400, 414, 431, 505; 0 when the message was cut.
	Status int
	Reason string // a constant
	// Truncated: the peer ended in the middle of the message (rule R3.6).
	Truncated bool
}

// Error implements error.
func (e *Error) Error() string { return e.Reason }

func bad(reason string) *Error { return &Error{Status: 400, Reason: reason} }

// Expect says what the next response answers (client role).
type Expect struct {
	Head    bool // HEAD: no body
	Connect bool // CONNECT: a 2xx is a tunnel
	Upgrade bool // the request offered an upgrade: 101 is allowed
}

type state uint8

const (
	stateHead state = iota
	stateLength
	stateClose
	stateChunkSize
	stateChunkData
	stateChunkEnd
	stateTrailers
	stateEnd  // EventEnd is due
	stateDone // waiting for NextMessage
	stateTunnel
	stateFailed
)

// maxChunkLine bounds a chunk's size line with its extensions, in bytes.
const maxChunkLine = 4 << 10

// Parser reads one message after the other. It keeps no bytes between messages.
type Parser struct {
	role Role
	lim  Limits
	pool *slab.Pool

	in     []byte // what is parsed now: the caller's, or stash
	pos    int
	stash  []byte // owned, of pool
	own    bool   // in is stash
	state  state
	left   int64 // of the body or chunk
	lines  scan
	exp    Expect
	h      head.Head
	trail  head.Head
	failed Error
}

// NewParser returns a parser of requests or responses.
func NewParser(role Role, lim Limits, pool *slab.Pool) *Parser {
	return &Parser{role: role, lim: lim.withDefaults(), pool: pool}
}
