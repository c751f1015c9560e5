package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// ParseRequest parses one request head at the start of b as strictly as a
// Parser. n is its length, 0 with no error when it is not all there. h aliases b.
func ParseRequest(b []byte, lim Limits, h *head.Head) (n int, err *Error) {
	return parseOne(b, lim, h, parseRequest)
}

// ParseResponse parses one response head at the start of b. Framing is what the
// fields say; what the request was, and so whether a body follows, is unknown.
func ParseResponse(b []byte, lim Limits, h *head.Head) (n int, err *Error) {
	return parseOne(b, lim, h, parseResponse)
}

func parseOne(b []byte, lim Limits, h *head.Head, parse func([]byte, *Limits, *head.Head) *Error) (int, *Error) {
	lim = lim.withDefaults()
	var s scan
	n, err := s.find(b, &lim)
	if n == 0 || err != nil {
		return 0, err
	}
	h.Reset()
	return n, parse(b[:n], &lim, h)
}

// line cuts the first line off b, which ends in an empty one; both without CRLF.
func line(b []byte) (l, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	return b[:i-1], b[i+1:]
}

func parseRequest(b []byte, lim *Limits, h *head.Head) *Error {
	l, rest := line(b)
	if err := requestLine(l, lim, h); err != nil {
		return err
	}
	var c connection
	if err := fields(rest, lim, h, &c); err != nil {
		return err
	}
	if err := c.finishRequest(h); err != nil {
		return err
	}
	return target(h)
}

func requestLine(l []byte, lim *Limits, h *head.Head) *Error {
	i := bytes.IndexByte(l, ' ')
	if i <= 0 {
		return bad("bad request line")
	}
	j := bytes.LastIndexByte(l, ' ')
	if j <= i+1 {
		return bad("bad request line")
	}
	h.Method, h.Target = l[:i], l[i+1:j]
	for _, c := range h.Method {
		if !isToken(c) {
			return bad("bad method")
		}
	}
	if len(h.Target) > lim.TargetBytes {
		return &Error{Status: 414, Reason: "request target too long"}
	}
	for _, c := range h.Target {
		if c <= ' ' || c == 0x7f {
			return bad("space or control byte in a request target")
		}
	}
	return version(l[j+1:], h)
}

func version(v []byte, h *head.Head) *Error {
	switch string(v) {
	case "HTTP/1.1":
		h.Version = 11
		return nil
	case "HTTP/1.0":
		h.Version = 10
		return nil
	}
	if len(v) == 8 && string(v[:5]) == "HTTP/" && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]) {
		return &Error{Status: 505, Reason: "HTTP version not supported"}
	}
	return bad("bad HTTP version")
}

// target finds the form of the request target and the authority (RFC 9112,
// section 3.2).
func target(h *head.Head) *Error {
	t := h.Target
	connect := string(h.Method) == "CONNECT"
	switch {
	case connect:
		return connectTarget(h)
	case t[0] == '/':
		h.Form = head.FormOrigin
		return nil
	case len(t) == 1 && t[0] == '*':
		if string(h.Method) != "OPTIONS" {
			return bad("* is the target of OPTIONS alone")
		}
		h.Form = head.FormAsterisk
		return nil
	}
	return absoluteTarget(h)
}

// connectTarget checks a CONNECT (rule R3.3): authority form, not in HTTP/1.0.
func connectTarget(h *head.Head) *Error {
	i := bytes.LastIndexByte(h.Target, ':')
	if h.Version == 10 || i <= 0 || i == len(h.Target)-1 {
		return bad("CONNECT without host:port, or in HTTP/1.0")
	}
	for _, c := range h.Target[i+1:] {
		if !isDigit(c) {
			return bad("CONNECT without host:port, or in HTTP/1.0")
		}
	}
	if !validHost(h.Target) {
		return bad("bad authority")
	}
	h.Form, h.Authority = head.FormAuthority, h.Target
	return nil
}

func absoluteTarget(h *head.Head) *Error {
	i := bytes.Index(h.Target, []byte("://"))
	if i <= 0 {
		return bad("bad request target")
	}
	scheme := h.Target[:i]
	if !head.EqualFold(scheme, "http") && !head.EqualFold(scheme, "https") {
		return bad("bad scheme in a request target")
	}
	a := h.Target[i+3:]
	if j := bytes.IndexAny(a, "/?#"); j >= 0 {
		a = a[:j]
	}
	if len(a) == 0 || !validHost(a) {
		return bad("bad authority")
	}
	h.Form, h.Scheme, h.Authority = head.FormAbsolute, scheme, a
	return nil
}

