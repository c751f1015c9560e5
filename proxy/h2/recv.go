package h2

import (
	"encoding/binary"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// reader is the receiving half's place in the byte stream.
type reader struct {
	in       []byte // what was fed and not consumed
	stash    []byte // slab: what comes before in
	stashAt  int    // stash[stashAt:] is not consumed
	prefaced bool   // the client's preface was read
	inFrame  bool   // hdr is a frame whose payload is not consumed
	skip     int    // payload bytes to throw away
	hdr      frameHeader
	data     dataFrame
	ev       Event // what the current step tells

	// A header block that continues (RFC 9113, section 4.3).
	inBlock   bool
	blockHdr  frameHeader // of its HEADERS frame
	block     []byte      // slab
	partSince mono.Time   // when stash or block began to wait for more; 0: they are empty
	fragments int
	selfDep   bool
}

// Feed gives the engine what was read. b must stay valid until Stash.
func (c *Conn) Feed(b []byte) {
	if len(c.in) > 0 {
		c.Stash()
	}
	c.in = b
}

// Stash copies what was not consumed into the engine's own memory and returns
// its length; a connection with nothing left over owns no buffer. It ends the
// use of the bytes given to Feed and of all events.
func (c *Conn) Stash() int {
	rest := c.stash[c.stashAt:]
	if len(rest) > 0 && c.stashAt > 0 {
		c.stash = c.stash[:copy(c.stash, rest)]
	} else if len(rest) == 0 {
		c.stash = c.stash[:0]
	}
	c.stashAt = 0
	if len(c.in) > 0 {
		c.stash = c.pool.Append(c.stash, c.in...)
	}
	c.in = nil
	if len(c.stash) == 0 {
		c.pool.Put(c.stash)
		c.stash = nil
	}
	c.ev = Event{} // or it would keep what was fed
	if !c.inBlock {
		c.pool.Put(c.block)
		c.block = nil
	}
	switch {
	case len(c.stash)+len(c.block) == 0:
		c.partSince = 0
	case c.partSince == 0:
		c.partSince = c.now
	}
	c.freeSpace()
	c.reap()
	return len(c.stash)
}

func (c *Conn) freeSpace() {
	if c.space != nil {
		c.sh.freeSpace(c.space)
		c.space = nil
	}
}

// peek returns bytes that were not consumed, not necessarily all.
func (r *reader) peek() []byte {
	if r.stashAt < len(r.stash) {
		return r.stash[r.stashAt:]
	}
	return r.in
}

// advance consumes n bytes of what peek returned.
func (r *reader) advance(n int) {
	if r.stashAt < len(r.stash) {
		r.stashAt += n
	} else {
		r.in = r.in[n:]
	}
}

// take consumes n bytes in one piece, or returns nil when they are not there.
func (c *Conn) take(n int) []byte {
	rest := len(c.stash) - c.stashAt
	if rest == 0 {
		if len(c.in) < n {
			return nil
		}
		b := c.in[:n:n]
		c.in = c.in[n:]
		return b
	}
	if rest < n {
		k := min(n-rest, len(c.in))
		c.stash = c.stash[:copy(c.stash, c.stash[c.stashAt:])]
		c.stashAt = 0
		c.stash = c.pool.Append(c.stash, c.in[:k]...)
		c.in = c.in[k:]
		if rest+k < n {
			return nil
		}
	}
	b := c.stash[c.stashAt : c.stashAt+n]
	c.stashAt += n
	return b
}

// Next returns the next event; its content dies at the next call of Next, Feed
// or Stash.
func (c *Conn) Next(now mono.Time) (Event, bool) {
	c.now = now
	c.ev.Kind = 0
	if len(c.in) > 0 {
		c.activity = now
	}
	for {
		if c.err != nil {
			return c.lastEvent()
		}
		progress := true
		if c.sweeping {
			c.sweep()
		} else {
			progress = c.step()
		}
		if c.ev.Kind != 0 {
			return c.ev, true
		}
		if !progress && c.err == nil {
			return Event{}, false
		}
	}
}

func (c *Conn) lastEvent() (Event, bool) {
	if c.errTold {
		return Event{}, false
	}
	c.errTold = true
	return Event{Kind: EventError, Code: c.err.Code, Err: c.err}, true
}

// step consumes the next unit of input: a header, a payload, a piece of DATA. It
// returns false when there is too little input.
func (c *Conn) step() bool {
	switch {
	case c.data.active:
		return c.dataPiece()
	case c.skip > 0:
		b := c.peek()
		n := min(c.skip, len(b))
		c.advance(n)
		c.skip -= n
		return n > 0
	case c.inFrame && c.hdr.typ == frameData:
		return c.beginData()
	case c.inFrame:
		b := c.take(c.hdr.length)
		if b == nil && c.hdr.length > 0 {
			return false
		}
		c.inFrame = false
		c.frame(b)
		return true
	case !c.prefaced:
		return c.readPreface()
	}
	b := c.take(frameHeaderLen)
	if b == nil {
		return false
	}
	c.hdr = parseFrameHeader(b)
	if !c.inBlock { // what waits now is another frame
		c.partSince = 0
	}
	c.begin()
	return true
}

func (c *Conn) readPreface() bool {
	b := c.take(len(preface))
	if b == nil {
		return false
	}
	c.prefaced = true
	if string(b) != preface {
		c.fail(ErrCodeProtocol, "bad connection preface")
	}
	return true
}

// begin judges a frame by its header, before its payload is waited for. It is
// one switch over the frame types of RFC 9113, section 6.
func (c *Conn) begin() {
	h := &c.hdr
	switch {
	case h.length > int(c.cfg.MaxFrameSize):
		c.fail(ErrCodeFrameSize, "frame too large")
		return
	case !c.peerSeen && (h.typ != frameSettings || h.has(flagAck)):
		c.fail(ErrCodeProtocol, "first frame is not SETTINGS")
		return
	case c.inBlock && (h.typ != frameContinuation || h.id != c.blockHdr.id):
		c.fail(ErrCodeProtocol, "header block interrupted")
		return
	}
	stream, length := true, -1 // what the type demands of id and length
	switch h.typ {
	case frameData, frameHeaders:
	case framePriority:
		if h.id != 0 && h.length != 5 {
			c.badPriority(ErrCodeFrameSize, "PRIORITY of a wrong length")
			return
		}
	case frameRSTStream:
		length = 4
	case frameSettings:
		stream = false
		if h.length%6 != 0 || h.has(flagAck) && h.length != 0 {
			length = 0
		}
	case framePushPromise:
		c.fail(ErrCodeProtocol, "PUSH_PROMISE was not allowed")
		return
	case framePing:
		stream, length = false, 8
	case frameGoAway:
		stream, length = false, max(h.length, 8)
	case frameWindowUpdate:
		stream, length = h.id != 0, 4
	case frameContinuation:
		if !c.inBlock {
			c.fail(ErrCodeProtocol, "CONTINUATION without HEADERS")
			return
		}
	default:
		// RFC 9113, section 5.5: unknown types are ignored.
		if c.spendIgnored() {
			c.skip = h.length
		}
		return
	}
	switch {
	case stream != (h.id != 0):
		c.fail(ErrCodeProtocol, "frame on a wrong stream")
	case length >= 0 && h.length != length:
		c.fail(ErrCodeFrameSize, "frame of a wrong length")
	default:
		c.inFrame = true
	}
}

// frame handles a whole frame other than DATA.
func (c *Conn) frame(b []byte) {
	switch c.hdr.typ {
	case frameHeaders:
		c.onHeaders(b)
	case frameContinuation:
		c.onContinuation(b)
	case framePriority:
		c.onPriority(b)
	case frameRSTStream:
		c.onReset(ErrCode(binary.BigEndian.Uint32(b)))
	case frameSettings:
		c.onSettings(b)
	case framePing:
		c.onPing(b)
	case frameGoAway:
		c.onGoAway(b)
	case frameWindowUpdate:
		c.onWindowUpdate(binary.BigEndian.Uint32(b) & maxWindow)
	}
}
