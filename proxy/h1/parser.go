package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// Feed gives the parser b, which must stay valid until Stash.
func (p *Parser) Feed(b []byte) {
	if len(p.stash) > 0 {
		p.stash = p.pool.Append(p.stash, b...)
		p.in, p.own = p.stash, true
	} else {
		p.in, p.own = b, false
	}
	p.pos = 0
}

// Stash keeps what was not consumed and returns how much that is.
func (p *Parser) Stash() int {
	rest := p.in[p.pos:]
	switch {
	case len(rest) == 0:
		p.pool.Put(p.stash)
		p.stash = nil
	case p.own:
		p.stash = p.stash[:copy(p.stash, rest)]
	case p.in != nil:
		p.stash = p.pool.Append(nil, rest...)
	}
	p.in, p.pos, p.own = nil, 0, false
	return len(p.stash)
}

// Rest is what was not consumed: the early bytes of a tunnel.
func (p *Parser) Rest() []byte {
	if p.in != nil {
		return p.in[p.pos:]
	}
	return p.stash
}

// Idle reports whether the parser is between messages and holds nothing.
func (p *Parser) Idle() bool {
	return p.state == stateHead && len(p.Rest()) == 0
}

// Close gives the parser's memory back.
func (p *Parser) Close() {
	p.pool.Put(p.stash)
	p.stash, p.in, p.pos, p.own = nil, nil, 0, false
	p.state = stateFailed
}

// NextMessage goes on to the next message. In the client role it also comes
// before the first one; exp is what the response answers.
func (p *Parser) NextMessage(exp Expect) {
	if p.state == stateDone || p.state == stateHead {
		p.state, p.exp = stateHead, exp
		p.lines = scan{}
	}
}

// EOF says that the peer has half-closed: that ends a close-delimited body, is
// nothing between messages, and cuts any other message.
func (p *Parser) EOF() (Event, bool) {
	switch p.state {
	case stateClose:
		p.state = stateDone
		return Event{Kind: EventEnd}, true
	case stateDone, stateTunnel, stateFailed:
		return Event{}, false
	case stateHead:
		if len(p.Rest()) == 0 {
			return Event{}, false
		}
	case stateLength, stateChunkSize, stateChunkData, stateChunkEnd, stateTrailers, stateEnd:
	}
	return p.fail(&Error{Reason: "message cut short", Truncated: true})
}

func (p *Parser) fail(e *Error) (Event, bool) {
	p.state = stateFailed
	p.failed = *e
	return Event{Kind: EventError, Err: &p.failed}, true
}

// Next returns the next event; false when more bytes, or NextMessage, must come
// first.
func (p *Parser) Next() (Event, bool) {
	for {
		switch p.state {
		case stateHead:
			return p.nextHead()
		case stateLength, stateChunkData:
			return p.nextBody()
		case stateClose:
			return p.data(len(p.in) - p.pos)
		case stateChunkSize:
			if ok, err := p.chunkSize(); err != nil {
				return p.fail(err)
			} else if !ok {
				return Event{}, false
			}
		case stateChunkEnd:
			if ok, err := p.chunkEnd(); err != nil {
				return p.fail(err)
			} else if !ok {
				return Event{}, false
			}
		case stateTrailers:
			return p.nextTrailers()
		case stateEnd:
			p.state = stateDone
			return Event{Kind: EventEnd}, true
		case stateDone, stateTunnel, stateFailed:
			return Event{}, false
		}
	}
}

func (p *Parser) data(n int) (Event, bool) {
	if n == 0 {
		return Event{}, false
	}
	b := p.in[p.pos : p.pos+n]
	p.pos += n
	return Event{Kind: EventData, Data: b}, true
}

func (p *Parser) nextBody() (Event, bool) {
	n := min(int64(len(p.in)-p.pos), p.left)
	p.left -= n
	if p.left == 0 {
		if p.state == stateLength {
			p.state = stateEnd
		} else {
			p.state = stateChunkEnd
		}
	}
	return p.data(int(n))
}

func (p *Parser) nextHead() (Event, bool) {
	b := p.in[p.pos:]
	if p.role == Server && p.lines.at == 0 {
		// One empty line before a request is forgiven (RFC 9112, section 2.2).
		if len(b) == 1 && b[0] == '\r' {
			return Event{}, false
		}
		if !p.lines.skipped && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			p.pos += 2
			p.lines.skipped = true
			b = b[2:]
		}
	}
	n, err := p.lines.find(b, &p.lim)
	if err != nil {
		return p.fail(err)
	}
	if n == 0 {
		return Event{}, false
	}
	p.pos += n
	p.lines = scan{}
	p.h.Reset()
	if p.role == Server {
		err = parseRequest(b[:n], &p.lim, &p.h)
	} else {
		err = parseResponse(b[:n], &p.lim, &p.h)
	}
	if err != nil {
		return p.fail(err)
	}
	if p.role == Client {
		return p.response()
	}
	p.body()
	return Event{Kind: EventHead, Head: &p.h}, true
}

