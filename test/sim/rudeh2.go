package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rudeH2 is the HTTP/2 of a rude client: it sends what it likes and notes what
// it is told.
type rudeH2 struct {
	send    func(f *rudeH2)
	fr      *http2.Framer
	in, out bytes.Buffer
	enc     *hpack.Encoder
	block   bytes.Buffer
	dec     *hpack.Decoder
	outcome string
}

func newRudeH2(send func(f *rudeH2)) *rudeH2 {
	k := &rudeH2{send: send}
	k.fr = http2.NewFramer(&k.out, &k.in)
	k.fr.AllowIllegalWrites = true
	k.fr.SetMaxReadFrameSize(1 << 20)
	k.enc = hpack.NewEncoder(&k.block)
	k.dec = hpack.NewDecoder(4096, nil)
	return k
}

// preface is sent at once, with all that the client has in mind.
func (k *rudeH2) preface() string {
	k.out.WriteString(http2.ClientPreface)
	must(k.fr.WriteSettings())
	k.send(k)
	return k.out.String()
}

func (k *rudeH2) received(p []byte) {
	k.in.Write(p)
	for {
		b := k.in.Bytes()
		if len(b) < 9 || len(b) < 9+int(binary.BigEndian.Uint32(b)>>8) {
			return
		}
		f, err := k.fr.ReadFrame()
		if err != nil {
			k.outcome += " " + err.Error() + ";"
			return
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			k.outcome += fmt.Sprintf(" goaway %d;", f.ErrCode)
		case *http2.RSTStreamFrame:
			k.outcome += fmt.Sprintf(" rst %d;", f.ErrCode)
		case *http2.HeadersFrame:
			if fs, err := k.dec.DecodeFull(f.HeaderBlockFragment()); err == nil && len(fs) > 0 {
				k.outcome += " status " + fs[0].Value + ";"
			}
		}
	}
}

// fields encodes a request of the rude kind with more fields behind it.
func (k *rudeH2) fields(more ...string) []byte {
	return k.encode(append([]string{":method", "POST", ":scheme", "http", ":authority", "sim", ":path", "/rude", "x-oracle-id", rude}, more...)...)
}

func (k *rudeH2) encode(fs ...string) []byte {
	k.block.Reset()
	for i := 0; i+1 < len(fs); i += 2 {
		must(k.enc.WriteField(hpack.HeaderField{Name: fs[i], Value: fs[i+1]}))
	}
	return bytes.Clone(k.block.Bytes())
}

// open opens stream id, perhaps with its end.
func (k *rudeH2) open(id uint32, end bool, more ...string) {
	k.headers(id, end, true, k.fields(more...))
}

func (k *rudeH2) headers(id uint32, end, whole bool, block []byte) {
	first := block[:min(len(block), 16000)]
	must(k.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: whole && len(first) == len(block)}))
	for block = block[len(first):]; len(block) > 0; {
		f := block[:min(len(block), 16000)]
		block = block[len(f):]
		must(k.fr.WriteContinuation(id, whole && len(block) == 0, f))
	}
}

func (k *rudeH2) raw(typ http2.FrameType, flags http2.Flags, id uint32, payload ...byte) {
	must(k.fr.WriteRawFrame(typ, flags, id, payload))
}

// rudeFrame is one of the things that a client may not do over HTTP/2.
type rudeFrame struct {
	name string
	send func(k *rudeH2)
	want string
}

func times(n int, f func(i int)) {
	for i := range n {
		f(i)
	}
}

// malformed is a request with fields that no request may have (R4.6).
func malformed(name string, fs ...string) rudeFrame {
	return rudeFrame{name, func(k *rudeH2) { k.open(1, true, fs...) }, "rst 1"}
}

const rapidResets = "rapid resets"

