package h1

import (
	"bytes"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// target finds the form of the request target and the authority (RFC 9112,
// section 3.2).
func target(h *head.Head) *Error {
	t := h.Target
	switch {
	case h.IsConnect():
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
	host, port, ok := splitHost(h.Target)
	if h.Version == 10 || !ok || len(host) == 0 || len(port) < 2 {
		return bad("CONNECT without host:port, or in HTTP/1.0")
	}
	if h.Framing == head.FramingChunked || h.Length > 0 { // RFC 9110, section 9.3.6
		return bad("CONNECT with a body")
	}
	h.Form, h.Authority = head.FormAuthority, h.Target
	return nil
}

// Schemes of an absolute form, as Head.Scheme holds them.
var (
	schemeHTTP  = []byte("http")
	schemeHTTPS = []byte("https")
)

func absoluteTarget(h *head.Head) *Error {
	scheme, a, ok := bytes.Cut(h.Target, []byte("://"))
	switch {
	case !ok:
		return bad("bad request target")
	case head.EqualFold(scheme, "http"):
		h.Scheme = schemeHTTP
	case head.EqualFold(scheme, "https"):
		h.Scheme = schemeHTTPS
	default:
		return bad("bad scheme in a request target")
	}
	if i := bytes.IndexAny(a, "/?"); i >= 0 {
		a = a[:i]
	}
	if host, _, ok := splitHost(a); !ok || len(host) == 0 {
		return bad("bad authority")
	}
	h.Form, h.Authority = head.FormAbsolute, a[:len(a):len(a)]
	return nil
}

// splitHost splits a into host and ":port", each of which may be empty; false
// when it is not of that form (RFC 3986, sections 3.2.2 and 3.2.3): there is no
// user info.
func splitHost(a []byte) (host, port []byte, ok bool) {
	n := 0
	if len(a) > 0 && a[0] == '[' {
		n = 1 + span(a[1:], classLiteral)
		if n < 3 || n == len(a) || a[n] != ']' {
			return nil, nil, false
		}
		n++
	} else {
		n = span(a, classHost)
	}
	host, port = a[:n], a[n:]
	if len(port) > 6 || len(port) > 0 && port[0] != ':' {
		return nil, nil, false
	}
	for _, c := range port[min(len(port), 1):] {
		if !isDigit(c) {
			return nil, nil, false
		}
	}
	return host, port, true
}
