package h2

import (
	"encoding/binary"

	"github.com/tulle-mesh/tulle/proxy/slab"
)

// onHeaders takes a HEADERS frame (RFC 9113, section 6.2).
func (c *Conn) onHeaders(b []byte) {
	h := c.hdr
	if h.has(flagPadded) {
		if len(b) == 0 {
			c.fail(ErrCodeFrameSize, "padded HEADERS without a pad length")
			return
		}
		pad := int(b[0])
		b = b[1:]
		if pad > len(b) {
			c.fail(ErrCodeProtocol, "more padding than payload")
			return
		}
		b = b[:len(b)-pad]
	}
	c.selfDep = false
	if h.has(flagPriority) {
		if len(b) < 5 {
			c.fail(ErrCodeFrameSize, "HEADERS too short for its priority")
			return
		}
		c.selfDep = binary.BigEndian.Uint32(b)&maxStreamID == h.id
		b = b[5:]
	}
	if h.has(flagEndHeaders) {
		c.headBlock(h, b)
		return
	}
	if len(b) == 0 && !c.spendEmpty() {
		return
	}
	c.inBlock, c.blockHdr, c.fragments = true, h, 1
	c.block = c.pool.Append(c.block[:0], b...)
}

// maxFragments bounds the frames of one header block, 2*HeaderBytes its bytes:
// without END_HEADERS nothing else ever would (R4.5, CVE-2024-24549 and others).
const maxFragments = 128

func (c *Conn) onContinuation(b []byte) {
	c.fragments++
	if len(b) == 0 && !c.spendEmpty() {
		return
	}
	if c.fragments > maxFragments || len(c.block)+len(b) > 2*c.cfg.HeaderBytes {
		c.fail(ErrCodeEnhanceYourCalm, "header block too large")
		return
	}
	c.block = c.pool.Append(c.block, b...)
	if c.hdr.has(flagEndHeaders) {
		// The event aliases the block, which therefore stays until Stash.
		c.inBlock = false
		c.headBlock(c.blockHdr, c.block)
	}
}

// headBlock handles a whole header block. Whatever becomes of it, it is decoded:
// the table is the connection's (RFC 9113, section 4.3).
func (c *Conn) headBlock(h frameHeader, b []byte) {
	s := c.table.get(h.id)
	switch {
	case s == nil && c.cfg.Client, s == nil && h.id&1 == 0, s == nil && h.id <= c.lastPeer:
		c.lateHead(h, b)
	case s == nil:
		c.request(h, b)
	case s.recvEnd:
		if c.discard(b) {
			c.streamError(s, ErrCodeStreamClosed, "HEADERS after the end")
		}
	case c.selfDep:
		if c.discard(b) {
			c.streamError(s, ErrCodeProtocol, "stream depends on itself")
		}
	case s.muted:
		if c.discard(b) {
			s.recvEnd = s.recvEnd || h.has(flagEndStream)
		}
	case c.cfg.Client && !s.gotHead:
		c.response(s, h, b)
	default:
		c.gotTrailers(s, h, b)
	}
}

// lateHead is about a head for a stream that is not open.
func (c *Conn) lateHead(h frameHeader, b []byte) {
	switch {
	case c.idle(h.id):
		c.fail(ErrCodeProtocol, "HEADERS on an idle stream")
	case c.wasReset(h.id):
		if c.discard(b) {
			c.spendIgnored()
		}
	case !c.cfg.Client && c.skipped(h.id):
		c.fail(ErrCodeProtocol, "stream id does not grow")
	default:
		c.fail(ErrCodeStreamClosed, "HEADERS on a closed stream")
	}
}

// request opens a stream (server role), or refuses it.
func (c *Conn) request(h frameHeader, b []byte) {
	c.peerOpened(h.id)
	switch {
	case c.left && h.id > c.lastTake:
		c.refuse(h.id, b, ReasonLeaving)
		return
	case c.table.n >= int(c.cfg.MaxConcurrentStreams):
		c.refuse(h.id, b, ReasonStreams)
		return
	case c.pool.Level() == slab.LevelFull:
		c.refuse(h.id, b, ReasonMemory)
		return
	}
	p := c.decode(modeRequest, b)
	switch {
	case c.err != nil:
	case c.selfDep:
		c.malformed(h.id, "stream depends on itself")
	case p.bad != "":
		c.malformed(h.id, p.bad)
	case p.over != 0:
		c.tooLarge(h, p.over)
	case h.has(flagEndStream) && p.head.Length > 0 && !p.head.IsConnect():
		c.malformed(h.id, "body shorter than content-length")
	default:
		c.accept(h, p)
	}
}

