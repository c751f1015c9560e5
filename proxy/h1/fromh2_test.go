package h1

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// R4.6: a request that proxy/h2 accepts, however hostile, is one HTTP/1 head of
// as many lines as it has fields; read strictly it is refused or the same.
func TestWhatComesOverHTTP2IsOneHead(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	written, refused, kinds := 0, 0, map[string]int{}
	for range 30_000 {
		fields := hostileRequest(rng)
		h := overHTTP2(t, fields)
		if h == nil {
			refused++
			continue
		}
		written++
		out := AppendRequest(nil, h, ConnNone, nil)
		if n := bytes.Count(out, []byte("\n")); n != len(h.Fields)+3 || bytes.Count(out, []byte("\r")) != n || bytes.Count(out, []byte("\r\n\r\n")) != 1 {
			t.Fatalf("%q was written as %q", fields, out)
		}
		var again head.Head
		n, err := ParseRequest(out, Limits{}, &again)
		if err != nil {
			kinds[err.Reason]++
			continue
		}
		if n != len(out) {
			t.Fatalf("%q was written as %q, whose head is %d bytes", fields, out, n)
		}
		if !bytes.Equal(again.Method, h.Method) || !bytes.Equal(again.Authority, h.Authority) || again.Framing == head.FramingChunked ||
			again.Length != h.Length || !bytes.Equal(again.Target, h.Target) || again.Upgrade != nil {
			t.Fatalf("%q was written as %q, which is %s", fields, out, describe(&again))
		}
	}
	t.Logf("%d refused by proxy/h2, %d written, of these refused when read: %v", refused, written, kinds)
	if written < 1000 || refused < 1000 {
		t.Errorf("%d written, %d refused: this proves nothing", written, refused)
	}
	for reason := range kinds {
		switch reason {
		case "bad Host", "fragment in a request target", "CONNECT without host:port, or in HTTP/1.0", "CONNECT with a body":
			// Here proxy/h2 takes more than proxy/h1 does; nobody reads two messages.
		default:
			t.Errorf("proxy/h2 lets pass what HTTP/1 cannot carry: %s", reason)
		}
	}
}

func hostileRequest(rng *rand.Rand) []hpack.HeaderField {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	evil := func(s ...string) string { // now and then not what it should be
		if rng.IntN(12) > 0 {
			return s[0]
		}
		return pick(append(s, "", "\r\nX: y", "a\nb", "a\x00", "a b", " a", "a\t", "\x7f", "a\r", "GET / HTTP/1.1\r\nHost: b\r\n\r\n", "\xff", "#", "a:b:c", ":")...)
	}
	method := evil("GET", "POST", "CONNECT", "get", "G T")
	f := []hpack.HeaderField{{Name: ":method", Value: method}}
	if method != "CONNECT" || rng.IntN(4) == 0 {
		f = append(f, hpack.HeaderField{Name: ":scheme", Value: evil("http", "https", "file")},
			hpack.HeaderField{Name: ":path", Value: evil("/", "/a?b", "*", "//x", "http://b/", "/ HTTP/1.1\r\nX: y\r\n\r\n", "/a b", "/#x")})
	}
	if rng.IntN(8) > 0 {
		f = append(f, hpack.HeaderField{Name: ":authority", Value: evil("a:1", "a", "u@a", "a/b", "[::1]:2", "a%2e")})
	}
	for range rng.IntN(4) {
		name := evil(pick("accept", "x", "cookie"), "host", "Host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "keep-alive",
			"http2-settings", "x:", "x\r\ny", "proxy-connection", "expect", "X")
		f = append(f, hpack.HeaderField{Name: name, Value: evil(pick("1", "a:1", "chunked", "trailers", "h2c", "3, 3", "+3"))})
	}
	return f
}

// overHTTP2 returns the head that proxy/h2 makes of fields, nil when it refuses.
func overHTTP2(t *testing.T, fields []hpack.HeaderField) *head.Head {
	t.Helper()
	var wire, block bytes.Buffer
	wire.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&wire, nil)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	enc := hpack.NewEncoder(&block)
	for _, f := range fields {
		if err := enc.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: false, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	now := mono.Time(1)
	c := h2.New(h2.Config{}, now)
	defer c.Close()
	c.Feed(wire.Bytes())
	for {
		ev, ok := c.Next(now)
		if !ok {
			return nil
		}
		switch ev.Kind {
		case h2.EventHead:
			h := &head.Head{}
			ev.Head.CopyTo(h, nil)
			return h
		case h2.EventError:
			t.Fatal(fmt.Sprintf("%q", fields), ev.Err)
		}
	}
}

// R4.6: fields that frame, route or authenticate are no trailers, wherever they
// came from.
func TestTrailersFromHTTP2(t *testing.T) {
	var f []head.Field
	for _, name := range []string{"x", "content-length", "transfer-encoding", "host", "authorization", "cookie", "grpc-status", "te", "upgrade"} {
		f = append(f, head.Field{Name: []byte(name), Value: []byte("1")})
	}
	if got, want := string(AppendLastChunk(nil, f)), "0\r\nx: 1\r\ngrpc-status: 1\r\n\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
