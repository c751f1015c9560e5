package h1

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// writtenBack checks that a head that we accept is written as it came, but for
// the fields of the hop and white space, and read again as the same.
func writtenBack(t *testing.T, in []byte, role Role, exp Expect) {
	t.Helper()
	_, h, ok := ours(in, role, exp)
	if !ok {
		return
	}
	conn := ConnNone
	switch {
	case h.Upgrade != nil:
		conn = ConnUpgrade
	case h.Close && h.Framing != head.FramingClose && h.Version == 11:
		conn = ConnClose
	case !h.Close && h.Version == 10:
		conn = ConnKeepAlive
	}
	var again head.Head
	var out []byte
	var n int
	var err *Error
	if role == Server {
		out = AppendRequest([]byte("x"), &h, conn, nil)[1:]
		n, err = ParseRequest(out, Limits{}, &again)
	} else {
		out = AppendResponse([]byte("x"), &h, conn, nil)[1:]
		n, err = ParseResponse(out, Limits{}, &again)
	}
	if n != len(out) || err != nil {
		t.Fatalf("%q written as %q cannot be read: %v", in, out, err)
	}
	if conn == ConnUpgrade { // which says nothing of closing
		again.Close = h.Close
	}
	if role == Client { // what depends on the request
		again.Framing, again.Length, again.Close = h.Framing, h.Length, h.Close
	}
	if a, b := describe(&h), describe(&again); a != b {
		t.Errorf("%q is\n%s, written as %q it is\n%s", in, a, out, b)
	}
	// Every line written came in, in that order.
	from := bytes.TrimPrefix(in, []byte(crlf))
	for _, l := range bytes.SplitAfter(out, []byte(crlf))[1:] {
		if name, value, ok := bytes.Cut(l, []byte(": ")); ok {
			if head.EqualFold(name, "connection") {
				continue
			}
			i := bytes.Index(from, append([]byte(crlf), append(bytes.Clone(name), ':')...))
			for ; i >= 0; i = bytes.Index(from, append([]byte(crlf), append(bytes.Clone(name), ':')...)) {
				l, _, _ := bytes.Cut(from[i+2+len(name)+1:], []byte(crlf))
				from = from[i+2+len(name)+1+len(l):]
				if bytes.Equal(bytes.Trim(l, " \t"), bytes.TrimSuffix(value, []byte(crlf))) || head.EqualFold(name, "te") || head.EqualFold(name, "upgrade") {
					break
				}
			}
			if i < 0 {
				t.Errorf("%q was written as %q: %q did not come in, or in another order", in, out, l)
			}
		}
	}
}

func describe(h *head.Head) string {
	var r reader
	r.head("", h)
	return r.out.String()
}

// R3.1: what goes in comes out, byte by byte.
func TestHeadsAreWrittenAsTheyCame(t *testing.T) {
	for _, in := range []string{
		lines("GET / HTTP/1.1", "Host: a"),
		lines("OPTIONS * HTTP/1.0", "hOST: a", "X: ", "x: y\tz", "X: y"),
		lines("CONNECT a:1 HTTP/1.1", "A: b", "Host: a:1"),
		lines("PUT HTTP://u:80/%zz?\xff HTTP/1.1", "Host: u:80", "Content-Length: 005", "Expect: 100-Continue", "TE: Trailers", "Cookie: a", "Cookie: b"),
		lines("POST / HTTP/1.1", "tRANSFER-eNCODING: gzip, Chunked", "Host: a", "Trailer: X", "Upgrade-Insecure-Requests: 1"),
	} {
		var h head.Head
		if n, err := ParseRequest([]byte(in), Limits{}, &h); n != len(in) || err != nil {
			t.Fatal(in, n, err)
		}
		if out := AppendRequest(nil, &h, ConnNone, nil); string(out) != in {
			t.Errorf("%q became %q", in, out)
		}
	}
	for _, in := range []string{
		lines("HTTP/1.1 200 OK", "Content-Length: 5"),
		lines("HTTP/1.0 404 ", "server: x", "Server: y"),
		lines("HTTP/1.1 101 Switching  Protocols ", "Upgrade: websocket"),
		lines("HTTP/1.1 299 \xe4\t!", "Transfer-Encoding: chunked"),
		lines("HTTP/1.1 204 No Content", "Content-Length: 0"),
	} {
		var h head.Head
		if n, err := ParseResponse([]byte(in), Limits{}, &h); n != len(in) || err != nil {
			t.Fatal(in, n, err)
		}
		if out := AppendResponse(nil, &h, ConnNone, nil); string(out) != in {
			t.Errorf("%q became %q", in, out)
		}
	}
}

