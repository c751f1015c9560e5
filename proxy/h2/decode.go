package h2

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

const headFramingStream = head.FramingStream

// mode is what a header block is.
type mode uint8

const (
	modeRequest mode = iota
	modeResponse
	modeTrailers
)

// Statuses for heads over a limit of R1.5.
const (
	statusHeadTooLarge   = 431
	statusTargetTooLarge = 414
)

// parsed is a decoded header block.
type parsed struct {
	head *head.Head
	bad  string // what makes it malformed (RFC 9113, section 8.1.1)
	over int    // the status that says what is too large, or 0
}

// pseudo are the pseudo-header fields that were seen, as bits.
type pseudo uint8

const (
	seenMethod pseudo = 1 << iota
	seenScheme
	seenAuthority
	seenPath
	seenProtocol
	seenStatus
)

// headParser turns fields into a head. It looks at every field once, in order.
type headParser struct {
	c       *Conn
	h       *head.Head
	mode    mode
	seen    pseudo
	host    []byte
	hosts   int
	lengths int
	cookies int
}

// discard decodes a header block for the table's sake alone; false: the
// connection has failed.
func (c *Conn) discard(b []byte) bool {
	sp := c.takeSpace()
	c.dec.Begin(b, sp.scratch[:0])
	c.dec.Skip()
	var f head.Field
	for {
		ok, err := c.dec.Next(&f)
		if err != nil {
			c.fail(ErrCodeCompression, "bad header block")
		}
		if err != nil || !ok {
			break
		}
	}
	sp.scratch = c.dec.Scratch()
	return c.err == nil
}

func (c *Conn) takeSpace() *space {
	if c.space == nil {
		c.space = c.sh.space()
	}
	return c.space
}

// decode decodes and validates a header block. After a fault or over a limit the
// rest is decoded for the table alone, so that one byte can never cost more than
// its field (R4.5).
func (c *Conn) decode(m mode, b []byte) (out parsed) {
	sp := c.takeSpace()
	sp.head.Reset()
	p := headParser{c: c, h: &sp.head, mode: m}
	p.h.Version = 20
	out.head = p.h
	c.dec.Begin(b, sp.scratch[:0])
	size := 0
	var f head.Field
	for {
		ok, err := c.dec.Next(&f)
		if err != nil {
			c.fail(ErrCodeCompression, "bad header block")
			break
		}
		if !ok {
			break
		}
		if out.bad != "" || out.over != 0 {
			continue
		}
		if size += len(f.Name) + len(f.Value) + 32; size > c.cfg.HeaderBytes || len(p.h.Fields) >= c.cfg.HeaderCount {
			out.over = statusHeadTooLarge
		} else {
			out.bad = p.field(&f)
		}
		if out.bad != "" || out.over != 0 {
			c.dec.Skip()
		}
	}
	sp.scratch = c.dec.Scratch()
	if c.err == nil && out.bad == "" && out.over == 0 {
		p.finish(&out)
		if p.cookies > 1 && !c.cfg.Hop { // on a hop, two fields were two fields
			sp.scratch = p.joinCookies(sp.scratch)
		}
	}
	return out
}

// field takes one field; it returns what makes the message malformed, or "".
func (p *headParser) field(f *head.Field) string {
	if !validValue(f.Value) {
		return "bad field value"
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		return p.pseudoField(f)
	}
	if !validName(f.Name) {
		return "bad field name"
	}
	if p.mode == modeTrailers {
		if head.NeverTrailer(f.Name) {
			return "a trailer that may not be one"
		}
		p.h.Fields = append(p.h.Fields, *f)
		return ""
	}
	switch string(f.Name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		// RFC 9113, section 8.2.2; R4.6.
		return "connection-specific field"
	case "te":
		if !head.EqualFold(f.Value, "trailers") {
			return "te is not trailers"
		}
	case "host":
		if p.mode == modeRequest {
			p.hosts++
			p.host = f.Value
			return ""
		}
	case "content-length":
		return p.contentLength(f)
	case "expect":
		p.h.Expect = p.h.Expect || head.EqualFold(f.Value, "100-continue")
	case "cookie":
		p.cookies++
	}
	p.h.Fields = append(p.h.Fields, *f)
	return ""
}

func (p *headParser) contentLength(f *head.Field) string {
	n, ok := parseLength(f.Value)
	if !ok || p.lengths > 0 {
		return "bad content-length"
	}
	p.lengths++
	p.h.Length = n
	p.h.Fields = append(p.h.Fields, *f)
	return ""
}

