// Package h2 is an HTTP/2 engine without I/O (RFC 9113, RFC 7541, RFC 8441):
// bytes in, events out; calls in, bytes out. One Conn is one connection in
// either role and belongs to one worker.
//
// Under construction: signatures stand, the inside follows.
package h2

import (
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/head"
)

const (
	initialWindow = 65535
	minFrameSize  = 16384
)

// Conn is one HTTP/2 connection.
type Conn struct{ cfg Config }

// New returns a connection whose preface and SETTINGS are queued as output.
func New(cfg Config, now mono.Time) *Conn { panic("BUG: under construction") }

// Feed gives the engine what was read. b must stay valid until Stash; no Feed
// may follow before Next has returned false.
func (c *Conn) Feed(b []byte) {}

// Next returns the next event; its content dies at the next call of Next, Feed
// or Stash.
func (c *Conn) Next(now mono.Time) (Event, bool) { return Event{}, false }

// Stash copies what was not consumed into the engine's own memory and returns
// its length. It ends the use of the bytes given to Feed.
func (c *Conn) Stash() int { return 0 }

// Close gives all memory back to the pool. No event follows.
func (c *Conn) Close() {}

// Open starts a stream with a request head (client role); end: no body follows.
func (c *Conn) Open(h *head.Head, end bool, user any) (*Stream, error) {
	return c.OpenWith(h, nil, end, user)
}

// OpenWith is Open with fields that follow those of h.
func (c *Conn) OpenWith(h *head.Head, extra []head.Field, end bool, user any) (*Stream, error) {
	return nil, ErrNoCapacity
}

// CanOpen reports whether Open has a stream left.
func (c *Conn) CanOpen() bool { return false }

// ActiveStreams is the number of streams that are not closed.
func (c *Conn) ActiveStreams() int { return 0 }

// PeerSettingsSeen reports whether the peer's first SETTINGS arrived.
func (c *Conn) PeerSettingsSeen() bool { return false }

// PeerExtendedConnect reports whether the peer offers RFC 8441.
func (c *Conn) PeerExtendedConnect() bool { return false }

// GoingAway reports whether either side has sent GOAWAY.
func (c *Conn) GoingAway() bool { return false }

// SendHead sends the final response head (server role).
func (c *Conn) SendHead(s *Stream, h *head.Head, end bool) { c.SendHeadWith(s, h, nil, end) }

// SendHeadWith is SendHead with fields that follow those of h.
func (c *Conn) SendHeadWith(s *Stream, h *head.Head, extra []head.Field, end bool) {}

// SendInfo sends an interim response (1xx, not 101).
func (c *Conn) SendInfo(s *Stream, h *head.Head) {}

// SendData queues a copy of p on the stream; the owner bounds the queue by the
// credit that it gives its source.
func (c *Conn) SendData(s *Stream, p []byte, end bool) {}

// SendTrailers queues trailers, which leave after the data and end the stream.
func (c *Conn) SendTrailers(s *Stream, f []head.Field) {}

// Reset ends the stream at once: what is queued is discarded, except when code
// is NO_ERROR and our side has ended: then RST_STREAM follows the queue (RFC
// 9113, section 8.1). peersFault counts against the peer's budget (R4.5).
func (c *Conn) Reset(s *Stream, code ErrCode, peersFault bool) {}

// Queued is the number of body bytes of s not yet written by Output.
func (c *Conn) Queued(s *Stream) int { return 0 }

// Consume says that n body bytes of s were passed on: the peer gets credit.
func (c *Conn) Consume(s *Stream, n int) {}

// GoAway announces the end. graceful: the last id is 2^31-1, so that nothing in
// flight is lost; call again later, not graceful, to name the real one (RFC
// 9113, section 6.8).
func (c *Conn) GoAway(code ErrCode, graceful bool, now mono.Time) {}

// Ping queues a PING; EventPong answers it. One at a time: a second call before
// the answer does nothing.
func (c *Conn) Ping(now mono.Time) {}

// PingOutstanding is when the unanswered Ping was queued, 0 when there is none.
func (c *Conn) PingOutstanding() mono.Time { return 0 }

// LastActivity is when the last complete frame arrived.
func (c *Conn) LastActivity() mono.Time { return 0 }

// Congested reports that our own answers queue: the owner stops reading (R4.5).
func (c *Conn) Congested() bool { return false }

// Output appends what may leave now and at most about room bytes: control
// frames, heads in order, DATA round robin. Heads and control frames are not
// split and may exceed room.
func (c *Conn) Output(dst []byte, room int) []byte { return dst }

// WantsOutput reports whether Output would append something.
func (c *Conn) WantsOutput() bool { return false }

// Drained returns the streams whose queues Output wrote from, n body bytes each,
// so that owners give credit to their source; call until !ok after each Output.
func (c *Conn) Drained() (s *Stream, n int, ok bool) { return nil, 0, false }