// rudeFrames are of HTTP/2 (R4.3, R4.5, R4.6): one table, a row for each.
func rudeFrames() []rudeFrame {
	const protocol, flow, size, calm = "goaway 1", "goaway 3", "goaway 6", "goaway 11"
	all := []rudeFrame{
		malformed("an upper-case name", "X-A", "b"),
		malformed("a connection field", "connection", "close"),
		malformed("transfer-encoding", "transfer-encoding", "chunked"),
		malformed("te that is more", "te", "gzip"),
		malformed("two lengths", "content-length", "0", "content-length", "0"),
		malformed("a line end in a value", "x-a", "b\r\nx-b: c"),
		malformed("a NUL in a value", "x-a", "b\x00"),
		malformed("a space around a value", "x-a", " b"),
		malformed("a late pseudo-header field", ":path", "/other"),
		malformed("a response's pseudo-header field", ":status", "200"),
		malformed("a length without a body", "content-length", "5"),
		{"no path", func(k *rudeH2) {
			k.headers(1, true, true, k.encode(":method", "GET", ":scheme", "http", "x-oracle-id", rude))
		}, "rst 1"},
		{"a space in the path", func(k *rudeH2) {
			k.headers(1, true, true, k.encode(":method", "GET", ":scheme", "http", ":authority", "sim", ":path", "/a b", "x-oracle-id", rude))
		}, "rst 1"},
		{"trailers with a path", func(k *rudeH2) { k.open(1, false); k.headers(1, true, true, k.encode(":path", "/x")) }, "rst 1"},
		{"trailers that do not end", func(k *rudeH2) { k.open(1, false); k.headers(1, false, true, k.encode("x-a", "b")) }, "rst 1"},
		{"DATA after the end", func(k *rudeH2) { k.open(1, true); must(k.fr.WriteData(1, true, []byte("x"))) }, "rst 5"},
		{"more than the length", func(k *rudeH2) {
			k.open(1, false, "content-length", "3")
			must(k.fr.WriteData(1, true, []byte("four")))
		}, "rst 1"},
		{"less than the length", func(k *rudeH2) { k.open(1, false, "content-length", "3"); must(k.fr.WriteData(1, true, []byte("ab"))) }, "rst 1"},
		{"a head too large", func(k *rudeH2) { k.open(1, true, "x-a", strings.Repeat("b", 70<<10)) }, "status 431"},
		{"too many fields", func(k *rudeH2) {
			var fs []string
			times(300, func(int) { fs = append(fs, "x-a", "b") })
			k.open(1, true, fs...)
		}, "status 431"},
		{"a long path", func(k *rudeH2) {
			k.headers(1, true, true, k.encode(":method", "GET", ":scheme", "http", ":authority", "sim", ":path", "/"+strings.Repeat("p", 33<<10)))
		}, "status 414"},
		{"PING within a head", func(k *rudeH2) { k.headers(1, true, false, k.fields()); must(k.fr.WritePing(false, [8]byte{})) }, protocol},
		{"DATA within a head", func(k *rudeH2) { k.headers(1, false, false, k.fields()); must(k.fr.WriteData(1, true, nil)) }, protocol},
		{"a head continued on another stream", func(k *rudeH2) { k.headers(1, true, false, k.fields()); must(k.fr.WriteContinuation(3, true, nil)) }, protocol},
		{"CONTINUATION alone", func(k *rudeH2) { must(k.fr.WriteContinuation(1, true, nil)) }, protocol},
		{"a head of many pieces", func(k *rudeH2) {
			k.headers(1, true, false, k.fields())
			times(200, func(int) { must(k.fr.WriteContinuation(1, false, []byte{0x82})) })
		}, calm},
		{"a head that never ends", func(k *rudeH2) {
			k.headers(1, true, false, k.fields())
			times(20, func(int) { must(k.fr.WriteContinuation(1, false, make([]byte, 16000))) })
		}, calm},
		{"DATA on an idle stream", func(k *rudeH2) { must(k.fr.WriteData(5, true, nil)) }, protocol},
		{"RST_STREAM on an idle stream", func(k *rudeH2) { must(k.fr.WriteRSTStream(5, 8)) }, protocol},
		{"WINDOW_UPDATE on an idle stream", func(k *rudeH2) { must(k.fr.WriteWindowUpdate(5, 8)) }, protocol},
		{"WINDOW_UPDATE of nothing", func(k *rudeH2) { k.raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0) }, protocol},
		{"a window too large", func(k *rudeH2) { times(2, func(int) { must(k.fr.WriteWindowUpdate(0, 1<<31-1)) }) }, flow},
		{"an even stream", func(k *rudeH2) { k.open(2, true) }, protocol},
		{"a stream id that falls", func(k *rudeH2) { k.open(5, true); k.open(3, true) }, protocol},
		{"PUSH_PROMISE", func(k *rudeH2) { k.raw(http2.FramePushPromise, 4, 1, 0, 0, 0, 2) }, protocol},
		{"a window setting too large", func(k *rudeH2) {
			must(k.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
		}, flow},
		{"push as a number", func(k *rudeH2) { must(k.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})) }, protocol},
		{"a small frame size", func(k *rudeH2) { must(k.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})) }, protocol},
		{"half a setting", func(k *rudeH2) { k.raw(http2.FrameSettings, 0, 0, 1, 2, 3) }, size},
		{"a short PING", func(k *rudeH2) { k.raw(http2.FramePing, 0, 0, 1, 2, 3) }, size},
		{"SETTINGS on a stream", func(k *rudeH2) { k.raw(http2.FrameSettings, 0, 1) }, protocol},
		{"a frame too large", func(k *rudeH2) { k.raw(http2.FrameData, 0, 1, make([]byte, 70<<10)...) }, size},
		{"padding beyond the frame", func(k *rudeH2) { k.open(1, false); k.raw(http2.FrameData, 8, 1, 9, 1, 2) }, protocol},
		{"an index beyond the table", func(k *rudeH2) { k.headers(1, true, true, []byte{0xff, 0xff, 0x03}) }, "goaway 9"},
		{rapidResets, func(k *rudeH2) {
			times(300, func(i int) { k.open(uint32(2*i+1), true); must(k.fr.WriteRSTStream(uint32(2*i+1), 8)) })
		}, calm},
		{"many PINGs", func(k *rudeH2) { times(400, func(int) { must(k.fr.WritePing(false, [8]byte{})) }) }, calm},
		{"many SETTINGS", func(k *rudeH2) { times(200, func(int) { must(k.fr.WriteSettings()) }) }, calm},
		{"much empty DATA", func(k *rudeH2) { k.open(1, false); times(200, func(int) { must(k.fr.WriteData(1, false, nil)) }) }, calm},
		{"many unknown frames", func(k *rudeH2) { times(1200, func(int) { k.raw(0xbe, 0, 0) }) }, calm},
		{"many WINDOW_UPDATEs", func(k *rudeH2) { times(2500, func(int) { must(k.fr.WriteWindowUpdate(0, 1)) }) }, calm},
		{"much more than the window", func(k *rudeH2) {
			k.open(1, false)
			times(100, func(int) { must(k.fr.WriteData(1, false, make([]byte, 16000))) })
		}, "rst 3"},
	}
	return all
}
