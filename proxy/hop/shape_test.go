package hop

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// What a browser's request costs on the hop: seven bytes of value at first, one afterwards,
// because its shape does not vary.
func TestSameShapeIsIndexed(t *testing.T) {
	var wire bytes.Buffer
	enc := hpack.NewEncoder(&wire)
	cost := func(cookie string) (value, onWire int) {
		raw := "GET / HTTP/1.1\r\nHost: a\r\nCache-Control: no-cache\r\nsec-ch-ua: x\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: y\r\n" +
			"User-Agent: z\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n" + cookie + "\r\n"
		h, err := read([]byte(raw), h1.Expect{})
		if err != nil {
			t.Fatal(err)
		}
		v := cross(t, h)
		wire.Reset()
		if err := enc.WriteField(hpack.HeaderField{Name: FieldHTTP1, Value: v}); err != nil {
			t.Fatal(err)
		}
		return len(v), wire.Len()
	}
	value, first := cost("")
	_, second := cost("")
	_, third := cost("Cookie: a=b\r\n")
	t.Logf("value %d bytes; on the wire %d, then %d, with a cookie %d", value, first, second, third)
	if value > 8 || first > 24 || second != 1 || third != 1 {
		t.Errorf("value %d bytes; on the wire %d, then %d, with a cookie %d", value, first, second, third)
	}
}

// R3.1, R5.3: heads of any case, order and number of fields.
func TestAnyHeadCrosses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"accept", "etag", "x-request-id", "cookie", "content-length", "expect", "te", "a", "x--y", "dnt", "x1-2b", "trailer", "123"}
	for range 3000 {
		raw := randomHead(rng, names)
		h, err := read(raw, h1.Expect{Upgrade: true, Head: rng.IntN(2) == 0})
		if err != nil {
			continue
		}
		cross(t, h)
	}
}

// randomHead is a request or response, mostly well formed.
func randomHead(rng *rand.Rand, names []string) []byte {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	b := []byte(pick("GET /a HTTP/1.1", "POST http://h/x HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET / HTTP/1.0",
		"HTTP/1.1 200 OK", "HTTP/1.0 404 gone away", "HTTP/1.1 304 ", "HTTP/1.1 100 Continue", "HTTP/1.1 101 Switching Protocols") + "\r\n")
	response := b[0] == 'H'
	var lines []head.Field
	add := func(name, value string) {
		n := []byte(name)
		switch rng.IntN(4) {
		case 0: // as it is
		case 1:
			n = bytes.ToUpper(n)
		case 2:
			for i := range n {
				if rng.IntN(2) == 0 {
					n[i] = bytes.ToUpper(n[i : i+1])[0]
				}
			}
		default:
			for i := range n {
				if i == 0 || n[i-1] == '-' {
					n[i] = bytes.ToUpper(n[i : i+1])[0]
				}
			}
		}
		at := rng.IntN(len(lines) + 1)
		lines = append(lines[:at], append([]head.Field{{Name: n, Value: []byte(value)}}, lines[at:]...)...)
	}
	for range rng.IntN(12) {
		add(names[rng.IntN(len(names))], pick("", "1", "trailers", "100-continue", "x y", "z"))
	}
	if !response && rng.IntN(8) > 0 {
		add("host", pick("h", "other:80", "h:1", ""))
	}
	if rng.IntN(3) == 0 {
		add("transfer-encoding", pick("chunked", "gzip, chunked", "CHUNKED"))
	}
	if rng.IntN(3) == 0 {
		add("upgrade", pick("websocket", "Foo/2"))
		add("connection", pick("upgrade", "Upgrade, x-request-id", "close"))
	}
	for i := range lines {
		b = append(append(append(append(b, lines[i].Name...), ": "...), lines[i].Value...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}