func parseResponse(b []byte, lim *Limits, h *head.Head) *Error {
	l, rest := line(b)
	if len(l) < 12 || l[8] != ' ' {
		return bad("bad status line")
	}
	if err := version(l[:8], h); err != nil {
		return err
	}
	for _, c := range l[9:12] {
		if !isDigit(c) {
			return bad("bad status")
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 || len(l) > 12 && l[12] != ' ' {
		return bad("bad status line")
	}
	if len(l) > 13 {
		h.Reason = l[13:]
	}
	for _, c := range h.Reason {
		if valueBad(c) {
			return bad("control byte in a reason phrase")
		}
	}
	var c connection
	if err := fields(rest, lim, h, &c); err != nil {
		return err
	}
	return c.finishResponse(h)
}

// fields parses field lines into h.Fields; rest ends in an empty line.
func fields(rest []byte, lim *Limits, h *head.Head, c *connection) *Error {
	n := 0
	for {
		var l []byte
		l, rest = line(rest)
		if len(l) == 0 {
			return nil
		}
		if n++; n > lim.HeaderCount {
			return &Error{Status: 431, Reason: "too many fields"}
		}
		f, err := field(l)
		if err != nil {
			return err
		}
		keep, err := c.note(h, &f)
		if err != nil {
			return err
		}
		if keep {
			h.Fields = append(h.Fields, f)
		}
	}
}

// parseTrailers parses the fields after a chunked body. Fields that frame or
// route a message are no trailers (RFC 9110, section 6.5.1): whoever merged them
// into the head would be misled, so they are refused.
func parseTrailers(b []byte, lim *Limits, h *head.Head) *Error {
	for n := 0; ; n++ {
		var l []byte
		l, b = line(b)
		switch {
		case len(l) == 0:
			return nil
		case n >= lim.HeaderCount:
			return &Error{Status: 431, Reason: "too many trailers"}
		}
		f, err := field(l)
		if err != nil {
			return err
		}
		if framing(f.Name) || reserved(f.Name) {
			return bad("a trailer that may not be one")
		}
		h.Fields = append(h.Fields, f)
	}
}

func framing(name []byte) bool {
	for _, n := range [...]string{
		"transfer-encoding", "content-length", "host", "connection", "te", "trailer", "upgrade",
		"keep-alive", "proxy-connection", "content-encoding", "authorization", "cookie", "set-cookie",
	} {
		if head.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// field parses "name: value" (RFC 9112, section 5).
func field(l []byte) (head.Field, *Error) {
	i := bytes.IndexByte(l, ':')
	if l[0] == ' ' || l[0] == '\t' {
		return head.Field{}, bad("folded field line")
	}
	if i <= 0 {
		return head.Field{}, bad("field line without a name")
	}
	name := l[:i]
	for _, c := range name {
		if !isToken(c) {
			return head.Field{}, bad("bad field name")
		}
	}
	v := l[i+1:]
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	for _, c := range v {
		if valueBad(c) {
			return head.Field{}, bad("control byte in a field value")
		}
	}
	return head.Field{Name: name, Value: v}, nil
}

func isDigit(c byte) bool { return c-'0' < 10 }

// valueBad reports bytes that a field value may not contain: control bytes but
// the tab (RFC 9110, section 5.5).
func valueBad(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// isToken reports the bytes of a token (RFC 9110, section 5.6.2).
func isToken(c byte) bool { return tokens[c>>6]&(1<<(c&63)) != 0 }

// tokens is a bit per byte: ! # $ % & ' * + - . ^ _ ` | ~ digits letters.
var tokens = [4]uint64{ //nolint:gochecknoglobals // a constant
	1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.' | 0x3ff<<'0',
	0x3ffffff<<('A'-64) | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 0x3ffffff<<('a'-64) | 1<<('|'-64) | 1<<('~'-64),
}

// validHost reports whether a has only bytes of a host and port (RFC 3986,
// section 3.2.2): no user info, no path.
func validHost(a []byte) bool {
	for _, c := range a {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', isDigit(c):
		case bytes.IndexByte([]byte("-._~%!$&'()*+,;=:[]"), c) >= 0:
		default:
			return false
		}
	}
	return true
}
