package hop

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/head"
)

var update = flag.Bool("update", false, "write testdata anew")

// overHTTP2 is h as the peer's HTTP/2 engine gives it, with the reserved field:
// what RFC 9113, 8.2.2 and 8.3 make of a message that was HTTP/1.
func overHTTP2(h *head.Head, value []byte) *head.Head {
	out := &head.Head{Version: 20, Length: -1, Status: h.Status}
	if h.Status == 101 {
		out.Status = 200
	}
	if h.Status == 0 {
		out.Method, out.Authority = h.Method, bytes.Clone(h.Authority)
		switch {
		case h.Upgrade != nil:
			out.Method, out.Upgrade = []byte("CONNECT"), bytes.Clone(h.Upgrade)
			out.Scheme, out.Target = []byte("http"), Path(h)
		case !h.IsConnect():
			out.Scheme, out.Target = []byte("http"), Path(h)
		}
	}
	for i := range h.Fields {
		f := h.Fields[i]
		if specialOf(f.Name) != carried || head.EqualFold(f.Name, "te") && !head.EqualFold(f.Value, "trailers") {
			continue
		}
		out.Add(bytes.ToLower(f.Name), f.Value)
	}
	out.Add([]byte(FieldHTTP1), value)
	return out
}

// parse reads one head, request or response by its first letters.
func parse(b []byte, h *head.Head) (int, error) {
	var n int
	var err *h1.Error
	if bytes.HasPrefix(b, []byte("HTTP/")) {
		n, err = h1.ParseResponse(b, h1.Limits{}, h)
	} else {
		n, err = h1.ParseRequest(b, h1.Limits{}, h)
	}
	if err != nil {
		return n, err
	}
	return n, nil
}

// read is parse with what a connection knows: a response's framing depends on its request.
func read(raw []byte, exp h1.Expect) (*head.Head, error) {
	role := h1.Server
	if bytes.HasPrefix(raw, []byte("HTTP/")) {
		role = h1.Client
	}
	p := h1.NewParser(role, h1.Limits{}, nil)
	if role == h1.Client {
		p.NextMessage(exp)
	}
	p.Feed(raw)
	switch ev, ok := p.Next(); {
	case !ok:
		return nil, errors.New("no head")
	case ev.Kind == h1.EventError:
		return nil, ev.Err
	default:
		return ev.Head, nil
	}
}

// list shows fields.
func list(f []head.Field) string {
	s := ""
	for i := range f {
		s += fmt.Sprintf("%q: %q\n", f[i].Name, f[i].Value)
	}
	return s
}

// same describes how two heads differ, "" when they do not.
func same(a, b *head.Head) string {
	str := func(h *head.Head) string {
		if h.Status == 101 {
			c := *h
			c.Upgrade = nil // a 101 upgrades whether or not its Connection said so, which does not cross
			h = &c
		}
		s := fmt.Sprintf("%q %q %q %q %v%q %d %q %d form %d framing %d length %d expect %v", h.Method, h.Target, h.Scheme, h.Authority,
			h.Upgrade == nil, h.Upgrade, h.Status, h.Reason, h.Version, h.Form, h.Framing, h.Length, h.Expect)
		return s + fmt.Sprintf(" close %v\n", h.Framing == head.FramingClose && h.Close) + list(h.Fields)
	}
	if x, y := str(a), str(b); x != y {
		return "before: " + x + "\nafter: " + y
	}
	return ""
}

// cross sends a head over the hop and compares what comes out; it returns the value.
func cross(t testing.TB, h *head.Head) string {
	t.Helper()
	value := AppendHTTP1(nil, h)
	var out head.Head
	if _, err := Restore(nil, overHTTP2(h, value), h1.Limits{}, &out); err != nil {
		t.Fatalf("%v\nvalue %q\n%v", err, value, same(h, &out))
	}
	if d := same(h, &out); d != "" {
		t.Fatalf("value %q\n%s", value, d)
	}
	if v := string(value); strings.ContainsAny(v, "\r\n\x00") || v[len(v)-1] != end {
		t.Fatalf("not a field value: %q", v)
	}
	return string(value)
}

