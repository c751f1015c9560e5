package h2

import "encoding/binary"

// Classes of bytes.
const (
	className   = 1 << iota // of a field name: a token in lower case
	classToken              // RFC 9110, section 5.6.2
	classPath               // no control, no space, no fragment
	classScheme             // RFC 3986, section 3.1
)

var classes = makeClasses()

func makeClasses() (t [256]uint8) {
	set := func(bits uint8, chars string) {
		for _, c := range []byte(chars) {
			t[c] |= bits
		}
	}
	const lower, upper, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	set(className|classToken, lower+digits+"!#$%&'*+-.^_`|~")
	set(classToken, upper)
	set(classScheme, lower+upper+digits+"+-.")
	for c := 0x21; c < 256; c++ {
		if c != 0x7f && c != '#' {
			t[c] |= classPath
		}
	}
	return t
}

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

// validName: RFC 9113, section 8.2.1, narrowed to what HTTP/1 could carry (R4.6).
func validName(b []byte) bool { return len(b) > 0 && all(b, className) }

func validToken(b []byte) bool { return len(b) > 0 && all(b, classToken) }

func validPath(b []byte) bool { return all(b, classPath) }

func validScheme(b []byte) bool {
	return len(b) > 0 && (b[0]|0x20)-'a' < 26 && all(b, classScheme)
}

// validUpgrade takes what Upgrade may hold: a list of protocol names with
// versions (RFC 9110, section 7.8).
func validUpgrade(b []byte) bool {
	for _, c := range b {
		if classes[c]&classToken == 0 && c != '/' && c != ',' && c != ' ' {
			return false
		}
	}
	return len(b) > 0
}

// validValue: no control byte but a tab inside, no white space at either end
// (RFC 9113, section 8.2.1, and RFC 9110, section 5.5).
func validValue(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if first, last := b[0], b[len(b)-1]; first == ' ' || first == '\t' || last == ' ' || last == '\t' {
		return false
	}
	// Eight bytes at once, as long as none is a control byte.
	for len(b) >= 8 && !anyControl(binary.LittleEndian.Uint64(b)) {
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// anyControl reports whether one of eight bytes is below 0x20 or may be 0x7f;
// the answer may be a false yes, never a false no.
func anyControl(x uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	del := x ^ 0x7f*ones
	return ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0
}

// parseLength parses a Content-Length of digits alone.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
