package h2

// Pieces of Output, in bytes.
const (
	pieceBytes  = 16 << 10  // of one stream before the next has its turn
	outputBytes = 128 << 10 // of DATA per call
	// smallPiece is the least that is cut from a longer queue because the room
	// ends; it waits for the next call instead.
	smallPiece = 1 << 10
)

// writer is the sending half.
type writer struct {
	ctrl  []byte // slab: control frames whose order does not matter
	seq   []byte // slab: heads, resets, acknowledgements, in order
	lower []byte // a name or path as HTTP/2 writes it

	connSend int64      // what we may still send on the connection
	ready    streamList // streams with something to send, round robin
	blocked  streamList // the same, held up by the connection's window
	drain    drainList
}

// drainList are streams that Output wrote from, for Drained.
type drainList struct{ first, last *Stream }

// schedule puts s in line when it has something to send.
func (c *Conn) schedule(s *Stream) {
	if s.where == nil && s.sendable() {
		s.where = &c.ready
		c.ready.pushBack(s)
	}
}

func (c *Conn) unwait(s *Stream) {
	if s.where != nil {
		s.where.remove(s)
		s.where = nil
	}
}

// unblock puts streams in line again that the connection's window held up.
func (c *Conn) unblock() {
	for c.connSend > 0 && c.blocked.first != nil {
		s := c.blocked.first
		c.unwait(s)
		c.schedule(s)
	}
}

// WantsOutput reports whether Output would append something.
func (c *Conn) WantsOutput() bool {
	return len(c.ctrl) > 0 || len(c.seq) > 0 || c.ready.first != nil
}

// Output appends what may leave now, at most about room bytes: control frames,
// then heads in order, then DATA round robin by stream within the windows.
// Control frames and heads are never split and may exceed room; nothing leaves
// while room is not positive.
func (c *Conn) Output(dst []byte, room int) []byte {
	c.reap()
	if room <= 0 {
		return dst
	}
	start := len(dst)
	if len(c.ctrl) > 0 {
		dst = append(dst, c.ctrl...)
		c.pool.Put(c.ctrl)
		c.ctrl = nil
	}
	if len(c.seq) > 0 {
		dst = append(dst, c.seq...)
		c.pool.Put(c.seq)
		c.seq = nil
	}
	if c.err != nil {
		return dst
	}
	return c.writeBodies(dst, start, room)
}

// writeBodies appends DATA, what follows it and what ends without it.
func (c *Conn) writeBodies(dst []byte, start, room int) []byte {
	limit := start + min(room, outputBytes+len(dst)-start)
	for c.ready.first != nil && len(dst) < limit {
		s := c.ready.first
		c.unwait(s)
		if !s.sendable() {
			continue // SETTINGS took its window while it stood in line
		}
		if s.queue.n == 0 {
			dst = c.writeEnd(dst, s)
			continue
		}
		if c.connSend <= 0 {
			s.where = &c.blocked
			c.blocked.pushBack(s)
			continue
		}
		n := c.piece(s)
		if left := limit - len(dst) - frameHeaderLen; left < n && (left < smallPiece && len(dst) > start || left <= 0) {
			s.where = &c.ready
			c.ready.pushFront(s)
			break
		} else if left < n {
			n = left
		}
		dst = c.writeData(dst, s, n)
		if !s.closed {
			c.schedule(s)
		}
	}
	return dst
}

// piece is how much of s may leave in one frame.
func (c *Conn) piece(s *Stream) int {
	return int(min(int64(s.queue.n), pieceBytes, int64(c.peerFrameSize), s.sendWin, c.connSend))
}

func (c *Conn) writeData(dst []byte, s *Stream, n int) []byte {
	h := frameHeader{length: n, typ: frameData, id: s.ID}
	last := n == s.queue.n && s.sendEnd
	if last && s.trailers == nil {
		h.flags = flagEndStream
	}
	if n == s.queue.n || n >= smallPiece {
		// Honest work: not a window opened by the byte. Clients return credit, for
		// the stream and for the connection, as often as every 4 KiB (Go) or less.
		c.meters.windows.advance(2 + n/512)
		c.meters.pings.earn()
	}
	dst = s.queue.pull(appendFrameHeader(dst, h), n, c.pool, c.sh)
	if s.ahead -= n; s.ahead <= 0 {
		s.since, s.ahead = c.now, s.queue.n
	}
	s.sendWin -= int64(n)
	c.connSend -= int64(n)
	if !s.muted {
		c.addDrained(s, n)
	}
	if !last {
		return dst
	}
	if s.trailers != nil {
		return c.writeEnd(dst, s)
	}
	return c.finish(dst, s)
}

// writeEnd ends s, whose queue is empty, with its trailers or an empty DATA
// frame.
func (c *Conn) writeEnd(dst []byte, s *Stream) []byte {
	if s.trailers == nil {
		dst = appendFrameHeader(dst, frameHeader{typ: frameData, flags: flagEndStream, id: s.ID})
		return c.finish(dst, s)
	}
	start := len(dst)
	dst = c.enc.Begin(append(dst, "123456789"...))
	for b := s.trailers; len(b) > 0; {
		f, rest := unpackField(b)
		b = rest
		if c.adapt(&f) {
			dst = c.enc.AppendField(dst, f)
		}
	}
	c.pool.Put(s.trailers)
	s.trailers = nil
	return c.finish(endBlock(dst, start, s.ID, true), s)
}

// finish notes that END_STREAM of s was written, and resets what the owner let
// go of.
func (c *Conn) finish(dst []byte, s *Stream) []byte {
	if s.rstLater && !s.recvEnd {
		s.sentEnd = true
		dst = appendRST(dst, s.ID, ErrCodeNo)
		c.remember(s.ID)
		c.closeStream(s)
		return dst
	}
	c.ended(s)
	return dst
}

func (c *Conn) addDrained(s *Stream, n int) {
	s.drained += n
	if s.inDrain {
		return
	}
	s.inDrain = true
	s.next = nil
	if c.drain.last == nil {
		c.drain.first = s
	} else {
		c.drain.last.next = s
	}
	c.drain.last = s
}

// Drained returns the streams whose queues Output wrote from, n body bytes each,
// so that owners give credit to their source; call until !ok after each Output.
// A stream may be closed by then (Closed).
func (c *Conn) Drained() (s *Stream, n int, ok bool) {
	for c.drain.first != nil {
		s = c.drain.first
		c.drain.first = s.next
		if c.drain.first == nil {
			c.drain.last = nil
		}
		s.next, s.inDrain = nil, false
		if n = s.drained; n > 0 {
			s.drained = 0
			return s, n, true
		}
	}
	return nil, 0, false
}
