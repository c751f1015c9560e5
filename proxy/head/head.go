// Package head is the codec-neutral head of a message: what an HTTP/1 or
// HTTP/2 engine read, and what the other engine will write. A Head owns
// nothing: its slices alias the engine's buffer until CopyTo moves them.
package head

import "bytes"

// Field is one header or trailer field, its name in the case it was received in.
type Field struct {
	Name, Value []byte
	// Sensitive fields are never put into a compression table.
	Sensitive bool
}

// Form is the form of an HTTP/1 request target (RFC 9112, section 3.2).
type Form uint8

// The four forms of a request target.
const (
	FormOrigin Form = iota
	FormAbsolute
	FormAuthority
	FormAsterisk
)

// Framing is how a body's end is told.
type Framing uint8

// Ways of framing a body.
const (
	FramingNone    Framing = iota // no body
	FramingLength                 // Content-Length
	FramingChunked                // Transfer-Encoding, last coding chunked
	FramingClose                  // until the connection closes (HTTP/1 responses)
	FramingStream                 // HTTP/2: END_STREAM
)

// Head is the head of one request, response or interim response, or a set of
// trailers (Fields alone).
//
// Fields holds the fields that are passed on, in order and case as received:
// Host, Content-Length, Transfer-Encoding and Upgrade are among them when they
// came in over HTTP/1; Connection, what it names, and the other hop-by-hop
// fields of rule R3.2 are not.
type Head struct {
	// Requests.
	Method []byte
	// Target is the request target as received over HTTP/1, or :path.
	Target []byte
	// Scheme is "http" or "https" for HTTP/2 and the absolute form; else empty.
	Scheme []byte
	// Authority is :authority, the authority of an absolute or authority form,
	// or the value of Host.
	Authority []byte
	// Upgrade is the protocol of an Upgrade request (HTTP/1) or :protocol
	// (RFC 8441); nil when there is none.
	Upgrade []byte

	// Responses.
	Status int    // 100..999; 0 in a request
	Reason []byte // HTTP/1 alone

	// Version is 10 or 11 for HTTP/1, 20 for HTTP/2.
	Version uint8
	Form    Form
	Framing Framing
	// Length is the declared body length in bytes, -1 when none was declared.
	Length int64
	// Expect is set for "Expect: 100-continue".
	Expect bool
	// Close is set when the peer will not, or may not, reuse the connection
	// after this message (HTTP/1).
	Close bool

	Fields []Field
}

// Reset empties h and keeps the memory of Fields.
func (h *Head) Reset() {
	f := h.Fields[:0]
	*h = Head{Fields: f, Length: -1}
}

// IsConnect reports whether h is a CONNECT request, extended (RFC 8441) or not.
func (h *Head) IsConnect() bool { return string(h.Method) == "CONNECT" }

// IsGRPC reports whether h's content type is one of gRPC's.
func (h *Head) IsGRPC() bool {
	v := h.Get("content-type")
	return bytes.HasPrefix(v, []byte("application/grpc")) && (len(v) == 16 || v[16] == '+' || v[16] == ';')
}

// Get returns the value of the first field called name (lower case), or nil.
func (h *Head) Get(name string) []byte {
	for i := range h.Fields {
		if EqualFold(h.Fields[i].Name, name) {
			return h.Fields[i].Value
		}
	}
	return nil
}

// Add appends a field.
func (h *Head) Add(name, value []byte) {
	h.Fields = append(h.Fields, Field{Name: name, Value: value})
}

// Size is the sum of the lengths of what h refers to, in bytes, with 32 for
// each field as RFC 9113, section 6.5.2 counts.
func (h *Head) Size() int {
	n := len(h.Method) + len(h.Target) + len(h.Scheme) + len(h.Authority) + len(h.Upgrade) + len(h.Reason)
	for i := range h.Fields {
		n += len(h.Fields[i].Name) + len(h.Fields[i].Value) + 32
	}
	return n
}

// CopyTo copies h into dst, whose slices then alias buf's memory; it returns
// the extended buf. With a buf of enough capacity (Size) it does not allocate
// but for the growth of dst.Fields.
func (h *Head) CopyTo(dst *Head, buf []byte) []byte {
	if need := h.Size(); cap(buf)-len(buf) < need {
		buf = append(make([]byte, 0, len(buf)+need), buf...)
	}
	cp := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		n := len(buf)
		buf = append(buf, b...)
		return buf[n:len(buf):len(buf)]
	}
	f := dst.Fields[:0]
	*dst = *h
	dst.Method, dst.Target, dst.Scheme = cp(h.Method), cp(h.Target), cp(h.Scheme)
	dst.Authority, dst.Upgrade, dst.Reason = cp(h.Authority), cp(h.Upgrade), cp(h.Reason)
	for i := range h.Fields {
		s := &h.Fields[i]
		f = append(f, Field{Name: cp(s.Name), Value: cp(s.Value), Sensitive: s.Sensitive})
	}
	dst.Fields = f
	return buf
}

// EqualFold reports whether name equals lower, an ASCII string in lower case,
// ignoring the case of ASCII letters.
func EqualFold(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range name {
		if Lower(name[i]) != lower[i] {
			return false
		}
	}
	return true
}

// Lower returns c in lower case when it is an ASCII letter.
func Lower(c byte) byte {
	if c-'A' < 26 {
		return c | 0x20
	}
	return c
}