// pseudoField takes a pseudo-header field (RFC 9113, section 8.3).
func (p *headParser) pseudoField(f *head.Field) string {
	var bit pseudo
	var dst *[]byte
	switch string(f.Name) {
	case ":method":
		bit, dst = seenMethod, &p.h.Method
	case ":scheme":
		bit, dst = seenScheme, &p.h.Scheme
	case ":authority":
		bit, dst = seenAuthority, &p.h.Authority
	case ":path":
		bit, dst = seenPath, &p.h.Target
	case ":protocol":
		bit, dst = seenProtocol, &p.h.Upgrade
	case ":status":
		bit = seenStatus
	}
	switch {
	case bit == 0, p.mode == modeTrailers, (p.mode == modeResponse) != (bit == seenStatus):
		return "unexpected pseudo-header field"
	case len(p.h.Fields) > 0 || p.hosts > 0:
		return "pseudo-header field after a regular one"
	case p.seen&bit != 0:
		return "pseudo-header field twice"
	}
	p.seen |= bit
	if bit == seenStatus {
		return p.status(f.Value)
	}
	*dst = f.Value
	return ""
}

func (p *headParser) status(v []byte) string {
	if len(v) != 3 {
		return "bad :status"
	}
	for _, d := range v {
		if d-'0' > 9 {
			return "bad :status"
		}
		p.h.Status = p.h.Status*10 + int(d-'0')
	}
	// RFC 9113, section 8.6: there is no 101 in HTTP/2.
	if p.h.Status < 100 || p.h.Status == 101 {
		return "bad :status"
	}
	return ""
}

// finish judges the head as a whole.
func (p *headParser) finish(out *parsed) {
	switch p.mode {
	case modeResponse:
		if p.seen&seenStatus == 0 {
			out.bad = "no :status"
		}
	case modeRequest:
		if out.bad = p.authority(); out.bad != "" {
			return
		}
		if len(p.h.Target) > p.c.cfg.TargetBytes {
			out.over = statusTargetTooLarge
			return
		}
		if p.h.IsConnect() {
			out.bad = p.connect()
		} else {
			out.bad = p.plain()
		}
	}
}

// authority reconciles :authority and Host (RFC 9113, section 8.3.1).
func (p *headParser) authority() string {
	switch {
	case p.hosts > 1:
		return "two Hosts"
	case p.hosts == 1 && p.seen&seenAuthority == 0:
		p.h.Authority = p.host
	case p.hosts == 1 && !bytes.EqualFold(p.host, p.h.Authority):
		return "Host differs from :authority"
	}
	host, port, ok := head.SplitHost(p.h.Authority)
	switch {
	case !ok, len(host) == 0 && len(port) > 0:
		return "bad :authority"
	case p.h.IsConnect() && p.seen&seenProtocol == 0 && len(port) < 2:
		return "CONNECT without host:port"
	}
	return ""
}

// connect judges CONNECT (RFC 9113, section 8.5) and its extended form (RFC
// 8441, section 4).
func (p *headParser) connect() string {
	if p.seen&seenProtocol != 0 {
		switch {
		case !p.c.cfg.Hop && !p.c.cfg.ExtendedConnect:
			return "extended CONNECT was not offered"
		case !validToken(p.h.Upgrade) && !validUpgrade(p.h.Upgrade):
			return "bad :protocol"
		}
		return p.location()
	}
	if p.seen&(seenScheme|seenPath) != 0 || len(p.h.Authority) == 0 {
		return "bad CONNECT"
	}
	p.h.Form = head.FormAuthority
	p.h.Target = p.h.Authority
	return ""
}

func (p *headParser) plain() string {
	switch {
	case !validToken(p.h.Method):
		return "bad :method"
	case p.seen&seenProtocol != 0:
		return ":protocol without CONNECT"
	}
	return p.location()
}

// location judges :scheme, :path and :authority.
func (p *headParser) location() string {
	t := p.h.Target
	switch {
	case !validScheme(p.h.Scheme):
		return "bad :scheme"
	case len(p.h.Authority) == 0 && !p.c.cfg.Hop && isHTTP(p.h.Scheme):
		return "no authority"
	case string(t) == "*" && string(p.h.Method) == "OPTIONS":
		p.h.Form = head.FormAsterisk
	case len(t) == 0 || t[0] != '/' || !validPath(t):
		return "bad :path"
	}
	return ""
}

func isHTTP(scheme []byte) bool { return string(scheme) == "http" || string(scheme) == "https" }

// joinCookies makes one field of cookies that came in crumbs (RFC 9113, section
// 8.2.3): only HTTP/2 may split them.
func (p *headParser) joinCookies(scratch []byte) []byte {
	start, first, keep := len(scratch), -1, p.h.Fields[:0]
	sensitive := false
	for _, f := range p.h.Fields {
		if string(f.Name) != "cookie" {
			keep = append(keep, f)
			continue
		}
		sensitive = sensitive || f.Sensitive
		if first < 0 {
			first = len(keep)
			keep = append(keep, f)
		} else {
			scratch = append(scratch, "; "...)
		}
		scratch = append(scratch, f.Value...)
	}
	p.h.Fields = keep
	p.h.Fields[first].Value = scratch[start:len(scratch):len(scratch)]
	p.h.Fields[first].Sensitive = sensitive
	return scratch
}
