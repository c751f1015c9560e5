package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// connection gathers, while a head is parsed, what its fields say of framing
// and of this connection.
type connection struct {
	hosts     int
	lengths   int
	codings   int
	chunked   bool
	close     bool
	keepAlive bool
	upgrade   bool      // Connection: upgrade
	named     [8][]byte // fields that Connection names
	names     int
	upgrades  int // Upgrade fields
	h2c       bool
	protocol  []byte
}

// note looks at one field; keep is false for those of this hop (rule R3.2).
// One case per field that means something to a proxy.
func (c *connection) note(h *head.Head, f *head.Field) (keep bool, err *Error) {
	n := f.Name
	switch len(n) {
	case 2:
		if head.EqualFold(n, "te") {
			keep = hasToken(f.Value, "trailers")
			f.Value = teTrailers
			return keep, nil
		}
	case 4:
		if head.EqualFold(n, "host") {
			return true, c.host(h, f.Value)
		}
	case 6:
		if head.EqualFold(n, "expect") && head.EqualFold(f.Value, "100-continue") {
			h.Expect = true
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

// teTrailers is all of a TE field that goes on.
var teTrailers = []byte("trailers") //nolint:gochecknoglobals // a constant

func (c *connection) host(h *head.Head, v []byte) *Error {
	if c.hosts++; c.hosts > 1 {
		return bad("two Host fields")
	}
	if !validHost(v) {
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
func (c *connection) coding(h *head.Head, v []byte) *Error {
	if c.codings++; c.codings > 1 {
		return bad("two Transfer-Encoding fields")
	}
	if h.Version == 10 {
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	for len(v) > 0 {
		one, rest, more := bytes.Cut(v, []byte(","))
		one = trim(one)
		chunked := head.EqualFold(one, "chunked")
		if len(one) == 0 || chunked == more {
			return bad("Transfer-Encoding does not end in chunked")
		}
		for _, b := range one {
			if !isToken(b) {
				return bad("bad Transfer-Encoding")
			}
		}
		v = rest
		c.chunked = chunked
	}
	if !c.chunked {
		return bad("Transfer-Encoding does not end in chunked")
	}
	return nil
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
		case forbiddenOption(one):
			return bad("Connection names a field that is not of one hop")
		case c.names == len(c.named):
			return bad("Connection names too many fields")
		default:
			c.named[c.names] = one
			c.names++
		}
	}
	return nil
}

func forbiddenOption(o []byte) bool {
	for _, n := range [...]string{"host", "content-length", "transfer-encoding", "cookie", "authorization"} {
		if head.EqualFold(o, n) {
			return true
		}
	}
	return reserved(o)
}

func reserved(n []byte) bool {
	return len(n) > 5 && head.EqualFold(n[:5], "tulle") && (n[5] == '-' || n[5] == '_')
}

// finishRequest applies what was gathered to a request.
func (c *connection) finishRequest(h *head.Head) *Error {
	switch {
	case c.lengths > 0 && c.codings > 0:
		return bad("Content-Length and Transfer-Encoding")
	case c.hosts == 0 && h.Version == 11:
		return bad("no Host")
	}
	c.frame(h)
	h.Close = c.close || h.Version == 10 && !c.keepAlive
	if c.upgrades > 0 {
		if c.upgrades == 1 && c.upgrade && !c.h2c && h.Version == 11 && len(c.protocol) > 0 {
			h.Upgrade = c.protocol
		} else {
			removeField(h, "upgrade")
		}
	}
	return nil
}

// finishResponse applies what was gathered to a response. Upgrade stays: 101
// and 426 need it.
func (c *connection) finishResponse(h *head.Head) *Error {
	if c.lengths > 0 && c.codings > 0 {
		return bad("Content-Length and Transfer-Encoding")
	}
	c.frame(h)
	h.Close = c.close || h.Version == 10 && !c.keepAlive
	if h.Status == 101 {
		h.Upgrade = c.protocol
	}
	return nil
}

func (c *connection) frame(h *head.Head) {
	switch {
	case c.chunked:
		h.Framing = head.FramingChunked
	case c.lengths > 0:
		h.Framing = head.FramingLength
	}
	if c.names > 0 {
		c.removeNamed(h)
	}
}

// removeNamed takes out the fields that Connection named.
func (c *connection) removeNamed(h *head.Head) {
	out := h.Fields[:0]
	for i := range h.Fields {
		if !c.isNamed(h.Fields[i].Name) {
			out = append(out, h.Fields[i])
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

// removeField takes the fields called name out of h.
func removeField(h *head.Head, name string) {
	out := h.Fields[:0]
	for i := range h.Fields {
		if !head.EqualFold(h.Fields[i].Name, name) {
			out = append(out, h.Fields[i])
		}
	}
	h.Fields = out
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// hasToken reports whether a comma-separated list has token, in any case.
// Parameters behind a token are passed over.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var one []byte
		one, list, _ = bytes.Cut(list, []byte(","))
		one, _, _ = bytes.Cut(one, []byte(";"))
		if head.EqualFold(trim(one), token) {
			return true
		}
	}
	return false
}
