package hop

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// R5.5
func TestReserved(t *testing.T) {
	for _, s := range []string{"tulle-client-id", "Tulle-Client-Id", "tulle_client_id", "TULLE-", "tulle_", "tUlLe-x"} {
		if !Reserved([]byte(s)) {
			t.Errorf("%q is not reserved", s)
		}
	}
	for _, s := range []string{"", "tulle", "tulles", "x-tulle-id", "tullex-id", "tull-e", "tulle.id"} {
		if Reserved([]byte(s)) {
			t.Errorf("%q is reserved", s)
		}
	}
	for _, s := range []string{FieldHTTP1, FieldUnprocessed, FieldClientID, FieldError} {
		if !Reserved([]byte(s)) {
			t.Errorf("%q is not reserved", s)
		}
	}
}

// R5.5: in heads and trailers alike, whatever the case, all of them.
func TestStrip(t *testing.T) {
	h := &head.Head{}
	for _, n := range []string{"Tulle-Client-Id", "A", "tulle_client_id", "tulle-hop-http1", "B", "TULLE-X"} {
		h.Add([]byte(n), []byte("v"))
	}
	Strip(h)
	if len(h.Fields) != 2 || string(h.Fields[0].Name) != "A" || string(h.Fields[1].Name) != "B" {
		t.Errorf("%v left", h.Fields)
	}
}

// R5.4
func TestResult(t *testing.T) {
	long := strings.Repeat("long ", 300)
	for _, tt := range []struct {
		name, in, reason string
		n                int
		ok               bool
	}{
		{"connected, with bytes behind", string(AppendResult(nil, "")) + "220 hello", "", 1, true},
		{"refused", string(AppendResult(nil, "connection refused")), "connection refused", 21, false},
		{"refused at length", string(AppendResult(nil, long)), long[:MaxReason], MaxReason + 3, false},
		{"a reason that is no text", "\x01\x00\x04a\r\nb", "a??b", 7, false},
		{"unknown", "\x02", "peer proxy sent an unknown result", 0, false},
		{"refused without a reason", "\x01\x00\x00", "peer proxy sent a malformed result", 0, false},
		{"refused at too great length", "\x01\xff\xff", "peer proxy sent a malformed result", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reason, n, ok, more := ParseResult([]byte(tt.in))
			if reason != tt.reason || n != tt.n || ok != tt.ok || more {
				t.Errorf("%q %d %v %v", reason, n, ok, more)
			}
			for i := range tt.n {
				if r, n, ok, more := ParseResult([]byte(tt.in[:i])); !more || ok || n != 0 || r != "" {
					t.Errorf("after %d bytes: %q %d %v %v", i, r, n, ok, more)
				}
			}
		})
	}
}

func FuzzParseResult(f *testing.F) {
	f.Add(AppendResult(nil, ""))
	f.Add(AppendResult(nil, "connection refused"))
	f.Fuzz(func(t *testing.T, b []byte) {
		reason, n, ok, more := ParseResult(b)
		switch {
		case n > len(b), more && (ok || n != 0), ok && (n != 1 || reason != ""), !ok && !more && reason == "":
			t.Errorf("%q %d %v %v", reason, n, ok, more)
		}
		for _, c := range []byte(reason) {
			if c < ' ' || c > '~' {
				t.Errorf("reason %q", reason)
			}
		}
		if !ok && n > 0 && len(b) == n && bytes.IndexByte(b[3:], '?') < 0 && !strings.Contains(reason, "?") {
			if again := AppendResult(nil, reason); !bytes.Equal(again, b) {
				t.Errorf("%q again is %q", b, again)
			}
		}
	})
}
