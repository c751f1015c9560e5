package h1

import (
	"bytes"
	"slices"

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
	h.Form, h.Authority = head.FormAbsolute, slices.Clip(a)
	return nil
}

// splitHost splits a into host and ":port", each of which may be empty; false
// when it is not of that form (RFC 3986, sections 3.2.2 and 3.2.3). There is no
// user info, no escape, which some decode and others do not, and of the IP
// literals only IPv6, without a zone.
func splitHost(a []byte) (host, port []byte, ok bool) {
	var n int
	if len(a) > 0 && a[0] == '[' {
		n = bytes.IndexByte(a, ']') + 1
		if !isIPv6(a[1:max(n-1, 1)]) {
			return nil, nil, false
		}
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

// isIPv6 reports what netip.ParseAddr takes for an IPv6 address without a zone,
// and needs no string.
func isIPv6(b []byte) bool {
	groups, gap := 0, false
	for first := true; len(b) > 0; first = false {
		switch {
		case len(b) > 1 && b[0] == ':' && b[1] == ':':
			if b = b[2:]; gap {
				return false
			}
			if gap = true; len(b) == 0 {
				return groups < 8
			}
		case !first && b[0] == ':':
			b = b[1:]
		case !first:
			return false
		}
		n := 0
		for n < len(b) && unhex(b[n]) >= 0 {
			n++
		}
		if n < len(b) && b[n] == '.' {
			groups += 2
			return isIPv4(b) && (groups == 8 || gap && groups < 8)
		}
		if n == 0 || n > 4 {
			return false
		}
		groups++
		b = b[n:]
	}
	return groups == 8 || gap && groups < 8
}

// isIPv4 reports four decimal numbers under 256 without zeros in front.
func isIPv4(b []byte) bool {
	for dots := 0; ; dots++ {
		v, n := 0, 0
		for ; n < len(b) && n < 3 && isDigit(b[n]); n++ {
			v = v*10 + int(b[n]-'0')
		}
		if n == 0 || v > 255 || n > 1 && b[0] == '0' {
			return false
		}
		if b = b[n:]; len(b) == 0 {
			return dots == 3
		}
		if b[0] != '.' {
			return false
		}
		b = b[1:]
	}
}