func (c *Conn) accept(h frameHeader, p parsed) {
	s := c.newStream(h.id)
	s.tunnel = p.head.IsConnect()
	s.extended = p.head.Upgrade != nil
	end := h.has(flagEndStream)
	c.setBody(s, p, end)
	c.ev = Event{Kind: EventHead, Stream: s, Head: p.head, End: end}
}

// setBody notes what of a body may follow a head.
func (c *Conn) setBody(s *Stream, p parsed, end bool) {
	s.recvEnd = end
	if !end {
		p.head.Framing = headFramingStream
		if !s.tunnel && !s.noBody {
			s.bodyLeft = p.head.Length
		}
	}
}

// refuse discards a request that was not looked at (R4.2, R4.3).
func (c *Conn) refuse(id uint32, b []byte, why string) {
	// Once our limit was acknowledged, exceeding it is a fault.
	fault := why == ReasonStreams && c.selfAcked
	if !c.discard(b) || fault && !c.spendReset() {
		return
	}
	c.rst(id, ErrCodeRefusedStream)
	c.ev = Event{Kind: EventRefused, Code: ErrCodeRefusedStream, Reason: why}
}

// malformed resets a stream that its owner never saw (RFC 9113, section 8.1.1).
func (c *Conn) malformed(id uint32, reason string) {
	if c.spendReset() {
		c.rst(id, ErrCodeProtocol)
		c.ev = Event{Kind: EventRefused, Code: ErrCodeProtocol, Local: true, Reason: reason}
	}
}

// tooLarge answers a request whose head is over a limit of R1.5 with a status.
func (c *Conn) tooLarge(h frameHeader, status int) {
	if !c.spendReset() {
		return
	}
	c.answer(h.id, status)
	if h.has(flagEndStream) {
		c.remember(h.id)
	} else {
		c.rst(h.id, ErrCodeNo)
	}
	c.ev = Event{Kind: EventRefused, N: status, Local: true, Reason: "head too large"}
}

// response takes a response head (client role).
func (c *Conn) response(s *Stream, h frameHeader, b []byte) {
	p := c.decode(modeResponse, b)
	end := h.has(flagEndStream)
	if c.err != nil {
		return
	}
	if p.bad == "" && p.over == 0 && p.head.Status >= 200 {
		s.noBody = s.headReq || p.head.Status == 204 || p.head.Status == 304
	}
	switch {
	case p.bad != "":
		c.streamError(s, ErrCodeProtocol, p.bad)
	case p.over != 0:
		c.streamError(s, ErrCodeEnhanceYourCalm, "head too large")
	case p.head.Status < 200 && end:
		c.streamError(s, ErrCodeProtocol, "interim response ends the stream")
	case p.head.Status < 200:
		if c.spendIgnored() {
			c.ev = Event{Kind: EventInfo, Stream: s, Head: p.head}
		}
	case end && p.head.Length > 0 && !s.noBody && !s.tunnel:
		c.streamError(s, ErrCodeProtocol, "body shorter than content-length")
	default:
		s.gotHead = true
		if s.tunnel && p.head.Status >= 300 {
			s.tunnel = false
		}
		c.setBody(s, p, end)
		c.ev = Event{Kind: EventHead, Stream: s, Head: p.head, End: end}
		c.closeIfDone(s)
	}
}

// gotTrailers takes the fields that end a stream (RFC 9113, section 8.1).
func (c *Conn) gotTrailers(s *Stream, h frameHeader, b []byte) {
	p := c.decode(modeTrailers, b)
	switch {
	case c.err != nil:
	case p.bad != "":
		c.streamError(s, ErrCodeProtocol, p.bad)
	case !h.has(flagEndStream):
		c.streamError(s, ErrCodeProtocol, "second head does not end the stream")
	case s.tunnel:
		c.streamError(s, ErrCodeProtocol, "trailers in a tunnel")
	case p.over != 0:
		c.streamError(s, ErrCodeEnhanceYourCalm, "trailers too large")
	case s.bodyLeft > 0:
		c.streamError(s, ErrCodeProtocol, "body shorter than content-length")
	default:
		s.recvEnd = true
		c.ev = Event{Kind: EventTrailers, Stream: s, Head: p.head, End: true}
		c.closeIfDone(s)
	}
}