// R3.1, R3.2: a hop's own Connection, and what the mesh adds, stand at the end.
func TestConnectionOfThisHop(t *testing.T) {
	h := head.Head{Method: []byte("GET"), Target: []byte("/"), Version: 11}
	h.Add([]byte("Host"), []byte("a"))
	extra := []head.Field{{Name: []byte("tulle-client-id"), Value: []byte("x")}}
	for c, want := range map[ConnField]string{
		ConnNone:      "",
		ConnClose:     "Connection: close\r\n",
		ConnKeepAlive: "Connection: keep-alive\r\n",
		ConnUpgrade:   "Connection: Upgrade\r\n",
	} {
		want = "GET / HTTP/1.1\r\nHost: a\r\n" + want + "tulle-client-id: x\r\n\r\n"
		if got := AppendRequest(nil, &h, c, extra); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A head from HTTP/2 becomes HTTP/1.1, Host first, with the usual reason phrase.
func TestHeadsFromHTTP2(t *testing.T) {
	for _, c := range []struct {
		h    head.Head
		want string
	}{
		{head.Head{Method: []byte("GET"), Target: []byte("/p"), Scheme: []byte("http"), Authority: []byte("a:1"), Version: 20, Fields: []head.Field{{Name: []byte("accept"), Value: []byte("b")}}},
			"GET /p HTTP/1.1\r\nhost: a:1\r\naccept: b\r\n\r\n"},
		{head.Head{Method: []byte("CONNECT"), Authority: []byte("a:1"), Version: 20}, "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"},
		{head.Head{Status: 200, Version: 20}, "HTTP/1.1 200 OK\r\n\r\n"},
		{head.Head{Status: 299, Version: 20}, "HTTP/1.1 299 \r\n\r\n"},
	} {
		var got []byte
		if c.h.Status != 0 {
			got = AppendResponse(nil, &c.h, ConnNone, nil)
		} else {
			got = AppendRequest(nil, &c.h, ConnNone, nil)
		}
		if string(got) != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// R3.1, R3.6: chunks are read back as they were written, and an empty piece of a
// body does not end it.
func TestChunksAreReadBack(t *testing.T) {
	for _, sizes := range [][]int{{}, {0}, {1}, {0, 15, 16, 0, 17}, {65536, 1, 4095}} {
		b := []byte(chunked(""))
		want := 0
		for _, n := range sizes {
			b = AppendChunk(b, bytes.Repeat([]byte{'\n'}, n))
			want += n
		}
		b = AppendLastChunk(b, []head.Field{{Name: []byte("X-Sum"), Value: []byte("1")}})
		m, _, ok := ours(b, Server, Expect{})
		if !ok || m.body != repeat("\n", want) || m.trailers != "X-Sum: [\"1\"]\n" || m.used != len(b) {
			t.Errorf("%d: read %d bytes of %d, trailers %q", sizes, len(m.body), want, m.trailers)
		}
		sameRequest(t, b)
	}
	if got := fmt.Sprintf("%q", AppendLastChunk(nil, nil)); got != `"0\r\n\r\n"` {
		t.Error(got)
	}
}
