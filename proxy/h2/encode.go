package h2

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/h2/hpack"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// Names of pseudo-header fields.
var (
	nameMethod    = []byte(":method")
	nameScheme    = []byte(":scheme")
	nameAuthority = []byte(":authority")
	namePath      = []byte(":path")
	nameProtocol  = []byte(":protocol")

	valueConnect  = []byte("CONNECT")
	valueHTTP     = []byte("http")
	valueSlash    = []byte("/")
	valueAsterisk = []byte("*")
	nameLength    = []byte("content-length")
	valueZero     = []byte("0")
)

// maxFragment is the largest piece of a header block that we put into one frame:
// every peer accepts it.
const maxFragment = minFrameSize

// headRoom is the room that a block of h and extra needs at most, frame headers
// included.
func headRoom(h *head.Head, extra []head.Field) int {
	n := 256
	if h != nil {
		n += h.Size()
	}
	for i := range extra {
		n += len(extra[i].Name) + len(extra[i].Value) + 32
	}
	return n + n/maxFragment*frameHeaderLen
}

// reserve makes room for n bytes in seq; it stays a buffer of the pool.
func (c *Conn) reserve(n int) {
	if cap(c.seq)-len(c.seq) >= n {
		return
	}
	b := append(c.pool.Get(max(len(c.seq)+n, min(2*cap(c.seq), 1<<20))), c.seq...)
	c.pool.Put(c.seq)
	c.seq = b
}

// writeRequest queues a request head.
func (c *Conn) writeRequest(s *Stream, h *head.Head, extra []head.Field, end bool) {
	start := c.beginBlock(headRoom(h, extra))
	e := &c.enc
	b := e.Begin(c.seq)
	switch {
	case s.extended:
		b = e.Append(b, nameMethod, valueConnect, hpack.Index)
		b = e.Append(b, nameProtocol, h.Upgrade, hpack.Index)
		b = c.appendLocation(b, h)
	case s.tunnel:
		b = e.Append(b, nameMethod, valueConnect, hpack.Index)
	default:
		b = e.Append(b, nameMethod, h.Method, hpack.Index)
		b = c.appendLocation(b, h)
	}
	if len(h.Authority) > 0 {
		b = e.Append(b, nameAuthority, h.Authority, hpack.Index)
	}
	b = c.appendFields(b, h.Fields, h.Version != 20)
	b = c.appendFields(b, extra, true)
	c.seq = endBlock(b, start, s.ID, end)
}

// appendLocation appends :scheme and :path.
func (c *Conn) appendLocation(b []byte, h *head.Head) []byte {
	scheme := h.Scheme
	if len(scheme) == 0 {
		scheme = valueHTTP
	}
	b = c.enc.Append(b, nameScheme, scheme, hpack.Index)
	path := h.Target
	if h.Form == head.FormAbsolute && h.Version != 20 {
		path = c.absolutePath(h)
	}
	return c.enc.Append(b, namePath, path, hpack.Index)
}

// absolutePath returns the path and query of an absolute-form target (RFC 9113,
// section 8.3.1: never empty).
func (c *Conn) absolutePath(h *head.Head) []byte {
	t := h.Target
	if i := bytes.Index(t, []byte("://")); i >= 0 {
		t = t[i+3:]
	}
	i := bytes.IndexAny(t, "/?#")
	switch {
	case i < 0 && string(h.Method) == "OPTIONS":
		return valueAsterisk
	case i < 0:
		return valueSlash
	case t[i] == '/':
		return t[i:]
	}
	c.lower = append(append(c.lower[:0], '/'), t[i:]...)
	return c.lower
}

// writeResponse queues a response head.
func (c *Conn) writeResponse(s *Stream, h *head.Head, extra []head.Field, end bool) {
	start := c.beginBlock(headRoom(h, extra))
	status := h.Status
	if status == 101 && s.extended {
		status = 200 // RFC 8441, section 5
	}
	b := c.enc.AppendStatus(c.enc.Begin(c.seq), status)
	b = c.appendFields(b, h.Fields, h.Version != 20)
	b = c.appendFields(b, extra, true)
	c.seq = endBlock(b, start, s.ID, end)
}

// answer queues a response of a status alone that ends the stream.
func (c *Conn) answer(id uint32, status int) {
	start := c.beginBlock(headRoom(nil, nil))
	b := c.enc.AppendStatus(c.enc.Begin(c.seq), status)
	c.seq = endBlock(c.enc.Append(b, nameLength, valueZero, hpack.Without), start, id, true)
}

// writeTrailers queues trailers that need not wait for data.
func (c *Conn) writeTrailers(id uint32, f []head.Field) {
	start := c.beginBlock(headRoom(nil, f))
	c.seq = endBlock(c.appendFields(c.enc.Begin(c.seq), f, true), start, id, true)
}

// beginBlock reserves n bytes in seq and leaves room for a frame header; it
// returns where the frame starts.
func (c *Conn) beginBlock(n int) int {
	c.reserve(n)
	start := len(c.seq)
	c.seq = c.seq[:start+frameHeaderLen]
	return start
}

// endBlock fills in the frame header at start for the block behind it, and cuts
// a block that is too large for one frame into CONTINUATION frames.
func endBlock(b []byte, start int, id uint32, end bool) []byte {
	n := len(b) - start - frameHeaderLen
	h := frameHeader{length: min(n, maxFragment), typ: frameHeaders, flags: flagEndHeaders, id: id}
	if end {
		h.flags |= flagEndStream
	}
	cuts := 0
	if n > maxFragment {
		cuts = (n - 1) / maxFragment
		h.flags &^= flagEndHeaders
	}
	appendFrameHeader(b[:start], h)
	// From the last piece on, so that each moves once, over what has moved.
	for range cuts {
		b = append(b, "123456789"...)
	}
	for k := cuts; k > 0; k-- {
		from := start + frameHeaderLen + k*maxFragment
		size := min(n-k*maxFragment, maxFragment)
		to := from + k*frameHeaderLen
		copy(b[to:to+size], b[from:from+size])
		c := frameHeader{length: size, typ: frameContinuation, id: id}
		if k == cuts {
			c.flags = flagEndHeaders
		}
		appendFrameHeader(b[:to-frameHeaderLen], c)
	}
	return b
}

// appendFields appends fields. Names that may come from HTTP/1 (foreign) are
// lower-cased, and what HTTP/2 does not carry is left out (RFC 9113, section
// 8.2.2).
func (c *Conn) appendFields(b []byte, fields []head.Field, foreign bool) []byte {
	for i := range fields {
		f := fields[i]
		if foreign && !c.adapt(&f) {
			continue
		}
		b = c.enc.AppendField(b, f)
	}
	return b
}

// adapt makes a field of HTTP/1 one of HTTP/2; false: there is no such field.
func (c *Conn) adapt(f *head.Field) bool {
	for _, ch := range f.Name {
		if ch-'A' < 26 {
			c.lower = c.lower[:0]
			for _, ch := range f.Name {
				c.lower = append(c.lower, head.Lower(ch))
			}
			f.Name = c.lower
			break
		}
	}
	switch string(f.Name) {
	case "host", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings":
		return false
	case "te":
		return head.EqualFold(f.Value, "trailers")
	}
	return true
}
