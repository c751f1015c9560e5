// Package h1 is an HTTP/1.0 and HTTP/1.1 engine without I/O (RFC 9112): bytes
// in, events out; heads in, bytes out.
//
// The parser is strict, because leniency is how requests are smuggled (rule
// R3.4): one reading of a message, or a refusal. What it reads does not depend
// on how the bytes were cut into pieces. Of a head it keeps everything but the
// fields of one hop (rule R3.2), white space around a field's value and chunk
// extensions.
//
// Where the RFCs leave a choice:
//   - A Content-Length is one field of decimal digits; a repeated one is refused,
//     also when both say the same (RFC 9112, section 6.3 would allow it).
//   - Of transfer codings gzip, deflate and compress may stand before chunked;
//     others are unknown to many servers, which then see another message: 501.
//   - Trailers that frame, route or authenticate (RFC 9110, section 6.5.1) are
//     refused when read, not dropped: nobody sends them by accident. Trailers with
//     the mesh's own prefix are dropped when read (rule R5.5).
//   - A '#' in a request target is refused: servers differ on what follows it. So
//     are escapes and zones in an authority.
//   - Transfer-Encoding in a 1xx or 204, or a body announced there, is refused.
//   - An absolute form whose authority is not Host's is refused, not repaired (RFC
//     9112, section 3.2.2 would replace Host).
//   - HTTP/1.x above 1.1 gets 505.
package h1

import "github.com/tulle-mesh/tulle/proxy/head"

// Limits of a head (rule R1.5). Zero fields are the defaults.
type Limits struct {
	HeaderBytes int // 64 KiB: start line, fields and the empty line; trailers by themselves
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
	// Status is what a server answers: 400, 414, 431, 501, 505; 502 when a
	// response was refused; 0 when the message was cut.
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
