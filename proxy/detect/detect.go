// Package detect tells from the first bytes what a connection speaks. It is
// pure: it is asked again with more bytes until it has decided, consumes
// nothing, and gives the same verdict however the bytes were cut into reads.
//
// What it leaves open stays open: no timer turns a silent or dribbling
// connection into something (rules R2.2, R2.5); that is the caller's to decide.
package detect

// Verdict is what the bytes so far say.
type Verdict uint8

// Verdicts. Every one but More is final: more bytes do not change it.
const (
	More   Verdict = iota // not decided
	HTTP1                 // an HTTP/1 request line, or a server's status line
	HTTP2                 // the HTTP/2 preface, or a server's SETTINGS
	TLS                   // the application's own TLS
	Mesh                  // TLS that offers one of Tulle's protocols
	Opaque                // none of these
)

// String returns the verdict in lower case.
func (v Verdict) String() string {
	names := [...]string{"more", "http1", "http2", "tls", "mesh", "opaque"}
	if int(v) < len(names) {
		return names[v]
	}
	return "invalid"
}

const (
	// MaxBytes bounds what a caller has to keep for a decision: with as many
	// bytes every verdict is final.
	MaxBytes = 64 << 10
	// maxLine bounds an undecided request line: the default limit of a target
	// (rule R1.5) and room for method and version.
	maxLine = 32<<10 + 128
	// maxMethod bounds a method; the longest registered one has 17 letters.
	maxMethod = 64
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Client judges a client's first bytes (rules R2.1, R2.2). When tls is set a
// ClientHello is looked for first; else it is opaque bytes like any other.
func Client(b []byte, tls bool) Verdict {
	if tls {
		if _, v := ClientHello(b); v != Opaque {
			return v
		}
	}
	if v := agrees(b, preface); v != Opaque {
		if v == HTTP1 {
			return HTTP2
		}
		return More
	}
	return requestLine(b)
}

// agrees compares b with want: HTTP1 when b begins with all of it, More when b
// is a part of it, Opaque when they differ.
func agrees(b []byte, want string) Verdict {
	n := min(len(b), len(want))
	switch {
	case string(b[:n]) != want[:n]:
		return Opaque
	case n < len(want):
		return More
	}
	return HTTP1
}

// requestLine looks for method SP target SP HTTP/1.x at the end of the first
// line (rule R2.2: Redis's inline "GET key", RTSP and SIP begin alike). It is
// lenient where the parser is strict, and as lenient as servers are: what one of
// them might take for a request is HTTP, if only to be answered 400. As bytes it
// would be passed on as it is, with whatever it says in the mesh's name (R5.5).
func requestLine(b []byte) Verdict {
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n' || isBlank(b[0])) {
		b = b[1:] // servers skip empty lines (RFC 9112, 2.2), some of them many
	}
	method := 0
	for method < len(b) && method <= maxMethod && isToken(b[method]) {
		method++
	}
	switch {
	case method == len(b) && method <= maxMethod:
		return More
	case method == 0, method > maxMethod, !isBlank(b[method]):
		return Opaque
	}
	target := b[method+1:]
	for i, c := range target {
		switch {
		case i == maxLine:
			return likeTarget(target)
		case c == '\r' || c == '\n':
			return endOfLine(target[:i])
		case isBlank(c):
		case c < ' ' || c == 0x7f:
			return likeTarget(target) // no text
		}
	}
	return More
}

// endOfLine judges what stands between the method and the line's end: HTTP is
// what ends in a version of it, in any spelling. Without a target there is none.
func endOfLine(line []byte) Verdict {
	for len(line) > 0 && isBlank(line[len(line)-1]) {
		line = line[:len(line)-1]
	}
	at := len(line)
	for at > 0 && (line[at-1] == '.' || line[at-1] >= '0' && line[at-1] <= '9') {
		at--
	}
	const name = "http/"
	if at == len(line) || at <= len(name) || !isBlank(line[at-len(name)-1]) {
		return Opaque
	}
	for i, c := range line[at-len(name) : at] {
		if c|0x20 != name[i]|0x20 {
			return Opaque
		}
	}
	return HTTP1
}

// likeTarget judges a line that does not end, or is no text: what looks like a
// path or a URL is given to the parser, which answers 414 or 400 (rules R1.5, R3.4).
func likeTarget(target []byte) Verdict {
	const url = "http"
	if target[0] == '/' {
		return HTTP1
	}
	for i := range url {
		if i >= len(target) || target[i]|0x20 != url[i] {
			return Opaque
		}
	}
	return HTTP1
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isToken reports whether c may stand in a method (RFC 9110, 5.6.2).
func isToken(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// Server judges a server's first bytes (rule R2.5): HTTP2 is an unasked SETTINGS
// frame, which grpc-go sends, HTTP1 a status line sent to a silent client (408).
func Server(b []byte) Verdict {
	if len(b) > 0 && b[0] == 0 {
		return settings(b)
	}
	return agrees(b, "HTTP/1.")
}

// settings compares b with the header of a SETTINGS frame (RFC 9113, 6.5): a
// multiple of 6 bytes up to the default frame size, type 4, no ACK, stream 0.
func settings(b []byte) Verdict {
	const header = 9
	if len(b) >= 3 {
		if n := int(b[0])<<16 | int(b[1])<<8 | int(b[2]); n > 16<<10 || n%6 != 0 {
			return Opaque
		}
	}
	for i := 3; i < min(len(b), header); i++ {
		c := b[i]
		switch {
		case i == 3 && c == 4, i == 4 && c&1 == 0, i == 5 && c&0x7f == 0, i > 5 && c == 0:
		default:
			return Opaque
		}
	}
	if len(b) < header {
		return More
	}
	return HTTP2
}
