package h1

import (
	"bytes"
)

// Bounds of chunked framing, in bytes.
const (
	// maxChunkLine bounds a chunk's size line with its extensions.
	maxChunkLine = 1 << 10
	// maxOverhead bounds what chunk lines may cost beyond what the data between
	// them excuses: chunks of a byte with long extensions (CVE-2023-39326).
	maxOverhead = 16 << 10
	// maxSizeDigits bounds a chunk size, zeros in front included.
	maxSizeDigits = 15
)

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

// chunkSize reads "size [ext] CRLF"; false when it is not all there.
func (p *Parser) chunkSize() (bool, *Error) {
	b := p.in[p.pos:]
	i := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
	switch {
	case i < 0 && len(b) >= maxChunkLine:
		return false, bad("chunk size line too long")
	case i < 0:
		return false, nil
	case i == 0 || b[i-1] != '\r':
		return false, bad("bare LF in a chunk size")
	}
	n, err := parseChunkSize(b[:i-1])
	if err != nil {
		return false, err
	}
	p.spent = max(p.spent+i-16-2*int(min(n, maxOverhead)), 0)
	if p.spent > maxOverhead {
		return false, bad("chunks that are mostly overhead")
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

// parseChunkSize parses a size line without its CRLF (RFC 9112, section 7.1).
func parseChunkSize(line []byte) (int64, *Error) {
	var n int64
	i := 0
	for ; i < len(line); i++ {
		d := unhex(line[i])
		if d < 0 {
			break
		}
		if i == maxSizeDigits {
			return 0, bad("chunk size overflows")
		}
		n = n<<4 | int64(d)
	}
	if i == 0 {
		return 0, bad("chunk without a size")
	}
	ext := line[i:]
	if len(ext) == 0 {
		return n, nil
	}
	for len(ext) > 0 && isSpace(ext[0]) {
		ext = ext[1:]
	}
	if len(ext) == 0 || ext[0] != ';' {
		return 0, bad("bad byte after a chunk size")
	}
	if valueEnd(ext) != len(ext) {
		return 0, bad("control byte in a chunk extension")
	}
	return n, nil
}

func unhex(c byte) int {
	switch {
	case isDigit(c):
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
	p.state = stateDone
	if n == len(crlf) {
		return Event{Kind: EventEnd}, true
	}
	h := p.lend()
	if err := parseTrailers(b[:n], &p.lim, h); err != nil {
		return p.fail(err)
	}
	if len(h.Fields) == 0 {
		return Event{Kind: EventEnd}, true
	}
	p.state = stateEnd
	return Event{Kind: EventTrailers, Head: h}, true
}
