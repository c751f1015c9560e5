package mesh

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func http2Cases() []meshCase {
	return []meshCase{
		{"http2/fields", http2Fields},
		{"http2/resets", http2Resets},
		{"http2/trailers-only", http2TrailersOnly},
		{"http2/refused fields", http2Refused},
		{"http2/no extended CONNECT", http2Connect},
	}
}

// h2end is one end of an HTTP/2 connection that a test plays frame by frame; x/net's Framer and
// hpack are the judges.
type h2end struct {
	*raw

	f   *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

func newH2(r *raw) *h2end {
	e := &h2end{raw: r, f: http2.NewFramer(r.TCPConn, r.r)}
	e.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	e.enc = hpack.NewEncoder(&e.buf)
	return e
}

// h2Client dials and says the preface.
func (x *wire) h2Client() *h2end {
	x.t.Helper()
	e := newH2(x.client())
	e.send(http2.ClientPreface)
	ok(x.t, e.f.WriteSettings())
	return e
}

// h2App accepts and reads the preface.
func (x *wire) h2App() *h2end {
	x.t.Helper()
	e := newH2(x.app())
	e.want(http2.ClientPreface)
	ok(x.t, e.f.WriteSettings())
	return e
}

// fields are names and values, one "name: value" each.
type fields []string

func (e *h2end) headers(id uint32, end bool, list fields) {
	e.t.Helper()
	e.buf.Reset()
	for _, f := range list {
		name, value, _ := strings.Cut(f, ": ")
		ok(e.t, e.enc.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	ok(e.t, e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: e.buf.Bytes(), EndStream: end, EndHeaders: true}))
}

// frame is the next one that says something of a stream.
func (e *h2end) frame() http2.Frame {
	e.t.Helper()
	for {
		f, err := e.f.ReadFrame()
		if err != nil {
			e.t.Fatalf("read a frame: %v", err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				ok(e.t, e.f.WriteSettingsAck())
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				ok(e.t, e.f.WritePing(true, f.Data))
			}
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

// wantHeaders reads a head and compares it whole, in order; it returns its stream.
func (e *h2end) wantHeaders(end bool, want fields) uint32 {
	e.t.Helper()
	f, isHeaders := e.frame().(*http2.MetaHeadersFrame)
	if !isHeaders {
		e.t.Fatalf("not HEADERS but %v", f)
	}
	var got fields
	for _, h := range f.Fields {
		got = append(got, h.Name+": "+h.Value)
	}
	if !slices.Equal(got, want) || f.StreamEnded() != end {
		e.t.Errorf("got (end %v)\n%s, want (end %v)\n%s", f.StreamEnded(), strings.Join(got, "\n"), end, strings.Join(want, "\n"))
	}
	return f.StreamID
}

// wantData reads exactly s.
func (e *h2end) wantData(s string) {
	e.t.Helper()
	got := ""
	for len(got) < len(s) {
		f, isData := e.frame().(*http2.DataFrame)
		if !isData {
			e.t.Fatalf("not DATA but %v", f)
		}
		got += string(f.Data())
	}
	if got != s {
		e.t.Errorf("got %q, want %q", got, s)
	}
}

func (e *h2end) wantRST(code http2.ErrCode) {
	e.t.Helper()
	for {
		switch f := e.frame().(type) {
		case *http2.RSTStreamFrame:
			if f.ErrCode != code {
				e.t.Errorf("reset with %v, want %v", f.ErrCode, code)
			}
			return
		case *http2.DataFrame:
			if f.StreamEnded() {
				e.t.Error("a clean end instead of a reset") // R3.6
				return
			}
		default:
			e.t.Fatalf("got %v, want RST_STREAM", f)
		}
	}
}

func h2Request(method string, more ...string) fields {
	return append(fields{":method: " + method, ":scheme: http", ":path: /a/../b?c=%41", ":authority: web.example"}, more...)
}

var clientPair = "tulle-client-id: " + string(clientID)

// R3.1, R4.3: names, values, order, duplicates, interim heads and trailers, of HTTP/2. The order of
// pseudo-fields means nothing (RFC 9113, section 8.3); the engine has one of its own.
func http2Fields(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.h2Client()
	head := h2Request("POST", "x-b: 1", "x-a: 2", "x-b: 3", "cookie: a=b", "cookie: c=d", "te: trailers", "x-empty: ", "authorization: Bearer x", "x-raw: caf\xc3\xa9")
	c.headers(1, false, head)
	a := x.h2App()
	crumbs := slices.Index(head, "cookie: a=b") // joined, as RFC 9113, section 8.2.3, lets an intermediary do
	id := a.wantHeaders(false, append(slices.Replace(slices.Clone(head), crumbs, crumbs+2, "cookie: a=b; c=d"), clientPair))
	ok(t, c.f.WriteData(1, false, []byte("hello ")))
	ok(t, c.f.WriteDataPadded(1, false, []byte("world"), make([]byte, 7)))
	a.wantData("hello world")
	c.headers(1, true, fields{"x-sum: 11", "x-sum: again"})
	a.wantHeaders(true, fields{"x-sum: 11", "x-sum: again"})

	a.headers(id, false, fields{":status: 103", "link: </x>"})
	c.wantHeaders(false, fields{":status: 103", "link: </x>"})
	a.headers(id, false, fields{":status: 299", "set-cookie: a", "x: y", "set-cookie: b"})
	c.wantHeaders(false, fields{":status: 299", "set-cookie: a", "x: y", "set-cookie: b"})
	ok(t, a.f.WriteData(id, false, []byte("body")))
	c.wantData("body")
	a.headers(id, true, fields{"grpc-status: 0", "x-end: 1"})
	c.wantHeaders(true, fields{"grpc-status: 0", "x-end: 1"})
}

// R4.3: a peer's reset is passed on with its code, both ways, and its neighbours live.
func http2Resets(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.h2Client()
	c.headers(1, false, h2Request("POST", "n: neighbour"))
	a := x.h2App()
	neighbour := a.wantHeaders(false, h2Request("POST", "n: neighbour", clientPair))
	next := uint32(3)
	for _, code := range []http2.ErrCode{
		http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeEnhanceYourCalm, http2.ErrCodeNo, http2.ErrCodeInadequateSecurity, 0x1234,
	} {
		req := h2Request("POST", fmt.Sprintf("n: %d", code))
		c.headers(next, false, req)
		a.wantHeaders(false, append(req, clientPair))
		ok(t, c.f.WriteData(next, false, []byte("part")))
		a.wantData("part")
		ok(t, c.f.WriteRSTStream(next, code))
		a.wantRST(code)

		next += 2
		c.headers(next, true, req)
		id := a.wantHeaders(true, append(req, clientPair))
		a.headers(id, false, fields{":status: 200"})
		ok(t, a.f.WriteData(id, false, []byte("part")))
		c.wantHeaders(false, fields{":status: 200"})
		c.wantData("part")
		ok(t, a.f.WriteRSTStream(id, code))
		c.wantRST(code)
		next += 2
	}
	ok(t, c.f.WriteData(1, true, []byte("alive")))
	a.wantData("alive")
	a.headers(neighbour, true, fields{":status: 204"})
	c.wantHeaders(true, fields{":status: 204"})
}

func http2TrailersOnly(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.h2Client()
	req := h2Request("POST", "content-type: application/grpc", "te: trailers")
	c.headers(1, true, req)
	a := x.h2App()
	id := a.wantHeaders(true, append(req, clientPair))
	only := fields{":status: 200", "content-type: application/grpc", "grpc-status: 5", "grpc-message: no such thing"}
	a.headers(id, true, only)
	c.wantHeaders(true, only)
}

// R4.6: what cannot be HTTP/1 is a stream error, not a 400; the connection lives.
func http2Refused(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.h2Client()
	next := uint32(1)
	for _, bad := range []fields{
		h2Request("GET", "a: b\r\nc: d"), h2Request("GET", "a: b\x00"), h2Request("GET", "transfer-encoding: chunked"),
		h2Request("GET", "connection: close"), h2Request("GET", "Upper: case"), h2Request("GET", "te: gzip"),
		h2Request("POST", "content-length: 1", "content-length: 2"),
		{":method: GET", ":scheme: http", ":authority: x", ":path: no-slash"},
		{":method: GET", ":scheme: http", ":authority: x", ":path: /a b"},
		{":method: GET", ":scheme: http", ":path: /", "host: x", ":authority: x"},
	} {
		c.headers(next, true, bad)
		c.wantRST(http2.ErrCodeProtocol)
		next += 2
	}
	c.headers(next, true, h2Request("GET"))
	a := x.h2App()
	a.headers(a.wantHeaders(true, h2Request("GET", clientPair)), true, fields{":status: 204"})
	c.wantHeaders(true, fields{":status: 204"})
}

// R4.1: ENABLE_CONNECT_PROTOCOL is not offered; a plain CONNECT is a tunnel.
func http2Connect(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.h2Client()
	f, err := c.f.ReadFrame()
	ok(t, err)
	s, isSettings := f.(*http2.SettingsFrame)
	if !isSettings {
		t.Fatalf("the first frame is %v", f)
	}
	if v, has := s.Value(http2.SettingEnableConnectProtocol); has && v != 0 {
		t.Error("extended CONNECT is offered")
	}
	if v, has := s.Value(http2.SettingMaxConcurrentStreams); !has || v != 250 {
		t.Errorf("%d concurrent streams", v)
	}
	c.headers(1, false, fields{":method: CONNECT", ":authority: db.example:5432"})
	a := x.h2App()
	id := a.wantHeaders(false, fields{":method: CONNECT", ":authority: db.example:5432", clientPair})
	a.headers(id, false, fields{":status: 200"})
	c.wantHeaders(false, fields{":status: 200"})
	ok(t, c.f.WriteData(1, true, []byte("ping")))
	a.wantData("ping")
	ok(t, a.f.WriteData(id, true, []byte("pong")))
	c.wantData("pong")
}