// R3.1, R5.3: heads that cross the hop as they were. testdata/golden.txt is the
// format: heads, and the value that each has in version 1.
func TestGoldenHeads(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for i, entry := range strings.Split(strings.TrimRight(string(data), "\n"), "\n\n") {
		lines := strings.Split(entry, "\n")
		name, body, want := lines[0], lines[1:len(lines)-1], lines[len(lines)-1]
		if !strings.HasPrefix(name, "# ") || !strings.HasPrefix(want, "= ") {
			t.Fatalf("entry %d is not of the form", i)
		}
		raw := strings.NewReplacer(`\x`, "\xe4").Replace(strings.Join(body, "\r\n")) + "\r\n\r\n"
		h, err := read([]byte(raw), h1.Expect{Head: strings.HasSuffix(name, "to HEAD"), Upgrade: true, Connect: strings.HasSuffix(name, "to CONNECT")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := strings.ReplaceAll(cross(t, h), "\xe4", `\x`)
		if got != want[2:] && !*update {
			t.Errorf("%s: %q, want %q", name, got, want[2:])
		}
		fmt.Fprintf(&out, "%s\n%s\n= %s\n\n", name, strings.Join(body, "\n"), got)
	}
	if *update {
		if err := os.WriteFile("testdata/golden.txt", []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHeadWithoutTheFieldIsPlain(t *testing.T) {
	h := &head.Head{Method: []byte("GET"), Target: []byte("/"), Version: 20}
	var out head.Head
	if buf, err := Restore([]byte("x"), h, h1.Limits{}, &out); err != ErrPlain || string(buf) != "x" {
		t.Error(buf, err)
	}
}

// A base that every hostile value below is tried on.
func hostile(value string) *head.Head {
	h := &head.Head{Version: 20, Method: []byte("GET"), Scheme: []byte("http"), Target: []byte("/p"), Authority: []byte("a"), Length: -1}
	h.Add([]byte("accept"), []byte("*/*"))
	h.Add([]byte("x-y"), []byte("z"))
	h.Add([]byte(FieldHTTP1), []byte(value))
	return h
}

// R5.1, R5.3: what is not understood wholly is refused, and nothing can be smuggled.
func TestHostileValuesAreRefused(t *testing.T) {
	var out head.Head
	if _, err := Restore(nil, hostile("1H."), h1.Limits{}, &out); err != nil {
		t.Fatal("the base is refused:", err)
	}
	for _, tt := range []struct{ name, value string }{
		{"no version", ""},
		{"unknown version", "2H."},
		{"unknown operator", "1HZ."},
		{"cut short", "1H"},
		{"bytes behind the end", "1H.."},
		{"more fields than there are", "1H3."},
		{"a number with a leading zero", "1H01."},
		{"a huge number", "1H99999999."},
		{"a mask of another length", "1Hx8-."},
		{"a mask over no letter", "1H1x4-."},
		{"a mask on a special field of another length", "1x8-8-H."},
		{"a mask without a name", "1H2x8-."},
		{"a mask without an end", "1Hx8."},
		{"a mask without digits", "1Hx-."},
		{"two masks", "1Hx8-x8-."},
		{"no Host in 1.1", "1."},
		{"two Hosts", "1HH."},
		{"a string cut short", "1h9:a."},
		{"a string without a colon", "1h1a."},
		{"an endless string", "1h99999999999999999999:a."},
		{"a line's end in a Host", "1h8:a\r\nX: y."},
		{"a bare LF in a Host", "1h6:a\nX: y."},
		{"a head's end in a Host", "1h7:a\r\n\r\nGE."},
		{"a line's end in a target", "1V19:/ HTTP/1.1\r\nHost: xH."},
		{"a space in a target", "1V4:/a bH."},
		{"an empty target", "1V0:H."},
		{"a line's end in an absolute form", "1A8:http://\nH."},
		{"white space around a value", "1h2: a."},
		{"a method without an upgrade", "1M4:POSTH."},
		{"an upgrade that is none", "1HG."},
		{"a coding with a line's end", "1Ht12:chunked\r\nX:."},
		{"an upgrade with a line's end", "1Hg6:a\r\nX:b."},
		{"a status in a request", "1SH."},
		{"a reason in a request", "1R2:OKH."},
		{"a framing in a request", "1CH."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			buf, err := Restore([]byte("x"), hostile(tt.value), h1.Limits{}, &out)
			var fe *FormatError
			if !errors.As(err, &fe) || string(buf) != "x" {
				t.Errorf("%q: %v, %q\n%v", tt.value, err, buf, same(&out, &out))
			}
		})
	}
	t.Run("two reserved fields", func(t *testing.T) {
		h := hostile("1H.")
		h.Add([]byte(FieldHTTP1), []byte("1H."))
		if _, err := Restore(nil, h, h1.Limits{}, &out); err == nil {
			t.Error("taken")
		}
	})
}

// R3.6: a body that ends with its connection cannot also have a length.
func TestHostileFramingIsRefused(t *testing.T) {
	h := &head.Head{Version: 20, Status: 200, Length: -1}
	h.Add([]byte("content-length"), []byte("5"))
	h.Add([]byte(FieldHTTP1), []byte("1C."))
	var out head.Head
	if _, err := Restore(nil, h, h1.Limits{}, &out); err == nil {
		t.Error("taken")
	}
}

// Even what the HTTP/2 engine should have refused.
func TestHostileFieldsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(h *head.Head)
	}{
		{"a line's end in a value", func(h *head.Head) { h.Fields[0].Value = []byte("a\r\nX: y") }},
		{"a field of the hop in a value", func(h *head.Head) { h.Fields[0].Value = []byte("a\r\nKeep-Alive: y") }},
		{"a line's end in a name", func(h *head.Head) { h.Fields[0].Name = []byte("a: b\r\nc") }},
		{"a colon in a name", func(h *head.Head) { h.Fields[0].Name = []byte("a:b") }},
		{"a colon and a space in a name", func(h *head.Head) { h.Fields[0].Name = []byte("a: ") }},
		{"an upper-case name", func(h *head.Head) { h.Fields[0].Name = []byte("Accept") }},
		{"an empty name", func(h *head.Head) { h.Fields[0].Name = nil }},
		{"a connection field", func(h *head.Head) { h.Fields[0].Name = []byte("connection") }},
		{"a host field", func(h *head.Head) { h.Fields[0].Name = []byte("host") }},
		{"a coding as a field", func(h *head.Head) {
			h.Fields[0] = head.Field{Name: []byte("transfer-encoding"), Value: []byte("chunked")}
		}},
		{"white space before a value", func(h *head.Head) { h.Fields[0].Value = []byte(" a") }},
		{"white space behind a value", func(h *head.Head) { h.Fields[0].Value = []byte("a\t") }},
		{"a space in the method", func(h *head.Head) { h.Method = []byte("GET /x HTTP/1.1\r\nA: b") }},
		{"a space in the path", func(h *head.Head) { h.Target = []byte("/ HTTP/1.1") }},
		{"a line's end in the authority", func(h *head.Head) { h.Authority = []byte("a\r\nX: y") }},
		{"length and coding", func(h *head.Head) {
			h.Fields[0] = head.Field{Name: []byte("content-length"), Value: []byte("5")}
			h.Fields[2].Value = []byte("1HT.")
		}},
		{"an upgrade that the field does not tell", func(h *head.Head) { h.Method, h.Upgrade = []byte("CONNECT"), []byte("websocket") }},
		{"an upgrade to something else", func(h *head.Head) {
			h.Method, h.Upgrade = []byte("CONNECT"), []byte("websocket")
			h.Fields[2].Value = []byte("1Hg3:foo.")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := hostile("1H.")
			tt.edit(h)
			var out head.Head
			if _, err := Restore(nil, h, h1.Limits{}, &out); err == nil {
				t.Errorf("taken:\n%s", same(&out, &head.Head{}))
			}
		})
	}
}

// R5.5: what else the proxies wrote on the hop does not reach the application.
func TestRestoreLeavesReservedFieldsOut(t *testing.T) {
	h := hostile("1H.")
	h.Fields = append([]head.Field{{Name: []byte("tulle-client-id"), Value: []byte("spiffe://x")}}, h.Fields...)
	h.Add([]byte("tulle_other"), []byte("x"))
	var out head.Head
	buf, err := Restore(nil, h, h1.Limits{}, &out)
	if want := "GET /p HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Y: z\r\n\r\n"; err != nil || string(buf) != want {
		t.Errorf("%q, %v", buf, err)
	}
}

// A field that was added behind the reserved one comes last, in Train-Case.
func TestFieldsAddedLater(t *testing.T) {
	var h head.Head
	if _, err := parse([]byte("GET / HTTP/1.1\r\nhost: a\r\nX-Y: z\r\n\r\n"), &h); err != nil {
		t.Fatal(err)
	}
	crossing := overHTTP2(&h, AppendHTTP1(nil, &h))
	crossing.Add([]byte("trace-parent"), []byte("00"))
	var out head.Head
	if _, err := Restore(nil, crossing, h1.Limits{}, &out); err != nil {
		t.Fatal(err)
	}
	if last := out.Fields[len(out.Fields)-1]; len(out.Fields) != 3 || string(last.Name) != "Trace-Parent" {
		t.Error(list(out.Fields))
	}
}

// R5.3: filters run first; `set` replaces in place, `add` appends.
func TestFilteredHeads(t *testing.T) {
	var h head.Head
	if _, err := parse([]byte("GET / HTTP/1.1\r\nA-B: 1\r\nHost: a\r\nx-C: 2\r\n\r\n"), &h); err != nil {
		t.Fatal(err)
	}
	h.Fields[2].Value = []byte("set")
	h.Add([]byte("x-Added"), []byte("3"))
	h.Authority = []byte("other") // a rewritten authority that Host does not follow is carried apart
	value := AppendHTTP1(nil, &h)
	var out head.Head
	buf, err := Restore(nil, overHTTP2(&h, value), h1.Limits{}, &out)
	if want := "GET / HTTP/1.1\r\nA-B: 1\r\nHost: a\r\nx-C: set\r\nx-Added: 3\r\n\r\n"; err != nil || string(buf) != want {
		t.Errorf("%q, %v", buf, err)
	}
}

// R3.1: trailers keep the case of their names.
func TestTrailers(t *testing.T) {
	in := []head.Field{{Name: []byte("Grpc-Status"), Value: []byte("0")}, {Name: []byte("x-CHECK"), Value: []byte("1")}, {Name: []byte("lower"), Value: nil}}
	value := AppendTrailers(nil, in)
	crossing := []head.Field{{Name: []byte("tulle-x"), Value: nil}}
	for _, f := range in {
		crossing = append(crossing, head.Field{Name: bytes.ToLower(f.Name), Value: f.Value})
	}
	crossing = append(crossing, head.Field{Name: []byte(FieldHTTP1), Value: value})
	_, out, err := RestoreTrailers(nil, crossing, nil)
	if err != nil || list(out) != list(in) {
		t.Errorf("%q %v\n%s", value, err, list(out))
	}
	if v := AppendTrailers(nil, in[2:]); v != nil {
		t.Errorf("lower case needs no field: %q", v)
	}
	_, out, err = RestoreTrailers(nil, crossing[:4], nil)
	if err != nil || len(out) != 3 || string(out[0].Name) != "grpc-status" {
		t.Errorf("%v\n%s", err, list(out))
	}
	for _, bad := range []string{"", "2.", "1H.", "1h1:a.", "19.", "1", "10T."} {
		crossing[4].Value = []byte(bad)
		if _, _, err := RestoreTrailers(nil, crossing, nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestEncodingAndRestoringDoNotAllocateOnceWarm(t *testing.T) {
	if race.Enabled {
		t.Skip("ceilings do not hold under -race")
	}
	for _, raw := range []string{
		"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nsec-ch-ua: y\r\nAccept: */*\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: x\r\nETag: y\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 404 Nothing Here\r\nContent-Length: 0\r\n\r\n",
	} {
		var h, out head.Head
		if _, err := parse([]byte(raw), &h); err != nil {
			t.Fatal(err)
		}
		value := AppendHTTP1(nil, &h)
		crossing := overHTTP2(&h, value)
		buf, scratch := make([]byte, 0, 4096), make([]byte, 0, 256)
		if n := testing.AllocsPerRun(100, func() { scratch = AppendHTTP1(scratch[:0], &h) }); n != 0 {
			t.Errorf("%.20q: encoding: %v allocations", raw, n)
		}
		parser := testing.AllocsPerRun(100, func() { _, _ = parse([]byte(raw), &out) }) - 1 // for the conversion
		if n := testing.AllocsPerRun(100, func() { buf, _ = Restore(buf[:0], crossing, h1.Limits{}, &out) }); n > parser {
			t.Errorf("%.20q: restoring: %v allocations, parsing %v", raw, n, parser)
		}
	}
}
