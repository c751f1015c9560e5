package h2

import (
	"fmt"
	"strings"
	"testing"

	judge "golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

func fields(pairs ...string) []head.Field { return headOf("", "", pairs...).Fields }

func TestServerGreets(t *testing.T) {
	p := newPeer(t, Config{})
	p.wantFrames(
		"SETTINGS MAX_CONCURRENT_STREAMS=250 INITIAL_WINDOW_SIZE=65536 MAX_FRAME_SIZE=65536 MAX_HEADER_LIST_SIZE=65536",
		"WINDOW_UPDATE 0 983041")
	p.frame(p.fr.WriteSettings())
	p.wantEvents("settings")
	p.wantFrames("SETTINGS ack")
}

// R4.1: ENABLE_CONNECT_PROTOCOL is for hops alone.
func TestHopOffersExtendedConnect(t *testing.T) {
	p := newPeer(t, Config{Hop: true})
	if got := p.frames(); !strings.Contains(got, "ENABLE_CONNECT_PROTOCOL=1") {
		t.Errorf("greeting %q", got)
	}
}

func TestClientGreets(t *testing.T) {
	p := newPeer(t, Config{Client: true})
	if b := p.c.Output(nil, 1<<20); !strings.HasPrefix(string(b), preface) {
		t.Errorf("output begins with %q", b[:24])
	} else {
		p.out.Write(b)
	}
	p.wantFrames("SETTINGS ENABLE_PUSH=0 INITIAL_WINDOW_SIZE=65536 MAX_FRAME_SIZE=65536 MAX_HEADER_LIST_SIZE=65536",
		"WINDOW_UPDATE 0 983041")
}

// R4.3: the whole way of a request with interim response, body and trailers.
func TestServerExchange(t *testing.T) {
	p := ready(t, Config{})
	p.head(1, false, append(post, "expect=100-continue", "te=trailers", "content-length=5")...)
	p.wantEvents("head 1 POST http://a.b/ expect=100-continue te=trailers content-length=5")
	s := p.streams[1]
	p.c.SendInfo(s, &head.Head{Status: 100, Version: 11})
	p.c.SendInfo(s, &head.Head{Status: 103, Version: 11, Fields: fields("Link=x")})
	p.wantFrames("HEADERS 1 :status=100", "HEADERS 1 :status=103 link=x")
	p.data(1, false, "hel")
	p.data(1, false, "lo")
	p.head(1, true, "x-t=1")
	p.wantEvents(`data 1 "hel"`, `data 1 "lo"`, "trailers 1 x-t=1 end")
	p.c.SendHead(s, &head.Head{Status: 201, Version: 11, Fields: fields("Content-Type=text/plain", "Connection=x")}, false)
	p.c.SendData(s, []byte("body"), false)
	p.c.SendTrailers(s, fields("Grpc-Status=0"))
	p.wantFrames("HEADERS 1 :status=201 content-type=text/plain", `DATA 1 "body"`, "HEADERS 1 grpc-status=0 end")
	if p.c.ActiveStreams() != 0 {
		t.Error("the stream is not closed")
	}
}

// R4.7: trailers-only is one HEADERS frame.
func TestServerTrailersOnly(t *testing.T) {
	p := ready(t, Config{})
	p.get(1)
	p.feed()
	p.c.SendHeadWith(p.streams[1], &head.Head{Status: 200, Version: 20, Fields: fields("content-type=application/grpc")}, fields("Grpc-Status=14"), true)
	p.wantFrames("HEADERS 1 :status=200 content-type=application/grpc grpc-status=14 end")
}

func TestEndings(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(c *Conn, s *Stream)
		want []string
	}{
		{"head alone", func(c *Conn, s *Stream) { c.SendHead(s, ok200(), true) }, []string{"HEADERS 1 :status=200 end"}},
		{"empty end", func(c *Conn, s *Stream) { c.SendHead(s, ok200(), false); c.SendData(s, nil, true) },
			[]string{"HEADERS 1 :status=200", `DATA 1 "" end`}},
		{"end with data", func(c *Conn, s *Stream) { c.SendHead(s, ok200(), false); c.SendData(s, []byte("x"), true) },
			[]string{"HEADERS 1 :status=200", `DATA 1 "x" end`}},
		{"end after data", func(c *Conn, s *Stream) {
			c.SendHead(s, ok200(), false)
			c.SendData(s, []byte("x"), false)
			c.SendData(s, nil, true)
		}, []string{"HEADERS 1 :status=200", `DATA 1 "x" end`}},
		{"trailers without data", func(c *Conn, s *Stream) { c.SendHead(s, ok200(), false); c.SendTrailers(s, fields("a=b")) },
			[]string{"HEADERS 1 :status=200", "HEADERS 1 a=b end"}},
		{"no trailers", func(c *Conn, s *Stream) { c.SendHead(s, ok200(), false); c.SendTrailers(s, nil) },
			[]string{"HEADERS 1 :status=200", `DATA 1 "" end`}},
		{"nothing after the end", func(c *Conn, s *Stream) {
			c.SendHead(s, ok200(), true)
			c.SendData(s, []byte("x"), true)
			c.SendTrailers(s, fields("a=b"))
			c.Reset(s, ErrCodeCancel, false)
		}, []string{"HEADERS 1 :status=200 end"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := ready(t, Config{})
			p.get(1)
			p.feed()
			tc.do(p.c, p.streams[1])
			p.wantFrames(tc.want...)
			if p.c.ActiveStreams() != 0 || p.c.WantsOutput() {
				t.Errorf("%d streams, wants output %v", p.c.ActiveStreams(), p.c.WantsOutput())
			}
		})
	}
}

