package h1

import (
	"bytes"
	"strings"
	"testing"
)

// Every byte value at every place of strings around the eight bytes that are
// looked at together.
func TestValueEndFindsTheFirstBadByte(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte{'x'}, n)
				b[at] = byte(c)
				want := n
				if c < ' ' && c != '\t' || c == 0x7f {
					want = at
				}
				if got := valueEnd(b); got != want {
					t.Fatalf("%q: %d, want %d", b, got, want)
				}
				for after := at + 1; after < n; after++ { // the first one counts
					b[after] = 0
				}
				if want == n && at+1 < n {
					want = at + 1
				}
				if got := valueEnd(b); got != want {
					t.Fatalf("%q: %d, want %d", b, got, want)
				}
			}
		}
	}
}

// RFC 9110, section 5.6.2.
func TestTokens(t *testing.T) {
	for c := range 256 {
		want := c < 0x80 && (strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z')
		if got := span([]byte{byte(c)}, classToken) == 1; got != want {
			t.Errorf("%q: %v", byte(c), got)
		}
	}
}
