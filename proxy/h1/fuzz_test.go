package h1

import (
	"math/rand/v2"
	"testing"
)

// FuzzRequest reads whatever comes in one piece and in pieces cut at random,
// compares, and asks net/http.
func FuzzRequest(f *testing.F) {
	for _, c := range acceptedRequests {
		f.Add([]byte(c.in), uint64(1), false)
	}
	for _, r := range refusedRequests {
		f.Add([]byte(r.in), uint64(2), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, small bool) {
		c := conversation{in: string(in), eof: true}
		if small {
			c.lim = Limits{HeaderBytes: 60, HeaderCount: 2, TargetBytes: 10}
		}
		c.checkCuts(t, seed)
		sameRequest(t, in)
		writtenBack(t, in, Server, Expect{})
	})
}

// FuzzResponse does the same with responses.
func FuzzResponse(f *testing.F) {
	for _, c := range acceptedResponses {
		f.Add([]byte(c.in), uint64(1), bits(append(c.exp, Expect{})[0]))
	}
	for _, r := range refusedResponses {
		f.Add([]byte(r.in), uint64(2), uint8(0))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, b uint8) {
		exp := Expect{Head: b&1 != 0, Connect: b&2 != 0, Upgrade: b&4 != 0}
		c := conversation{role: Client, in: string(in), exp: []Expect{exp, {}}, eof: true}
		if b&8 != 0 {
			c.lim = Limits{HeaderBytes: 60, HeaderCount: 2, TargetBytes: 10}
		}
		c.checkCuts(t, seed)
		sameResponse(t, in, exp)
		writtenBack(t, in, Client, exp)
	})
}

func bits(e Expect) (b uint8) {
	for i, set := range []bool{e.Head, e.Connect, e.Upgrade} {
		if set {
			b |= 1 << i
		}
	}
	return b
}

// checkCuts reads c in one piece and, several times, in pieces.
func (c *conversation) checkCuts(t *testing.T, seed uint64) {
	t.Helper()
	want := c.read(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, most := range []int{1, 3, 40, len(c.in) + 1} {
		var cuts []int
		for at := rng.IntN(most) + 1; at < len(c.in); at += rng.IntN(most) + 1 {
			cuts = append(cuts, at)
		}
		if got := c.read(t, cuts...); got != want {
			t.Fatalf("cut at %d:\n%s\nin one piece:\n%s", cuts, got, want)
		}
	}
}

// What conversations of pieces that resemble HTTP come to, without a fuzzer's
// patience: the same whatever the cuts, and what net/http makes of it.
func TestRandomMessages(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	n := 20_000
	if testing.Short() {
		n = 4000
	}
	for range n {
		in := randomMessage(rng, requestStarts)
		(&conversation{in: string(in), eof: true}).checkCuts(t, rng.Uint64())
		sameRequest(t, in)
		writtenBack(t, in, Server, Expect{})

		in = randomMessage(rng, responseStarts)
		exp := Expect{Head: rng.IntN(4) == 0, Connect: rng.IntN(8) == 0, Upgrade: rng.IntN(4) == 0}
		(&conversation{role: Client, in: string(in), exp: []Expect{exp, {}}, eof: true}).checkCuts(t, rng.Uint64())
		sameResponse(t, in, exp)
		writtenBack(t, in, Client, exp)
		if t.Failed() {
			return
		}
	}
}

var (
	requestStarts = []string{"GET / HTTP/1.1", "POST /a HTTP/1.1", "PUT http://h/x HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT h:1 HTTP/1.1",
		"GET / HTTP/1.0", "GET /b  HTTP/1.1", "GET\t/ HTTP/1.1", "\r\nGET / HTTP/1.1", "GET //h/%zz?x HTTP/1.1"}
	responseStarts = []string{"HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 304 ", "HTTP/1.0 200", "HTTP/1.1 100 Continue",
		"HTTP/1.1 101 Switching Protocols", "HTTP/1.1 502 a b"}
	fieldLines = []string{"Host: a", "Host: h:1", "host:", "Content-Length: 3", "Content-Length: 0", "content-length:  3\t", "Content-Length: 3, 3",
		"Transfer-Encoding: chunked", "transfer-encoding: Chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding : chunked",
		"Connection: close", "Connection: keep-alive", "connection: upgrade, x", "X: y", "x:z", "X:  \x80 ", "Upgrade: websocket", "Upgrade: h2c",
		"TE: trailers", "Expect: 100-continue", "Trailer: X", " folded", "A\x00: b", "A: \x00", "Keep-Alive: 1"}
	bodies = []string{"", "abc", "3\r\nabc\r\n0\r\n\r\n", "3;e=f\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "03 ; a\r\nabc\r\n000\r\n\r\n",
		"0\r\n\r\n", "ffffffffffffffff1\r\nabc", "2\r\nabc\r\n0\r\n\r\n", "0\r\nContent-Length: 1\r\n\r\n", "0\r\ntulle-x: 1\r\n\r\n", "0\r\nX: y\n\r\n"}
	lineEnds = []string{"\n", "\r", "\r\r\n", "\n\r\n", ""}
)

func randomMessage(rng *rand.Rand, starts []string) []byte {
	pick := func(s []string) string { return s[rng.IntN(len(s))] }
	line := func(b []byte, s string) []byte {
		b = append(b, s...)
		if rng.IntN(60) == 0 {
			return append(b, pick(lineEnds)...)
		}
		return append(b, "\r\n"...)
	}
	var b []byte
	for range rng.IntN(3) + 1 {
		b = line(b, pick(starts))
		if rng.IntN(8) > 0 {
			b = line(b, "Host: a.b")
		}
		for range rng.IntN(5) {
			b = line(b, pick(fieldLines))
		}
		b = line(b, "")
		b = append(b, pick(bodies)...)
	}
	return b
}
