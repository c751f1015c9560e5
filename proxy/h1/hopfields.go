package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// maxNamed bounds the fields that one message's Connection may name.
const maxNamed = 8

// connection gathers, while a head is parsed, what its fields say of framing
// and of this connection.
type connection struct {
	hosts     int
	lengths   int
	codings   int
	upgrades  int // Upgrade fields
	close     bool
	keepAlive bool
	upgrade   bool // Connection: upgrade
	h2c       bool
	protocol  []byte           // the value of Upgrade
	named     [maxNamed][]byte // fields that Connection names
	names     int
}

// note looks at one field; keep is false for those of this hop (rule R3.2). It
// has one case per field that means something to a proxy.
func (c *connection) note(h *head.Head, f *head.Field) (keep bool, err *Error) {
	n := f.Name
	switch len(n) {
	case 2:
		if head.EqualFold(n, "te") {
			return onlyTrailers(f), nil
		}
	case 4:
		if head.EqualFold(n, "host") && h.Status == 0 {
			return true, c.host(h, f.Value)
		}
	case 6:
		if head.EqualFold(n, "expect") && head.EqualFold(f.Value, "100-continue") {
			h.Expect = h.Version >= 11 // RFC 9110, section 10.1.1
		}
	case 7:
		if head.EqualFold(n, "upgrade") {
			c.upgrades++
			c.protocol = f.Value
			c.h2c = c.h2c || hasToken(f.Value, "h2c")
		}
	case 10:
		if head.EqualFold(n, "connection") {
			return false, c.connection(f.Value)
		}
		return !head.EqualFold(n, "keep-alive"), nil
	case 14:
		if head.EqualFold(n, "content-length") {
			return true, c.length(h, f.Value)
		}
		return !head.EqualFold(n, "http2-settings"), nil
	case 16:
		return !head.EqualFold(n, "proxy-connection"), nil
	case 17:
		if head.EqualFold(n, "transfer-encoding") {
			return true, c.coding(h, f.Value)
		}
	}
	return true, nil
}

var teTrailers = []byte("trailers")

// onlyTrailers leaves "trailers" of a TE field, and reports whether it was there.
func onlyTrailers(f *head.Field) bool {
	if head.EqualFold(f.Value, "trailers") {
		return true
	}
	keep := hasToken(f.Value, "trailers")
	f.Value = teTrailers
	return keep
}

func (c *connection) host(h *head.Head, v []byte) *Error {
	if c.hosts++; c.hosts > 1 {
		return bad("two Host fields")
	}
	if _, _, ok := head.SplitHost(v); !ok {
		return bad("bad Host")
	}
	h.Authority = v
	return nil
}

func (c *connection) length(h *head.Head, v []byte) *Error {
	if c.lengths++; c.lengths > 1 {
		return bad("two Content-Length fields")
	}
	if len(v) == 0 || len(v) > 18 {
		return bad("bad Content-Length")
	}
	var n int64
	for _, d := range v {
		if !isDigit(d) {
			return bad("bad Content-Length")
		}
		n = n*10 + int64(d-'0')
	}
	h.Length = n
	return nil
}

