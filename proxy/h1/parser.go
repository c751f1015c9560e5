package h1

import (
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

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

// Parser reads one message after the other. Between messages, and after each
// Stash that kept nothing, it owns no memory but itself.
type Parser struct {
	// immutable
	pool *slab.Pool
	lim  Limits
	role Role

	// bytes
	own   bool   // in is stash
	in    []byte // what is parsed now: the caller's, or stash
	pos   int    // up to here in is consumed
	more  []byte // the caller's, to be parsed once the stash is used up
	stash []byte // of pool

	// the message
	h     *head.Head // lent by pool while events may refer to it
	state state
	exp   Expect
	lines scan
	left  int64 // of the body or the chunk
	spent int   // bytes of interim responses; overhead of chunks
}

// NewParser returns a parser of requests or responses. A nil pool allocates.
func NewParser(role Role, lim Limits, pool *slab.Pool) *Parser {
	return &Parser{role: role, lim: lim.withDefaults(), pool: pool}
}

// NextMessage goes on to the next message. In the client role it also comes
// before the first one; exp is what the response answers.
func (p *Parser) NextMessage(exp Expect) {
	switch p.state {
	case stateDone:
		p.state, p.lines, p.spent = stateHead, scan{}, 0
	case stateHead:
	case stateLength, stateClose, stateChunkSize, stateChunkData, stateChunkEnd, stateTrailers, stateEnd,
		stateTunnel, stateFailed:
		return
	}
	p.exp = exp
}

// EOF says that the peer has half-closed: that ends a close-delimited body, is
// nothing between messages, and cuts any other message.
func (p *Parser) EOF() (Event, bool) {
	switch p.state {
	case stateClose, stateEnd:
		p.state = stateDone
		return Event{Kind: EventEnd}, true
	case stateDone, stateTunnel, stateFailed:
		return Event{}, false
	case stateHead:
		if p.unread() == 0 {
			return Event{}, false
		}
	case stateLength, stateChunkSize, stateChunkData, stateChunkEnd, stateTrailers:
	}
	p.state = stateFailed
	return Event{Kind: EventError, Err: &Error{Reason: "message cut short", Truncated: true}}, true
}

func (p *Parser) fail(e *Error) (Event, bool) {
	p.state = stateFailed
	if p.role == Client {
		e.Status = 502
	}
	return Event{Kind: EventError, Err: e}, true
}

// Next returns the next event; false when more bytes, or NextMessage, must come
// first.
func (p *Parser) Next() (Event, bool) {
	for {
		if ev, ok := p.step(); ok || p.state >= stateDone || !p.refill() {
			return ev, ok
		}
	}
}

// step reads the next event from in.
func (p *Parser) step() (Event, bool) {
	for {
		var ok bool
		var err *Error
		switch p.state {
		case stateHead:
			return p.nextHead()
		case stateLength, stateChunkData:
			return p.nextBody()
		case stateClose:
			return p.data(len(p.in) - p.pos)
		case stateTrailers:
			return p.nextTrailers()
		case stateEnd:
			p.state = stateDone
			return Event{Kind: EventEnd}, true
		case stateChunkSize:
			ok, err = p.chunkSize()
		case stateChunkEnd:
			ok, err = p.chunkEnd()
		case stateDone, stateTunnel, stateFailed:
			return Event{}, false
		}
		if err != nil {
			return p.fail(err)
		}
		if !ok {
			return Event{}, false
		}
	}
}

func (p *Parser) nextHead() (Event, bool) {
	if p.role == Server && !p.begun() {
		return Event{}, false
	}
	b := p.in[p.pos:]
	n, err := p.lines.find(b, &p.lim)
	if err != nil {
		return p.fail(err)
	}
	if n == 0 {
		return Event{}, false
	}
	p.pos += n
	p.lines = scan{}
	h := p.lend()
	if p.role == Client {
		if err := parseResponse(b[:n], &p.lim, h); err != nil {
			return p.fail(err)
		}
		return p.response(n)
	}
	if err := parseRequest(b[:n], &p.lim, h); err != nil {
		return p.fail(err)
	}
	p.body()
	return Event{Kind: EventHead, Head: h}, true
}

// begun passes over one empty line before a request (RFC 9112, section 2.2);
// false when it cannot tell yet.
func (p *Parser) begun() bool {
	b := p.in[p.pos:]
	if p.lines.at > 0 || p.lines.skipped || len(b) == 0 || b[0] != '\r' {
		return true
	}
	if len(b) == 1 {
		return false
	}
	if b[1] == '\n' {
		p.pos += 2
		p.lines.skipped = true
	}
	return true
}

// response decides what follows a response's head of n bytes (RFC 9112, section
// 6.3).
func (p *Parser) response(n int) (Event, bool) {
	h := p.h
	switch {
	case h.Status == 101 && !p.exp.Upgrade:
		return p.fail(bad("101 that nobody asked for"))
	case h.Status == 101, p.exp.Connect && h.Status/100 == 2:
		p.state = stateTunnel
		unframe(h)
		return Event{Kind: EventTunnel, Head: h}, true
	case h.Status < 200:
		if p.spent += n; p.spent > p.lim.HeaderBytes {
			return p.fail(bad("too many interim responses"))
		}
		h.Framing = head.FramingNone
		return Event{Kind: EventInfo, Head: h}, true
	case p.exp.Head || h.Status == 204 || h.Status == 304:
		h.Framing = head.FramingNone
	case h.Framing == head.FramingNone:
		h.Framing = head.FramingClose
		h.Close = true
	}
	p.body()
	return Event{Kind: EventHead, Head: h}, true
}

// unframe takes what tells of a body out of a response that opens a tunnel: a
// client ignores it (RFC 9110, section 9.3.6), others might not.
func unframe(h *head.Head) {
	h.Framing, h.Length = head.FramingNone, -1
	removeField(h, "content-length")
	removeField(h, "transfer-encoding")
}

// body sets the state that reads the body of h.
func (p *Parser) body() {
	p.spent = 0
	switch p.h.Framing {
	case head.FramingLength:
		p.left = p.h.Length
		p.state = stateLength
		if p.left == 0 {
			p.state = stateEnd
		}
	case head.FramingChunked:
		p.state = stateChunkSize
	case head.FramingClose:
		p.state = stateClose
	case head.FramingNone, head.FramingStream:
		p.state = stateEnd
	}
}

// lend returns the parser's head, empty.
func (p *Parser) lend() *head.Head {
	if p.h == nil {
		p.h = p.pool.Head()
	}
	p.h.Reset()
	return p.h
}
