package h1

import "encoding/binary"

// Classes of bytes, one bit each.
const (
	classToken  = 1 << iota // RFC 9110, section 5.6.2
	classTarget             // what a request target may hold: no space, no control byte, no '#'
)

var classes = makeClasses()

func makeClasses() (t [256]uint8) {
	const alnum = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	set := func(class uint8, s string) {
		for i := range len(s) {
			t[s[i]] |= class
		}
	}
	set(classToken, alnum+"!#$%&'*+-.^_`|~")
	for c := '!'; c <= 0xff; c++ {
		if c != 0x7f && c != '#' {
			t[c] |= classTarget
		}
	}
	return t
}

// span is the length of the longest start of b whose bytes are all of class.
func span(b []byte, class uint8) int {
	for i, c := range b {
		if classes[c]&class == 0 {
			return i
		}
	}
	return len(b)
}

func isDigit(c byte) bool { return c-'0' < 10 }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// valueBad reports bytes that a field value may not contain: control bytes but
// the tab (RFC 9110, section 5.5).
func valueBad(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// valueEnd returns the index of the first byte that a field value may not
// contain, len(b) when there is none. It looks at eight bytes at a time.
func valueEnd(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		// The top bit of a byte is set where it is below ' ' or is DEL, and perhaps
		// in one above such a byte.
		if ((x-0x20*ones)&^x|(del-ones)&^del)&tops != 0 {
			for j := range 8 {
				if valueBad(b[i+j]) {
					return i + j
				}
			}
		}
	}
	for ; i < len(b); i++ {
		if valueBad(b[i]) {
			return i
		}
	}
	return i
}

func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}