// R3.6, R4.3: what is queued is discarded, the code is passed on.
func TestResetDiscardsTheQueue(t *testing.T) {
	pool := slab.NewPool(nil)
	p := ready(t, Config{Pool: pool})
	p.post(1)
	p.feed()
	s := p.streams[1]
	p.c.SendHead(s, ok200(), false)
	p.c.SendData(s, []byte("never"), false)
	p.c.Reset(s, ErrCodeInternal, false)
	p.wantFrames("HEADERS 1 :status=200", "RST_STREAM 1 INTERNAL_ERROR")
	if _, _, ok := p.c.Drained(); ok || pool.InUse() != 0 {
		t.Errorf("drained %v, %d bytes in use", ok, pool.InUse())
	}
}

// RFC 9113, section 8.1: a response that is complete before its request.
func TestResetWithNoErrorFollowsTheQueue(t *testing.T) {
	p := ready(t, Config{})
	p.post(1)
	p.feed()
	s := p.streams[1]
	p.c.SendHead(s, ok200(), false)
	p.c.SendData(s, []byte("all of it"), true)
	p.c.Reset(s, ErrCodeNo, false)
	p.data(1, false, "ignored")
	p.feed()
	p.wantFrames("HEADERS 1 :status=200", `DATA 1 "all of it" end`, "RST_STREAM 1 NO_ERROR")
	p.data(1, true, "ignored too")
	p.wantEvents("head 1 POST http://a.b/")
	p.wantFrames()
}

func TestPeersResetIsToldWithItsCode(t *testing.T) {
	p := ready(t, Config{})
	p.post(1)
	p.feed()
	s := p.streams[1]
	p.c.SendHead(s, ok200(), false)
	p.c.SendData(s, []byte("x"), false)
	p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeEnhanceYourCalm))
	p.wantEvents("head 1 POST http://a.b/", "reset 1 ENHANCE_YOUR_CALM")
	p.wantFrames("HEADERS 1 :status=200")
	p.c.SendData(s, []byte("late"), true)
	p.wantFrames()
}

func TestPaddingIsStrippedAndCredited(t *testing.T) {
	for _, piece := range []int{0, 1} {
		p := ready(t, Config{Window: 1000, ConnWindow: 65535})
		p.piece = piece
		p.post(1)
		p.frame(p.fr.WriteDataPadded(1, false, []byte("ab"), make([]byte, 200)))
		p.frame(p.fr.WriteDataPadded(1, false, nil, make([]byte, 255)))
		p.frame(p.fr.WriteDataPadded(1, false, nil, make([]byte, 255)))
		p.frame(p.fr.WriteDataPadded(1, true, []byte("c"), make([]byte, 3)))
		p.feed()
		got := strings.Join(p.events, " ")
		if piece == 0 && got != `head 1 POST http://a.b/ data 1 "ab" data 1 "c" data 1 "" end` {
			t.Errorf("events %s", got)
		}
		if !strings.HasSuffix(got, "end") {
			t.Errorf("events %s", got)
		}
		if got := p.frames(); !strings.HasPrefix(got, "WINDOW_UPDATE 1 ") {
			t.Errorf("frames %q", got)
		}
	}
}

func TestHeadersPaddedWithPriorityAndContinued(t *testing.T) {
	for _, piece := range []int{0, 1, 5} {
		p := ready(t, Config{})
		p.piece = piece
		b := p.block(append(get, "x-a=b")...)
		p.frame(p.fr.WriteHeaders(judge.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], EndStream: true, PadLength: 7, Priority: judge.PriorityParam{StreamDep: 5, Weight: 9}}))
		p.frame(p.fr.WriteContinuation(1, false, b[3:5]))
		p.frame(p.fr.WriteContinuation(1, true, b[5:]))
		p.wantEvents("head 1 GET http://a.b/ x-a=b end")
	}
}

