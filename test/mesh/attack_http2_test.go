package mesh

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/proxy/hop"
)

// Attacks of HTTP/2 clients (R4.5, R4.6), through each door of a proxy. Budgets are what docs/proxy.md
// says; floods are several times as much, and small enough to be told so before the connection is cut.

// held asks the victim for something that it never finishes.
func held() fields {
	return fields{":method: POST", ":scheme: http", ":path: /hold", ":authority: victim"}
}

func toVictim(path string) fields {
	return fields{":method: GET", ":scheme: http", ":path: " + path, ":authority: victim"}
}

// flood is what a client does far too often. once is its i-th time, on a stream of its own.
type flood struct {
	name  string
	times int
	once  func(e *foe, id uint32)
	// streams: it opens one each time.
	streams bool
}

const rapidReset = "rapid reset"

func floods() []flood {
	opened := func(f func(e *foe, id uint32)) func(e *foe, id uint32) {
		return func(e *foe, id uint32) { e.head(id, false, held()); f(e, id) }
	}
	ended := func(f func(e *foe, id uint32)) func(e *foe, id uint32) {
		return func(e *foe, id uint32) { e.head(id, true, held()); f(e, id) }
	}
	return []flood{
		{rapidReset, 1000, opened(func(e *foe, id uint32) { e.say(http2.FrameRSTStream, 0, id, number(8)) }), true},
		{"MadeYouReset overflow-window", 1000, opened(func(e *foe, id uint32) { e.say(http2.FrameWindowUpdate, 0, id, number(1<<31-1)) }), true},
		{"MadeYouReset zero-window", 1000, opened(func(e *foe, id uint32) { e.say(http2.FrameWindowUpdate, 0, id, number(0)) }), true},
		{"MadeYouReset end-stream-headers", 1000, ended(func(e *foe, id uint32) { e.head(id, true, held()) }), true},
		{"MadeYouReset end-stream-data", 1000, ended(func(e *foe, id uint32) { e.say(http2.FrameData, 0, id, "x") }), true},
		{"MadeYouReset malformed-priority", 1000, opened(func(e *foe, id uint32) { e.say(http2.FramePriority, 0, id, "1234") }), true},
		{"MadeYouReset self-dep", 1000, opened(func(e *foe, id uint32) { e.say(http2.FramePriority, 0, id, number(id)+"\x00") }), true},
		{"MadeYouReset malformed head", 1000, func(e *foe, id uint32) { e.head(id, true, append(held(), "Upper: case")) }, true},
		{"MadeYouReset too large a head", 300, func(e *foe, id uint32) { e.block(id, true, bomb(e)) }, true},
		{"SETTINGS", 1000, func(e *foe, _ uint32) {
			e.say(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1<<16))
		}, false},
		{"PING", 2000, func(e *foe, _ uint32) { e.say(http2.FramePing, 0, 0, "12345678") }, false},
		{"empty DATA", 1000, func(e *foe, _ uint32) { e.say(http2.FrameData, 0, 1, "") }, false},
		{"PRIORITY", 5000, func(e *foe, id uint32) { e.say(http2.FramePriority, 0, id, "\x00\x00\x00\x00\x00") }, false},
		{"WINDOW_UPDATE", 10000, func(e *foe, _ uint32) { e.say(http2.FrameWindowUpdate, 0, 0, number(1)) }, false},
		{"unknown frames", 5000, func(e *foe, id uint32) { e.say(http2.FrameType(0x0a+id%6), 0xff, 0, "x") }, false},
		{"CONTINUATION", 1000, func(e *foe, id uint32) { continued(e, id, strings.Repeat("\x00", 300)) }, false},
		{"CONTINUATION, large", 20, func(e *foe, id uint32) { continued(e, id, strings.Repeat("\x00", 16<<10)) }, false},
		{"CONTINUATION, empty", 2000, func(e *foe, id uint32) { continued(e, id, "") }, false},
	}
}

