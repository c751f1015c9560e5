package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// ParseRequest parses one request head at the start of b as strictly as a
// Parser. n is its length, 0 with no error when it is not all there. h aliases b.
func ParseRequest(b []byte, lim Limits, h *head.Head) (n int, err *Error) {
	n, err = begin(b, &lim, h)
	if n == 0 || err != nil {
		return 0, err
	}
	if err := parseRequest(b[:n], &lim, h); err != nil {
		return 0, err
	}
	return n, nil
}

// ParseResponse parses one response head at the start of b. Framing is what the
// fields say; what the request was, and so whether a body follows, is unknown.
func ParseResponse(b []byte, lim Limits, h *head.Head) (n int, err *Error) {
	n, err = begin(b, &lim, h)
	if err == nil && n > 0 {
		err = parseResponse(b[:n], &lim, h)
	}
	if err != nil {
		err.Status = 502
		return 0, err
	}
	return n, nil
}

// begin finds the length of the head at the start of b.
func begin(b []byte, lim *Limits, h *head.Head) (int, *Error) {
	*lim = lim.withDefaults()
	h.Reset()
	var s scan
	return s.find(b, lim)
}

func parseRequest(b []byte, lim *Limits, h *head.Head) *Error {
	rest, err := requestLine(b, lim, h)
	if err != nil {
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

// requestLine parses "method SP target SP version CRLF" (RFC 9112, section 3) at
// the start of b and returns what follows it.
func requestLine(b []byte, lim *Limits, h *head.Head) ([]byte, *Error) {
	n := span(b, classToken)
	if n == 0 || b[n] != ' ' {
		return nil, bad("bad method")
	}
	t := b[n+1:]
	m := span(t, classTarget)
	switch {
	case t[m] == '#':
		return nil, bad("fragment in a request target")
	case m == 0 || t[m] != ' ':
		return nil, bad("bad byte in a request line")
	case m > lim.TargetBytes:
		return nil, &Error{Status: 414, Reason: "request target too long"}
	}
	h.Method, h.Target = b[:n:n], t[:m:m]
	v := t[m+1:]
	i := bytes.IndexByte(v, '\n')
	return v[i+1:], version(v[:i-1], h)
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

// parseResponse parses "version SP status [SP reason] CRLF" (RFC 9112, section
// 4) and fields. Servers exist that leave the second space out with the reason.
func parseResponse(b []byte, lim *Limits, h *head.Head) *Error {
	i := bytes.IndexByte(b, '\n')
	l, rest := b[:i-1], b[i+1:]
	if len(l) < 12 || l[8] != ' ' || len(l) > 12 && l[12] != ' ' {
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
	if h.Status < 100 {
		return bad("bad status")
	}
	if len(l) > 13 {
		h.Reason = l[13:len(l):len(l)]
	}
	if valueEnd(h.Reason) != len(h.Reason) {
		return bad("control byte in a reason phrase")
	}
	var c connection
	if err := fields(rest, lim, h, &c); err != nil {
		return err
	}
	return c.finishResponse(h)
}