// coding checks a Transfer-Encoding: its last coding, and only that, is chunked.
// Of the others those of RFC 9112, section 7.2 pass; a server that does not know
// a coding may see another message than we do.
func (c *connection) coding(h *head.Head, v []byte) *Error {
	if c.codings++; c.codings > 1 {
		return bad("two Transfer-Encoding fields")
	}
	if h.Version < 11 {
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	for more := true; more; {
		var one []byte
		one, v, more = bytes.Cut(v, []byte(","))
		one = trim(one)
		switch {
		case head.EqualFold(one, "chunked") == more, len(one) == 0:
			return bad("Transfer-Encoding does not end in one chunked")
		case more && !knownCoding(one):
			return &Error{Status: 501, Reason: "unknown transfer coding"}
		}
	}
	h.Framing = head.FramingChunked
	return nil
}

func knownCoding(name []byte) bool {
	for _, n := range [...]string{"gzip", "x-gzip", "deflate", "compress", "x-compress"} {
		if head.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// connection reads the options of a Connection field. It may not name fields
// that others rely on: that hides them (rule R3.2).
func (c *connection) connection(v []byte) *Error {
	for len(v) > 0 {
		var one []byte
		one, v, _ = bytes.Cut(v, []byte(","))
		one = trim(one)
		switch {
		case len(one) == 0 || head.EqualFold(one, "te"):
		case head.EqualFold(one, "close"):
			c.close = true
		case head.EqualFold(one, "keep-alive"):
			c.keepAlive = true
		case head.EqualFold(one, "upgrade"):
			c.upgrade = true
		case neverNamed(one):
			return bad("Connection names a field that is not of one hop")
		case span(one, classToken) != len(one):
			return bad("bad Connection")
		case c.names == maxNamed:
			return bad("Connection names too many fields")
		default:
			c.named[c.names] = one
			c.names++
		}
	}
	return nil
}

func neverNamed(o []byte) bool {
	for _, n := range [...]string{"host", "content-length", "transfer-encoding", "cookie", "authorization"} {
		if head.EqualFold(o, n) {
			return true
		}
	}
	return reserved(o)
}

// finishRequest applies what was gathered to a request.
func (c *connection) finishRequest(h *head.Head) *Error {
	if c.hosts == 0 && h.Version == 11 {
		return bad("no Host")
	}
	if err := c.finish(h); err != nil {
		return err
	}
	if c.upgrades > 0 {
		c.dropH2C(h)
		if c.upgrades == 1 && c.upgrade && h.Version == 11 && len(c.protocol) > 0 {
			h.Upgrade = c.protocol
		} else {
			removeField(h, "upgrade")
		}
	}
	return nil
}

// dropH2C takes h2c, which is of this hop, out of an Upgrade's list; what else is offered stays.
func (c *connection) dropH2C(h *head.Head) {
	if !c.h2c || c.upgrades > 1 {
		return
	}
	var rest []byte // rare enough for memory of its own
	for one := range bytes.SplitSeq(c.protocol, []byte(",")) {
		if one = trim(one); len(one) > 0 && !hasToken(one, "h2c") {
			rest = append(append(rest, ", "...), one...)
		}
	}
	c.protocol = bytes.TrimPrefix(rest, []byte(", "))
	for i := range h.Fields {
		if f := &h.Fields[i]; head.EqualFold(f.Name, "upgrade") {
			f.Value = c.protocol
		}
	}
}

// finishResponse applies what was gathered to a response. Its Upgrade stays but
// for h2c: 101 and 426 need it.
func (c *connection) finishResponse(h *head.Head) *Error {
	if h.Status < 200 || h.Status == 204 { // RFC 9112, section 6.1, and RFC 9110, section 8.6
		if c.codings > 0 || h.Length > 0 {
			return bad("body announced where there is none")
		}
	}
	if c.h2c {
		if h.Status == 101 {
			return bad("switch to a protocol that was not offered")
		}
		if c.dropH2C(h); c.upgrades > 1 || len(c.protocol) == 0 {
			removeField(h, "upgrade")
		}
	}
	if h.Status == 101 {
		h.Upgrade = c.protocol
	}
	return c.finish(h)
}

func (c *connection) finish(h *head.Head) *Error {
	if c.lengths > 0 {
		if c.codings > 0 {
			return bad("Content-Length and Transfer-Encoding")
		}
		h.Framing = head.FramingLength
	}
	h.Close = c.close || h.Version == 10 && !c.keepAlive
	if c.names > 0 {
		c.removeNamed(h)
	}
	return nil
}

// removeNamed takes out the fields that Connection named.
func (c *connection) removeNamed(h *head.Head) {
	out := h.Fields[:0]
	for i := range h.Fields {
		f := &h.Fields[i]
		if !c.isNamed(f.Name) {
			out = append(out, *f)
		} else if head.EqualFold(f.Name, "expect") {
			h.Expect = false
		}
	}
	h.Fields = out
}

func (c *connection) isNamed(name []byte) bool {
	for _, n := range c.named[:c.names] {
		if bytes.EqualFold(n, name) {
			return true
		}
	}
	return false
}