// continued begins a head that never ends, and goes on with it.
func continued(e *foe, id uint32, fragment string) {
	if id == 3 {
		e.say(http2.FrameHeaders, 0, id, fragment)
		return
	}
	e.say(http2.FrameContinuation, 0, 3, fragment)
}

// bomb is a header block of a few KiB that says a few MiB: one large field in the table, named often.
func bomb(e *foe) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	_ = enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 3000)}) // into a buffer
	one := b.Len()
	_ = enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 3000)}) // as above
	if b.Len() != one+1 {
		e.t.Fatal("the field is not in the table")
	}
	return append(b.Bytes(), bytes.Repeat(b.Bytes()[one:], 1500)...)
}

// TestFloodsOverHTTP2: R4.5, by each door: the connection ends with ENHANCE_YOUR_CALM and is counted, no
// more requests reach the application than streams and budget allow, and neighbours notice nothing.
func TestFloodsOverHTTP2(t *testing.T) {
	s := newSiege(t)
	for _, d := range doors() {
		for _, f := range floods() {
			t.Run(f.name+" "+d.String(), func(t *testing.T) {
				s.attack(t, d, refusedFor("flood"), 1, func(t *testing.T) { s.flood(t, d, f) })
			})
		}
	}
}

func (s *siege) flood(t *testing.T, d door, f flood) {
	began, since := s.victim.begun.Load(), time.Now()
	// 250 are open at most; the budget is 200 at once and 50 in a second.
	times, most, perSecond := f.times, int64(600), int64(50)
	if d == fromInner && f.name == rapidReset { // who is in the mesh cancels for many clients
		times, most, perSecond = 20*times, 2600, 500
	}
	e := newFoe(t, s.knock(t, d, s.victim.slot, hop.ALPNHTTP))
	e.head(1, false, held())
	for i := range times {
		f.once(e, uint32(3+2*i))
		if i%10 == 0 && !e.flush() {
			break
		}
	}
	e.flush()
	e.wantEnd(http2.ErrCodeEnhanceYourCalm)
	until(t, "end of the victim's requests", func() bool { return s.victim.now.Load() == 0 })
	if n := s.victim.begun.Load() - began; n > most+perSecond*int64(time.Since(since).Seconds()) {
		t.Errorf("%d requests reached the application", n)
	}
}

// TestMalformedHTTP2: R4.6. What could not be HTTP/1 never becomes it: the stream is reset, counted, and
// its neighbour on the same connection is served.
func TestMalformedHTTP2(t *testing.T) {
	s := newSiege(t)
	for _, d := range doors() {
		t.Run(d.String(), func(t *testing.T) {
			list := malformedHeads()
			s.attack(t, d, refusedFor("malformed"), len(list), func(t *testing.T) {
				began := s.victim.begun.Load()
				e := newFoe(t, s.knock(t, d, s.victim.slot, hop.ALPNHTTP))
				id := uint32(1)
				for _, bad := range list {
					e.head(id, true, bad)
					e.flush()
					e.wantReset(id, http2.ErrCodeProtocol)
					id += 2
				}
				e.head(id, true, toVictim("/fine"))
				e.flush()
				e.wantStatus(id, "200")
				if n := s.victim.begun.Load() - began; n != 1 {
					t.Errorf("%d requests reached the application", n)
				}
			})
		})
	}
}

