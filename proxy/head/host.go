package head

import "bytes"

// hostBytes are those of a host's name or IPv4 address (RFC 3986, section 3.2.2), without escapes.
var hostBytes = makeHostBytes()

func makeHostBytes() (t [256]bool) {
	for _, c := range []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~!$&'()*+,;=") {
		t[c] = true
	}
	return t
}

// SplitHost splits an authority a into host and ":port", each of which may be empty; false
// when it is not of that form (RFC 3986, sections 3.2.2 and 3.2.3). There is no
// user info, no escape, which some decode and others do not, and of the IP
// literals only IPv6, without a zone.
func SplitHost(a []byte) (host, port []byte, ok bool) {
	var n int
	if len(a) > 0 && a[0] == '[' {
		n = bytes.IndexByte(a, ']') + 1
		if !isIPv6(a[1:max(n-1, 1)]) {
			return nil, nil, false
		}
	} else {
		for n < len(a) && hostBytes[a[n]] {
			n++
		}
	}
	host, port = a[:n], a[n:]
	if len(port) > 6 || len(port) > 0 && port[0] != ':' {
		return nil, nil, false
	}
	for _, c := range port[min(len(port), 1):] {
		if c-'0' > 9 {
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
		for n < len(b) && isHex(b[n]) {
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
		for ; n < len(b) && n < 3 && b[n]-'0' < 10; n++ {
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

func isHex(c byte) bool { return c-'0' < 10 || (c|0x20)-'a' < 6 }
