package h1

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// R1.5: each limit is met exactly, and the refusal says which.
func TestLimits(t *testing.T) {
	small := Limits{HeaderBytes: 200, HeaderCount: 3, TargetBytes: 40}
	padded := func(n int) string { // a head of n bytes
		h := lines("GET / HTTP/1.1", "Host: a", "X: ")
		return lines("GET / HTTP/1.1", "Host: a", "X: "+repeat("x", n-len(h)))
	}
	target := func(n int) string { return lines("GET /"+repeat("a", n-1)+" HTTP/1.1", "Host: a") }
	trailers := func(n int) string { return chunked("0\r\nA: " + repeat("a", n-7) + "\r\n\r\n") }
	for _, c := range []struct {
		name, in string
		lim      Limits
		status   int // 0: accepted
		reason   string
	}{
		{"a target that just fits", target(40), small, 0, ""},
		{"a target too long", target(41), small, 414, "request target too long"},
		{"a start line too long", target(200), small, 414, "start line too long"},
		{"a start line that does not end", "GET /" + repeat("a", 1000), small, 414, "start line too long"},
		{"a method that does not end", repeat("A", 1000), small, 414, "start line too long"},
		{"a start line over the limit of heads", target(40), Limits{HeaderBytes: 30, TargetBytes: 40}, 414, "start line too long"},
		{"a head that just fits", padded(200), small, 0, ""},
		{"a head too large", padded(201), small, 431, "head too large"},
		{"a field that does not end", "GET / HTTP/1.1\r\nX: " + repeat("a", 1000), small, 431, "head too large"},
		{"fields without end", "GET / HTTP/1.1\r\n" + repeat("X: y\r\n", 1000), small, 431, "head too large"},
		{"bare LF behind too large a field", "GET / HTTP/1.1\r\nX: " + repeat("a", 1000) + "\n", small, 431, "head too large"},
		{"three fields", lines("GET / HTTP/1.1", "Host: a", "B: c", "D: e"), small, 0, ""},
		{"four fields", lines("GET / HTTP/1.1", "Host: a", "B: c", "D: e", "F: g"), small, 431, "too many fields"},
		{"four fields of which one is of the hop", lines("GET / HTTP/1.1", "Host: a", "B: c", "Keep-Alive: e", "F: g"), small, 431, "too many fields"},
		{"trailers that just fit", trailers(200), small, 0, ""},
		{"trailers too large", trailers(201), small, 431, "head too large"},
		{"four trailers", chunked("0\r\n" + lines("A: b", "C: d", "E: f", "G: h")), small, 431, "too many trailers"},
		{"a chunk line that just fits", chunked("3;" + repeat("a", maxChunkLine-4) + "\r\nabc\r\n0\r\n\r\n"), small, 0, ""},
		{"a chunk line of a byte more", chunked("3;" + repeat("a", maxChunkLine-3) + "\r\nabc\r\n0\r\n\r\n"), small, 400, "chunk size line too long"},
		{"an extension that does not end", chunked("3;" + repeat("a", 2000)), small, 400, "chunk size line too long"},
		{"an extension too long", chunked("3;" + repeat("a", 2000) + "\r\nabc\r\n"), small, 400, "chunk size line too long"},
		{"default: a target that just fits", target(32 << 10), Limits{}, 0, ""},
		{"default: a target too long", target(32<<10 + 1), Limits{}, 414, "request target too long"},
		{"default: a head that just fits", padded(64 << 10), Limits{}, 0, ""},
		{"default: a head too large", padded(64<<10 + 1), Limits{}, 431, "head too large"},
		{"default: 256 fields", lines("GET / HTTP/1.1", "Host: a"+repeat("\r\nA: b", 255)), Limits{}, 0, ""},
		{"default: 257 fields", lines("GET / HTTP/1.1", "Host: a"+repeat("\r\nA: b", 256)), Limits{}, 431, "too many fields"},
	} {
		t.Run("R1.5 "+c.name, func(t *testing.T) {
			v := conversation{lim: c.lim, in: c.in}
			want := fmt.Sprintf("error %d %s\n", c.status, c.reason)
			if c.status == 0 {
				want = "end\n"
			}
			if got := lastLine(v.read(t)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			v.check(t)
		})
	}
}

// Extensions and tiny chunks cost the reader more than the sender
// (CVE-2023-39326): what they cost beyond their data is bounded.
func TestChunksOfOverheadAreRefused(t *testing.T) {
	costly := chunked(repeat("1;"+repeat("a", 98)+"\r\nx\r\n", 300))
	if got := lastLine((&conversation{in: costly}).read(t)); got != "error 400 chunks that are mostly overhead\n" {
		t.Error(got)
	}
	for _, modest := range []string{
		chunked(repeat("1\r\nx\r\n", 100_000) + "0\r\n\r\n"),
		chunked(repeat("64;"+repeat("a", 198)+"\r\n"+repeat("x", 100)+"\r\n", 1000) + "0\r\n\r\n"),
	} {
		if got := lastLine((&conversation{in: modest}).read(t)); got != "end\n" {
			t.Error(got)
		}
	}
}

// One message's overhead, or interim responses, are not another's.
func TestOverheadIsCountedPerMessage(t *testing.T) {
	interim := repeat(lines("HTTP/1.1 102 Processing"), 60<<10/27)
	costly := res("Transfer-Encoding: chunked") + repeat("1;"+repeat("a", 98)+"\r\nx\r\n", 190) + "0\r\n\r\n"
	c := conversation{role: Client, in: repeat(interim+costly, 3)}
	if got := lastLine(c.read(t)); got != "end\n" {
		t.Error(got)
	}
}

// Interim responses are passed on without flow control: they are bounded.
func TestInterimResponsesAreBounded(t *testing.T) {
	c := conversation{role: Client, in: repeat(lines("HTTP/1.1 102 Processing"), 64<<10/27+1)}
	if got := lastLine(c.read(t)); got != "error 502 too many interim responses\n" {
		t.Error(got)
	}
	c = conversation{role: Client, in: repeat(repeat(lines("HTTP/1.1 102 Processing"), 1000)+res("Content-Length: 0"), 5)}
	if got := lastLine(c.read(t)); got != "end\n" {
		t.Error(got)
	}
}

// An idle connection's parser owns nothing but itself.
func TestIdleParserOwnsNoMemory(t *testing.T) {
	pool := slab.NewPool(nil)
	p := NewParser(Server, Limits{}, pool)
	feed := func(s string) {
		p.Feed([]byte(s))
		for {
			ev, ok := p.Next()
			if !ok {
				break
			}
			if ev.Kind == EventEnd {
				p.NextMessage(Expect{})
			}
		}
		p.Stash()
	}
	owns := func(want bool) {
		t.Helper()
		if got := p.stash != nil || p.in != nil || p.more != nil || pool.InUse() != 0; got != want {
			t.Errorf("owns memory: %v", got)
		}
		if p.h != nil {
			t.Error("keeps a head after Stash")
		}
		if p.Idle() == want {
			t.Errorf("idle: %v", p.Idle())
		}
	}
	owns(false)
	feed("GET / HTTP/1.1\r\nHo")
	owns(true)
	feed("st: a\r\n\r\n")
	owns(false)
	feed(req("Content-Length: 5") + "abcde" + "GET")
	owns(true)
	feed(" / HTTP/1.1\r\nHost: a\r\n" + repeat("A: b\r\n", 200) + "\r\n")
	owns(false)
	if s := unsafe.Sizeof(*p); s > 256 {
		t.Errorf("a parser is %d bytes", s)
	}
}

// A peer that dribbles costs no more than one that does not: no byte is looked
// at or moved again and again. Quadratic, 60 KiB would move 1.8 GB; a step is a
// byte moved into the stash or looked at by a scan.
func TestDribbledHeadIsLinear(t *testing.T) {
	in := lines("GET / HTTP/1.1", "Host: a"+repeat("\r\nX: "+repeat("x", 250), 230))
	if len(in) < 57<<10 {
		t.Fatal(len(in))
	}
	pool := slab.NewPool(nil)
	p := NewParser(Server, Limits{}, pool)
	moved := 0
	for i := range len(in) {
		looked := p.lines.at
		before := unsafe.SliceData(p.stash)
		p.Feed([]byte(in[i : i+1]))
		ev, ok := p.Next()
		if ok != (i == len(in)-1) {
			t.Fatalf("event %d at byte %d", ev.Kind, i)
		}
		if !ok && (p.lines.at != i+1 || looked != i) {
			t.Fatalf("looked at %d bytes up to byte %d, then at %d", looked, i, p.lines.at)
		}
		p.Stash()
		if unsafe.SliceData(p.stash) != before {
			moved += len(p.stash)
		}
	}
	if moved > 3*len(in) {
		t.Errorf("%d bytes moved for a head of %d", moved, len(in))
	}
}

// Of what follows an unfinished head, little is copied: a body's bytes alias
// what was fed.
func TestBodyBehindAStashedHeadIsNotCopied(t *testing.T) {
	pool := slab.NewPool(nil)
	p := NewParser(Server, Limits{}, pool)
	h := req("Content-Length: 60000")
	p.Feed([]byte(h[:30]))
	p.Next()
	p.Stash()
	in := []byte(h[30:] + repeat("x", 60000))
	p.Feed(in)
	var aliased, all int
	for {
		ev, ok := p.Next()
		if !ok {
			break
		}
		all += len(ev.Data)
		if len(ev.Data) > 0 && unsafe.SliceData(ev.Data) == &in[len(in)-len(ev.Data)] {
			aliased += len(ev.Data)
		}
	}
	if all != 60000 || aliased < all-takeBytes {
		t.Errorf("%d bytes of %d alias what was fed", aliased, all)
	}
	if pool.InUse() > 4<<10 {
		t.Errorf("%d bytes stashed", pool.InUse())
	}
}

const typicalRequest = "GET /api/v1/items/42?expand=owner HTTP/1.1\r\nHost: web.default.svc.cluster.local:8080\r\n" +
	"User-Agent: bench/1.0\r\nAccept: application/json, text/plain, */*\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"X-Request-Id: 5f2b6c0e9d3a4f1b8c7e6d5a4b3c2d1e\r\nAuthorization: Bearer abcdefghijklmnop\r\n" +
	"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: keep-alive\r\n\r\n"

const typicalResponse = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Fri, 01 May 2026 12:00:00 GMT\r\n" +
	"Server: x\r\nContent-Length: 16\r\n\r\n0123456789abcdef"

const chunkedResponse = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
	"10\r\n0123456789abcdef\r\n8;ext\r\n01234567\r\n0\r\nGrpc-Status: 0\r\n\r\n"

// Once warm, reading and writing allocate nothing, however the bytes are cut.
func TestNothingIsAllocated(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for _, c := range []struct {
		name string
		role Role
		in   string
	}{
		{"request", Server, typicalRequest},
		{"response", Client, typicalResponse},
		{"chunked", Client, chunkedResponse},
		{"100 fields", Server, lines("GET / HTTP/1.1", "Host: a"+repeat("\r\nName: value", 99))},
	} {
		for _, cut := range []int{0, 50, len(c.in) - 3} {
			p := NewParser(c.role, Limits{}, slab.NewPool(nil))
			in, out := []byte(c.in), make([]byte, 0, 4096)
			if n := testing.AllocsPerRun(100, func() { out = exchange(t, p, in, cut, out) }); n != 0 {
				t.Errorf("%s cut at %d: %v allocations", c.name, cut, n)
			}
		}
	}
}

// exchange reads one message from in, cut in two, and writes what it can be
// written of.
func exchange(t testing.TB, p *Parser, in []byte, cut int, out []byte) []byte {
	out = out[:0]
	for _, piece := range [2][]byte{in[:cut], in[cut:]} {
		p.Feed(piece)
		for {
			ev, ok := p.Next()
			if !ok {
				break
			}
			switch ev.Kind {
			case EventHead:
				if ev.Head.Status == 0 {
					out = AppendRequest(out, ev.Head, ConnKeepAlive, nil)
				} else {
					out = AppendResponse(out, ev.Head, ConnNone, nil)
				}
			case EventData:
				out = AppendChunk(out, ev.Data)
			case EventTrailers:
				out = AppendLastChunk(out, ev.Head.Fields)
			case EventEnd:
				p.NextMessage(Expect{})
			case EventInfo, EventTunnel, EventError:
				t.Fatal(ev.Kind, ev.Err)
			}
		}
		p.Stash()
	}
	if !p.Idle() {
		t.Fatal("not read to its end")
	}
	return out
}

// ParseRequest allocates nothing either, given a head that was used before.
func TestParseAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	var h head.Head
	in := []byte(typicalRequest)
	if n := testing.AllocsPerRun(100, func() {
		if n, err := ParseRequest(in, Limits{}, &h); n != len(in) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	in = []byte(strings.SplitAfter(typicalResponse, "\r\n\r\n")[0])
	if n := testing.AllocsPerRun(100, func() {
		if n, err := ParseResponse(in, Limits{}, &h); n != len(in) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