func malformedHeads() []fields {
	with := func(more ...string) fields { return append(toVictim("/x"), more...) }
	list := []fields{
		with("a: b\r\nc: d"), with("a: b\nc"), with("a: b\rc"), with("a: b\x00"), with("a\r\nb: c"), with("a b: c"), with("A: b"), with(": b"),
		with("a:b: c"), with("transfer-encoding: chunked"), with("transfer-encoding: identity"), with("connection: close"),
		with("connection: transfer-encoding"), with("keep-alive: timeout=5"), with("proxy-connection: x"), with("upgrade: h2c"), with("te: gzip"),
		with("content-length: 1", "content-length: 2"), with("content-length: 1"), with("content-length: +0"), with("content-length: 0, 0"),
		with(":path: /y"), with(":status: 200"), with("a: b", ":method: GET"), with(":protocol: websocket"), with("host: other"),
		toVictim("no-slash"), toVictim("/a b"), toVictim("/a\tb"), toVictim("/a\r\nHost: b"), toVictim("/a HTTP/1.1\r\nHost: b\r\n\r\nGET /"), toVictim("/a\x00"), toVictim(""),
		{":method: GE T", ":scheme: http", ":path: /", ":authority: x"},
		{":method: GET\r\nX: y", ":scheme: http", ":path: /", ":authority: x"},
		{":method: GET", ":scheme: http", ":path: /", ":authority: x\r\ny"},
		{":method: GET", ":scheme: http", ":path: /", ":authority: x y"},
		{":method: GET", ":scheme: http", ":authority: x"},
		{":scheme: http", ":path: /", ":authority: x"},
		{":method: GET", ":path: /", ":authority: x"},
		{":method: CONNECT", ":scheme: http", ":path: /", ":authority: x:1"},
		{":method: CONNECT"},
	}
	return list
}

// TestHeadsTooLargeOverHTTP2: R1.5. They are answered with a status, by each door, and the connection lives.
func TestHeadsTooLargeOverHTTP2(t *testing.T) {
	s := newSiege(t)
	for _, d := range doors() {
		t.Run(d.String(), func(t *testing.T) {
			s.attack(t, d, refusedFor("head"), 4, func(t *testing.T) {
				began := s.victim.begun.Load()
				e := newFoe(t, s.knock(t, d, s.victim.slot, hop.ALPNHTTP))
				e.head(1, true, append(toVictim("/x"), "x: "+strings.Repeat("v", 80<<10)))
				e.head(3, true, append(toVictim("/x"), strings.Split(strings.Repeat("x: y,", 300)+"x: y", ",")...))
				e.head(5, true, toVictim("/"+strings.Repeat("p", 40<<10)))
				e.block(7, true, append(requestBlock(), bomb(e)...))
				e.flush()
				e.wantStatus(1, "431")
				e.wantStatus(3, "431")
				e.wantStatus(5, "414")
				e.wantStatus(7, "431")
				if n := s.victim.begun.Load() - began; n != 0 {
					t.Errorf("%d requests reached the application", n)
				}
			})
		})
	}
}

// requestBlock is a request in HPACK's static table alone.
func requestBlock() []byte {
	return []byte{0x82, 0x86, 0x84, 0x01, 0x01, 'x'} // GET, http, /, :authority: x
}

// TestUnknownFramesAreIgnored: R4.5, RFC 9113, section 5.5; CVE-2026-27141 was a panic.
func TestUnknownFramesAreIgnored(t *testing.T) {
	s := newSiege(t)
	for _, d := range doors() {
		e := newFoe(t, s.knock(t, d, s.victim.slot, hop.ALPNHTTP))
		e.head(1, false, toVictim("/x"))
		for kind := http2.FrameType(0x0a); kind != 0; kind++ {
			for _, payload := range []string{"", "x", strings.Repeat("y", 1000)} {
				e.say(kind, http2.Flags(kind), uint32(kind)%2, payload)
			}
		}
		e.say(http2.FrameData, http2.FlagDataEndStream, 1, "")
		e.flush()
		e.wantStatus(1, "200")
	}
}

// TestWindowsThatStayShut: R4.2, R4.5. Streams that ask for much and take nothing cost their windows, and
// no neighbour waits.
func TestWindowsThatStayShut(t *testing.T) {
	s := newSiege(t)
	for _, d := range doors() {
		var all []*foe
		for range 4 {
			e := newFoe(t, s.knock(t, d, s.victim.slot, hop.ALPNHTTP))
			e.say(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 0))
			for i := range uint32(100) {
				e.head(1+2*i, true, toVictim("/bytes/1000000"))
			}
			e.flush()
			all = append(all, e)
		}
		s.served(t)
		for _, e := range all {
			e.Close()
		}
		until(t, "end of the victim's requests", func() bool { return s.victim.now.Load() == 0 })
	}
}
