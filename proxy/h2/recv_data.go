package h2

// dataFrame is the DATA frame that is being received: its bytes are handed on as
// they come, so that no frame has to be kept whole.
type dataFrame struct {
	s      *Stream // nil: nobody wants the bytes
	left   int     // of the content
	pad    int     // of the padding
	active bool
	end    bool
}

// beginData accounts for a DATA frame by its header (RFC 9113, section 6.1). The
// whole frame counts against both windows, padding and all, whatever the state
// of its stream.
func (c *Conn) beginData() bool {
	h := c.hdr
	d := dataFrame{left: h.length, active: true, end: h.has(flagEndStream)}
	if h.has(flagPadded) {
		if h.length == 0 {
			c.fail(ErrCodeFrameSize, "padded DATA without a pad length")
			return true
		}
		b := c.take(1)
		if b == nil {
			return false
		}
		d.pad = int(b[0])
		d.left -= 1 + d.pad
		if d.left < 0 {
			c.fail(ErrCodeProtocol, "more padding than payload")
			return true
		}
	}
	c.inFrame = false
	if int64(h.length) > c.connRecv {
		c.fail(ErrCodeFlowControl, "connection window exceeded")
		return true
	}
	c.connRecv -= int64(h.length)
	c.data = d
	c.creditConn(h.length - d.left - d.pad)
	s := c.table.get(h.id)
	if s == nil {
		c.lateData()
		return true
	}
	if code, reason := c.judgeData(s, d.left); reason != "" {
		c.streamError(s, code, reason)
		return true
	}
	c.acceptData(s, d.left)
	return true
}

// lateData is about DATA for a stream that is not open: the connection's credit
// is all that counts.
func (c *Conn) lateData() {
	switch id := c.hdr.id; {
	case c.idle(id):
		c.fail(ErrCodeProtocol, "DATA on an idle stream")
	case !c.wasReset(id):
		if c.spendReset() {
			c.rst(id, ErrCodeStreamClosed)
		}
	case c.hdr.length == 0:
		c.spendIgnored()
	}
}

// judgeData says what is wrong with DATA of n bytes of content for s.
func (c *Conn) judgeData(s *Stream, n int) (ErrCode, string) {
	switch {
	case s.recvEnd:
		return ErrCodeStreamClosed, "DATA after the end"
	case c.cfg.Client && !s.gotHead:
		return ErrCodeProtocol, "DATA before the head"
	case int64(c.hdr.length) > int64(s.recvWin):
		return ErrCodeFlowControl, "stream window exceeded"
	case s.noBody && n > 0:
		return ErrCodeProtocol, "body where none is allowed"
	case s.bodyLeft >= 0 && int64(n) > s.bodyLeft:
		return ErrCodeProtocol, "body longer than content-length"
	case s.bodyLeft > int64(n) && c.hdr.has(flagEndStream):
		return ErrCodeProtocol, "body shorter than content-length"
	}
	return ErrCodeNo, ""
}

func (c *Conn) acceptData(s *Stream, n int) {
	if n == 0 && !c.data.end && !c.spendEmpty() {
		return
	}
	s.recvWin -= int32(c.hdr.length)
	if s.recvWin < s.size/4 {
		s.starved = true
	}
	if s.bodyLeft >= 0 {
		s.bodyLeft -= int64(n)
	}
	if s.muted {
		// It will be reset: no credit for what nobody takes.
		s.recvEnd = c.data.end
		return
	}
	c.data.s = s
	s.held += int32(n)
	s.owed += int32(c.hdr.length - n)
	if c.hdr.length > n {
		c.creditStream(s)
	}
}

// dataPiece hands on what is there of the frame.
func (c *Conn) dataPiece() bool {
	d := &c.data
	b := c.peek()
	if len(b) == 0 && d.left+d.pad > 0 {
		return false
	}
	if n := min(d.left, len(b)); n > 0 {
		c.advance(n)
		d.left -= n
		c.creditConn(n)
		if d.s != nil {
			c.ev = Event{Kind: EventData, Stream: d.s, Data: b[:n:n]}
		}
	} else {
		n = min(d.pad, len(b))
		c.advance(n)
		d.pad -= n
		c.creditConn(n)
	}
	if d.left+d.pad == 0 {
		c.endData()
	}
	return true
}

// endData finishes the frame; the last piece carries its END_STREAM.
func (c *Conn) endData() {
	s, end := c.data.s, c.data.end
	c.data = dataFrame{}
	if s == nil || !end {
		return
	}
	if c.ev.Kind == 0 {
		c.ev = Event{Kind: EventData, Stream: s}
	}
	c.ev.End = true
	s.recvEnd = true
	c.closeIfDone(s)
}

// creditConn returns connection credit: bytes have been handed on or thrown away
// (R4.2).
func (c *Conn) creditConn(n int) {
	c.connOwed += int64(n)
	if c.connOwed < int64(c.cfg.ConnWindow)/2 {
		return
	}
	var buf [13]byte
	c.ctrl = c.pool.Append(c.ctrl, appendWindowUpdate(buf[:0], 0, uint32(c.connOwed))...)
	c.connRecv += c.connOwed
	c.connOwed = 0
}

// Consume says that n body bytes of s were passed on: the peer gets credit.
func (c *Conn) Consume(s *Stream, n int) {
	if s.closed || s.muted {
		return
	}
	n = min(n, int(s.held))
	s.held -= int32(n)
	s.owed += int32(n)
	c.creditStream(s)
}

// creditStream returns stream credit once it is half a window.
func (c *Conn) creditStream(s *Stream) {
	if s.recvEnd || s.owed < s.size/2 {
		return
	}
	c.fitWindow(s)
	s.starved = false
	if s.owed == 0 {
		return
	}
	var buf [13]byte
	c.ctrl = c.pool.Append(c.ctrl, appendWindowUpdate(buf[:0], s.ID, uint32(s.owed))...)
	s.recvWin += s.owed
	s.owed = 0
}

// fitWindow changes a window whose credit is due. It grows when the peer used it
// up while the owner kept pace: then it is the way between that is long. A slow
// owner would only keep more (R4.2). It shrinks, by credit that is not returned,
// when it was lent more than its share of the budget is now.
func (c *Conn) fitWindow(s *Stream) {
	b := c.pool.Budget()
	if back := min(int32(b.Excess(int(s.lent))), s.owed); back > 0 {
		s.resize(-back)
		b.Return(int(back))
		return
	}
	if !s.starved || s.size >= c.cfg.MaxWindow || s.held > s.size/4 {
		return
	}
	if grow := min(s.size, c.cfg.MaxWindow-s.size); b.Lend(int(grow), int(s.lent)) {
		s.resize(grow)
	}
}

// resize changes a window and the credit that is due by n.
func (s *Stream) resize(n int32) {
	s.size += n
	s.owed += n
	s.lent += n
}
