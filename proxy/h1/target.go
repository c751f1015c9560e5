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
	host, port, ok := head.SplitHost(h.Target)
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
	portHTTP    = []byte(":80")
	portHTTPS   = []byte(":443")
)

// sameHost reports whether Host names what an absolute form does, in any case, be the scheme's own port
// said or not. A proxy would have to replace a Host that differs (RFC 9112, section 3.2.2); who looks at
// which of the two differs among servers (rule R3.4).
func sameHost(h *head.Head, host, port []byte) bool {
	given, givenPort, _ := head.SplitHost(h.Authority)
	return bytes.EqualFold(given, host) && bytes.Equal(explicit(givenPort, h.Scheme), explicit(port, h.Scheme))
}

// explicit is a port with its colon, a scheme's own where there is none.
func explicit(port, scheme []byte) []byte {
	switch {
	case len(port) > 1:
		return port
	case len(scheme) == len(schemeHTTPS):
		return portHTTPS
	}
	return portHTTP
}

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
	host, port, ok := head.SplitHost(a)
	if !ok || len(host) == 0 {
		return bad("bad authority")
	}
	if h.Authority != nil && !sameHost(h, host, port) {
		return bad("Host is not that of the request target")
	}
	h.Form, h.Authority = head.FormAbsolute, slices.Clip(a)
	return nil
}
