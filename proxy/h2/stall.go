package h2

import "github.com/tulle-mesh/tulle/internal/mono"

// What a peer has us keep, for as long as it likes (R4.5): bodies that its windows
// hold back, and a frame or header block that it began. Neither is a fault (a
// paused download), but such a stream, or connection, is the first to go when
// others want the memory.

// Oldest returns the stream that has something queued which waits longest, and
// since when at least; nil when none has. How long is told by whole queues: a
// window that is opened byte by byte makes nothing younger.
func (c *Conn) Oldest() (s *Stream, since mono.Time) {
	for o := c.open.first; o != nil; o = o.opened.next {
		if o.queue.n > 0 && (s == nil || o.since < since) {
			s, since = o, o.since
		}
	}
	return s, since
}

// Partial is since when a frame or header block has been incomplete, 0 when none is.
func (c *Conn) Partial() mono.Time { return c.partSince }

// Evict resets the stream, and what is queued is gone, also where Reset has let
// it leave. No event and no Drained follows; the owner lets go of s.
func (c *Conn) Evict(s *Stream) {
	if s.closed || c.err != nil {
		return
	}
	s.User = nil
	c.rst(s.ID, ErrCodeEnhanceYourCalm)
	c.abort(s)
}