// RFC 9113, section 8.2.3: crumbs of cookies are one field for HTTP/1.
func TestCookieCrumbsAreJoined(t *testing.T) {
	p := ready(t, Config{})
	p.head(1, true, append(get, "cookie=a=1", "x=y", "cookie=b=2", "cookie=c=3")...)
	p.wantEvents("head 1 GET http://a.b/ cookie=a=1; b=2; c=3 x=y end")
}

func TestHostStandsInForAuthority(t *testing.T) {
	p := ready(t, Config{})
	p.head(1, true, ":method=GET", ":scheme=http", ":path=/", "host=h.i:80")
	p.head(3, true, append(get, "host=A.B")...)
	p.head(5, true, ":method=OPTIONS", ":scheme=http", ":path=*", ":authority=a.b")
	p.wantEvents("head 1 GET http://h.i:80/ end", "head 3 GET http://a.b/ end", "head 5 OPTIONS http://a.b* end")
}

func TestConnect(t *testing.T) {
	p := ready(t, Config{Hop: true})
	p.head(1, false, ":method=CONNECT", ":authority=a.b:443")
	p.head(3, false, ":method=CONNECT", ":protocol=websocket", ":scheme=http", ":path=/ws", ":authority=a.b")
	p.wantEvents("head 1 CONNECT ://a.b:443a.b:443", "head 3 CONNECT http://a.b/ws upgrade=websocket")
	p.c.SendHead(p.streams[3], &head.Head{Status: 101, Version: 11, Fields: fields("Upgrade=websocket", "Sec-Websocket-Accept=x")}, false)
	p.wantFrames("HEADERS 3 :status=200 sec-websocket-accept=x")
	// RFC 9113, section 8.5: only DATA within a tunnel.
	p.head(3, true, "x=y")
	p.wantEvents("reset 3 PROTOCOL_ERROR local (trailers in a tunnel)")
}

// R1.5: the clearest refusal that there is.
func TestHeadsOverALimitAreAnswered(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, tc := range []struct {
		name   string
		cfg    Config
		fields []string
		status int
	}{
		{"bytes", Config{HeaderBytes: 500}, append(get, "a="+long), 431},
		{"count", Config{HeaderCount: 2}, append(get, "a=b", "a=b", "a=b"), 431},
		{"target", Config{TargetBytes: 100}, []string{":method=GET", ":scheme=http", ":path=/" + long, ":authority=a.b"}, 414},
	} {
		for _, end := range []bool{true, false} {
			p := ready(t, tc.cfg)
			p.head(1, end, tc.fields...)
			p.wantEvents(fmt.Sprintf("refused NO_ERROR %d local (head too large)", tc.status))
			want := fmt.Sprintf("HEADERS 1 :status=%d content-length=0 end", tc.status)
			if !end {
				want += "\nRST_STREAM 1 NO_ERROR"
			}
			p.wantFrames(strings.Split(want, "\n")...)
			if !end {
				p.data(1, true, "late")
			}
			p.get(3)
			p.wantEvents("head 3 GET http://a.b/ end")
		}
	}
}

func TestStreamsOverTheLimitAreRefused(t *testing.T) {
	p := ready(t, Config{MaxConcurrentStreams: 2})
	p.get(1)
	p.post(3)
	p.get(5)
	p.data(3, true, "x")
	p.wantEvents("head 1 GET http://a.b/ end", "head 3 POST http://a.b/", "refused REFUSED_STREAM 0", `data 3 "x" end`)
	p.wantFrames("RST_STREAM 5 REFUSED_STREAM")
	p.c.SendHead(p.streams[1], ok200(), true)
	p.get(7)
	p.wantEvents("head 7 GET http://a.b/ end")
}

// R4.2: over the whole budget new streams are refused, over half no window grows
// and new connections offer 16 KiB.
func TestBudgetRefusesStreams(t *testing.T) {
	b := slab.NewBudget(1000)
	pool := slab.NewPool(b)
	p := ready(t, Config{Pool: pool})
	held := pool.Get(4096)
	p.get(1)
	p.wantEvents("refused REFUSED_STREAM 0")
	pool.Put(held)
	p.get(3)
	p.wantEvents("head 3 GET http://a.b/ end")
}