// response decides what follows a response's head (RFC 9112, section 6.3).
func (p *Parser) response() (Event, bool) {
	h := &p.h
	switch {
	case h.Status == 101:
		if !p.exp.Upgrade {
			return p.fail(&Error{Status: 502, Reason: "101 that nobody asked for"})
		}
		p.state = stateTunnel
		return Event{Kind: EventTunnel, Head: h}, true
	case h.Status < 200:
		return Event{Kind: EventInfo, Head: h}, true
	case p.exp.Connect && h.Status < 300:
		p.state = stateTunnel
		return Event{Kind: EventTunnel, Head: h}, true
	case p.exp.Head || h.Status == 204 || h.Status == 304:
		h.Framing = head.FramingNone
	case h.Framing == head.FramingNone:
		h.Framing = head.FramingClose
		h.Close = true
	}
	p.body()
	return Event{Kind: EventHead, Head: h}, true
}

// body sets the state that reads the body of h.
func (p *Parser) body() {
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

// chunkSize reads "size [ext] CRLF"; false when it is not all there.
func (p *Parser) chunkSize() (bool, *Error) {
	b := p.in[p.pos:]
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		if len(b) > maxChunkLine {
			return false, bad("chunk size line too long")
		}
		return false, nil
	}
	if i > maxChunkLine {
		return false, bad("chunk size line too long")
	}
	if i == 0 || b[i-1] != '\r' {
		return false, bad("bare LF in a chunk size")
	}
	n, err := parseChunkSize(b[:i-1])
	if err != nil {
		return false, err
	}
	p.pos += i + 1
	p.left = n
	p.state = stateChunkData
	if n == 0 {
		p.state = stateTrailers
		p.lines = scan{trailers: true}
	}
	return true, nil
}

func parseChunkSize(line []byte) (int64, *Error) {
	var n int64
	i := 0
	for ; i < len(line); i++ {
		d := unhex(line[i])
		if d < 0 {
			break
		}
		if n >= 1<<55 {
			return 0, bad("chunk size overflows")
		}
		n = n<<4 | int64(d)
	}
	if i == 0 {
		return 0, bad("chunk without a size")
	}
	rest := line[i:]
	for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	if len(rest) == 0 && i < len(line) || len(rest) > 0 && rest[0] != ';' {
		return 0, bad("bad byte after a chunk size")
	}
	for _, c := range rest {
		if valueBad(c) {
			return 0, bad("control byte in a chunk extension")
		}
	}
	return n, nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// chunkEnd reads the CRLF behind a chunk's data.
func (p *Parser) chunkEnd() (bool, *Error) {
	b := p.in[p.pos:]
	switch {
	case len(b) >= 1 && b[0] != '\r', len(b) >= 2 && b[1] != '\n':
		return false, bad("chunk longer than its size")
	case len(b) < 2:
		return false, nil
	}
	p.pos += 2
	p.state = stateChunkSize
	return true, nil
}

func (p *Parser) nextTrailers() (Event, bool) {
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
	if n == 2 {
		p.state = stateDone
		return Event{Kind: EventEnd}, true
	}
	p.trail.Reset()
	if err := parseTrailers(b[:n], &p.lim, &p.trail); err != nil {
		return p.fail(err)
	}
	p.state = stateEnd
	return Event{Kind: EventTrailers, Head: &p.trail}, true
}

// scan finds the end of a head, remembering how far it got, so that a head that
// dribbles is looked at once.
type scan struct {
	at       int // up to here no end was found
	line     int // where the line begins that at is in
	first    bool
	skipped  bool
	trailers bool
}

// find returns the length of the head at the start of b with its empty line, 0
// while it is not all there.
func (s *scan) find(b []byte, lim *Limits) (int, *Error) {
	for {
		i := bytes.IndexByte(b[s.at:], '\n')
		if i < 0 {
			s.at = len(b)
			return 0, s.tooLong(len(b), lim)
		}
		end := s.at + i
		if end == 0 || b[end-1] != '\r' || end-1 < s.line {
			return 0, bad("bare LF in a head")
		}
		s.at = end + 1
		if end-1 == s.line && (s.first || s.trailers) {
			if err := s.tooLong(end, lim); err != nil {
				return 0, err
			}
			return end + 1, nil
		}
		if end-1 == s.line {
			return 0, bad("empty line where a message should begin")
		}
		if err := s.tooLong(end, lim); err != nil {
			return 0, err
		}
		s.first = true
		s.line = end + 1
	}
}

// startLineSlack is what a start line has besides its target.
const startLineSlack = 64

func (s *scan) tooLong(n int, lim *Limits) *Error {
	if !s.first && !s.trailers && n-s.line > lim.TargetBytes+startLineSlack {
		return &Error{Status: 414, Reason: "request target too long"}
	}
	if n > lim.HeaderBytes {
		return &Error{Status: 431, Reason: "head too large"}
	}
	return nil
}