func TestTightBudgetOffersSmallWindows(t *testing.T) {
	pool := slab.NewPool(slab.NewBudget(6000))
	held := pool.Get(4096)
	defer pool.Put(held)
	p := newPeer(t, Config{Pool: pool})
	if got := p.frames(); !strings.Contains(got, "INITIAL_WINDOW_SIZE=16384") {
		t.Fatalf("greeting %q", got)
	}
	// Before the peer acknowledges it may fill the window of the RFC.
	p.consume = false
	p.frame(p.fr.WriteSettings())
	p.post(1)
	p.data(1, false, strings.Repeat("x", 65535))
	p.frame(p.fr.WriteSettingsAck())
	p.wantEvents("settings", "head 1 POST http://a.b/", `data 1 "xxxxxxxx"... 65535 bytes`)
	p.dropFrames()
	p.post(3)
	p.data(3, false, strings.Repeat("x", 16384))
	p.data(3, false, "x")
	p.wantEvents("head 3 POST http://a.b/", `data 3 "xxxxxxxx"... 16384 bytes`, "reset 3 FLOW_CONTROL_ERROR local (stream window exceeded)")
	// The first stream owes what it got too much: credit comes when it is back
	// under its window.
	p.c.Consume(p.streams[1], 65535)
	p.wantFrames("WINDOW_UPDATE 1 65535", "RST_STREAM 3 FLOW_CONTROL_ERROR")
	p.data(1, false, strings.Repeat("x", 16384))
	p.data(1, false, "x")
	p.wantEvents(`data 1 "xxxxxxxx"... 16384 bytes`, "reset 1 FLOW_CONTROL_ERROR local (stream window exceeded)")
}

// R4.3, RFC 9113, section 6.8: two phases.
func TestServerGoesAwayGracefully(t *testing.T) {
	p := ready(t, Config{})
	p.post(1)
	p.feed()
	p.c.GoAway(ErrCodeNo, true, p.now)
	p.wantFrames("GOAWAY 2147483647 NO_ERROR")
	p.get(3) // was on its way
	p.wantEvents("head 1 POST http://a.b/", "head 3 GET http://a.b/ end")
	p.c.GoAway(ErrCodeNo, true, p.now)
	p.wantFrames("GOAWAY 3 NO_ERROR")
	p.post(5)
	p.data(5, true, "x")
	p.data(1, true, "y")
	p.wantEvents("refused REFUSED_STREAM 0", `data 1 "y" end`)
	p.wantFrames("RST_STREAM 5 REFUSED_STREAM")
	p.c.SendHead(p.streams[1], ok200(), true)
	p.c.SendHead(p.streams[3], ok200(), true)
	p.wantFrames("HEADERS 1 :status=200 end", "HEADERS 3 :status=200 end")
	if !p.c.GoingAway() || p.c.ActiveStreams() != 0 {
		t.Error("streams did not finish")
	}
}

func TestPingIsAnswered(t *testing.T) {
	p := ready(t, Config{})
	p.frame(p.fr.WritePing(false, [8]byte{1, 2, 3}))
	p.wantFrames("PING ack=true 0102030000000000")
}

func TestOwnPing(t *testing.T) {
	p := ready(t, Config{})
	p.c.Ping(p.now)
	p.c.Ping(p.now) // one at a time
	p.wantFrames("PING ack=false 0000000000000001")
	if p.c.PingOutstanding() != p.now {
		t.Error("no ping is outstanding")
	}
	p.now += 500
	p.frame(p.fr.WritePing(true, [8]byte{9}))
	p.wantEvents()
	p.frame(p.fr.WritePing(true, [8]byte{7: 1}))
	p.wantEvents("pong 500")
	if p.c.PingOutstanding() != 0 || p.c.LastActivity() != p.now {
		t.Error("the ping is still outstanding")
	}
}

// R4.5: reading stops while our own answers queue.
func TestCongestedByItsOwnAnswers(t *testing.T) {
	p := ready(t, Config{Flood: FloodLimits{Pings: Bucket{1 << 20, 1}}})
	for range 2000 {
		p.frame(p.fr.WritePing(false, [8]byte{}))
	}
	p.feed()
	if !p.c.Congested() {
		t.Error("not congested with 2000 answers")
	}
	p.frames()
	if p.c.Congested() {
		t.Error("congested without answers")
	}
}

// Events must not outlive their bytes, and engines without streams own nothing.
func TestIdleConnectionOwnsNothing(t *testing.T) {
	pool := slab.NewPool(nil)
	p := ready(t, Config{Pool: pool})
	for i := range uint32(10) {
		p.closed(2*i + 1)
	}
	p.in.WriteString("\x00\x00")
	p.feed()
	if pool.InUse() == 0 {
		t.Error("the stash is not counted")
	}
	p.in.WriteString("\x08\x06\x00\x00\x00\x00\x0012345678")
	p.wantFrames("PING ack=true 3132333435363738")
	if n := pool.InUse(); n != 0 {
		t.Errorf("%d bytes in use", n)
	}
}
