package h2

import (
	"errors"
	"strings"
	"testing"

	judge "golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/proxy/head"
)

func TestClientExchange(t *testing.T) {
	p := ready(t, Config{Client: true})
	s := p.open(headOf("POST", "/x?y", "accept=*/*"), false)
	p.c.SendData(s, []byte("body"), false)
	p.c.SendTrailers(s, fields("X-T=1"))
	p.wantFrames("HEADERS 1 :method=POST :scheme=http :path=/x?y :authority=a.b accept=*/*", `DATA 1 "body"`, "HEADERS 1 x-t=1 end")
	p.head(1, false, ":status=103", "link=x")
	p.head(1, false, ":status=200", "content-length=2")
	p.data(1, false, "ok")
	p.head(1, true, "grpc-status=0")
	p.wantEvents("info 1 103 link=x", "head 1 200 content-length=2", `data 1 "ok"`, "trailers 1 grpc-status=0 end")
	if p.c.ActiveStreams() != 0 {
		t.Error("the stream is not closed")
	}
}

// R5.3, RFC 9113, section 8.2.2: what HTTP/1 has and HTTP/2 has not.
func TestHeadsOfHTTP1AreAdapted(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    head.Head
		want string
	}{
		{"origin form", head.Head{Method: []byte("GET"), Target: []byte("/p"), Authority: []byte("a.b"),
			Fields: fields("Host=a.b", "User-Agent=x", "Connection=y", "Keep-Alive=1", "Proxy-Connection=z", "Transfer-Encoding=chunked",
				"Upgrade=h2c", "HTTP2-Settings=q", "TE=Trailers", "X-UPPER=V")},
			":method=GET :scheme=http :path=/p :authority=a.b user-agent=x te=Trailers x-upper=V"},
		{"te other than trailers", head.Head{Method: []byte("GET"), Target: []byte("/"), Authority: []byte("a"), Fields: fields("Te=gzip")},
			":method=GET :scheme=http :path=/ :authority=a"},
		{"absolute form", head.Head{Method: []byte("GET"), Form: head.FormAbsolute, Target: []byte("https://a.b:1/p?q"), Scheme: []byte("https"), Authority: []byte("a.b:1")},
			":method=GET :scheme=https :path=/p?q :authority=a.b:1"},
		{"absolute form without a path", head.Head{Method: []byte("GET"), Form: head.FormAbsolute, Target: []byte("http://a.b"), Authority: []byte("a.b")},
			":method=GET :scheme=http :path=/ :authority=a.b"},
		{"absolute form with a query alone", head.Head{Method: []byte("GET"), Form: head.FormAbsolute, Target: []byte("http://a.b?q"), Authority: []byte("a.b")},
			":method=GET :scheme=http :path=/?q :authority=a.b"},
		{"absolute OPTIONS without a path", head.Head{Method: []byte("OPTIONS"), Form: head.FormAbsolute, Target: []byte("http://a.b"), Authority: []byte("a.b")},
			":method=OPTIONS :scheme=http :path=* :authority=a.b"},
		{"asterisk", head.Head{Method: []byte("OPTIONS"), Form: head.FormAsterisk, Target: []byte("*"), Authority: []byte("a.b")},
			":method=OPTIONS :scheme=http :path=* :authority=a.b"},
		{"CONNECT", head.Head{Method: []byte("CONNECT"), Form: head.FormAuthority, Target: []byte("a.b:1"), Authority: []byte("a.b:1")},
			":method=CONNECT :authority=a.b:1"},
		{"upgrade", head.Head{Method: []byte("GET"), Target: []byte("/ws"), Authority: []byte("a.b"), Upgrade: []byte("websocket"), Fields: fields("Upgrade=websocket")},
			":method=CONNECT :protocol=websocket :scheme=http :path=/ws :authority=a.b"},
		{"HTTP/1.0 without a host", head.Head{Method: []byte("GET"), Target: []byte("/")},
			":method=GET :scheme=http :path=/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := ready(t, Config{Client: true, Hop: true})
			tc.h.Version = 11
			p.open(&tc.h, false)
			p.wantFrames("HEADERS 1 " + tc.want)
			// And the other side takes it.
			q := ready(t, Config{Hop: true})
			p.c.Close()
			c := New(Config{Client: true, Hop: true}, 1)
			c.Output(nil, 1)
			if _, err := c.Open(&tc.h, false, nil); err != nil {
				t.Fatal(err)
			}
			q.in.Write(c.Output(nil, 1<<20))
			q.feed()
			if len(q.events) != 1 || !strings.HasPrefix(q.events[0], "head 1 ") {
				t.Errorf("events %q", q.events)
			}
		})
	}
}

func TestExtraFieldsFollow(t *testing.T) {
	p := ready(t, Config{Client: true})
	if _, err := p.c.OpenWith(headOf("GET", "/", "a=1"), fields("Tulle-Hop-Http1=x"), true, nil); err != nil {
		t.Fatal(err)
	}
	p.wantFrames("HEADERS 1 :method=GET :scheme=http :path=/ :authority=a.b a=1 tulle-hop-http1=x end")
}

// A head that needs CONTINUATION arrives whole.
func TestLargeHeadIsContinued(t *testing.T) {
	for _, n := range []int{16300, 16384, 33000, 49000, 60000} {
		p := ready(t, Config{Client: true})
		v := strings.Repeat("v", n)
		p.open(headOf("GET", "/", "x="+v), true)
		p.wantFrames("HEADERS 1 :method=GET :scheme=http :path=/ :authority=a.b x=" + v + " end")
	}
}

// The same for trailers that wait behind data.
func TestLargeTrailersAreContinued(t *testing.T) {
	p := ready(t, Config{Client: true})
	s := p.open(headOf("POST", "/"), false)
	v := strings.Repeat("v", 40000)
	p.c.SendData(s, []byte("x"), false)
	p.c.SendTrailers(s, fields("x="+v))
	p.wantFrames("HEADERS 1 :method=POST :scheme=http :path=/ :authority=a.b", `DATA 1 "x"`, "HEADERS 1 x="+v+" end")
}

// R4.4, R7.1.
func TestClientRespectsTheStreamLimit(t *testing.T) {
	p := ready(t, Config{Client: true}, judge.Setting{ID: judge.SettingMaxConcurrentStreams, Val: 1})
	p.open(headOf("GET", "/"), true)
	if _, err := p.c.Open(headOf("GET", "/"), true, nil); !errors.Is(err, ErrNoCapacity) {
		t.Errorf("second stream: %v", err)
	}
	p.head(1, true, ":status=200")
	p.feed()
	if !p.c.CanOpen() {
		t.Error("no stream after the first has ended")
	}
}

func TestClientRespectsTheHeadLimit(t *testing.T) {
	p := ready(t, Config{Client: true}, judge.Setting{ID: judge.SettingMaxHeaderListSize, Val: 300})
	if _, err := p.c.Open(headOf("GET", "/", "x="+strings.Repeat("y", 200)), true, nil); !errors.Is(err, ErrHeadTooLarge) {
		t.Errorf("large head: %v", err)
	}
	p.open(headOf("GET", "/", "x=y"), true)
}

func TestUpgradeNeedsThePeersOffer(t *testing.T) {
	ws := headOf("CONNECT", "/ws")
	ws.Upgrade = []byte("websocket")
	p := ready(t, Config{Client: true})
	if _, err := p.c.Open(ws, false, nil); !errors.Is(err, ErrNoExtendedConnect) {
		t.Errorf("without an offer: %v", err)
	}
	p = ready(t, Config{Client: true}, judge.Setting{ID: judge.SettingEnableConnectProtocol, Val: 1})
	s := p.open(ws, false)
	p.frames()
	p.head(1, false, ":status=200")
	p.data(1, false, "x")
	p.wantEvents("head 1 200", `data 1 "x"`)
	p.c.SendData(s, []byte("y"), true)
	p.wantFrames(`DATA 1 "y" end`)
}

func TestStreamIDsRunOut(t *testing.T) {
	p := ready(t, Config{Client: true})
	p.c.nextID = maxStreamID
	p.open(headOf("GET", "/"), true)
	if p.c.CanOpen() {
		t.Error("a stream id over 2^31-1")
	}
}

// R4.3, R7.1: streams above the last id were never processed, others finish.
func TestGoAwayOfTheServer(t *testing.T) {
	p := ready(t, Config{Client: true})
	for range 4 {
		p.open(headOf("GET", "/"), true)
	}
	p.c.Reset(p.streams[7], ErrCodeCancel, false)
	p.frame(p.fr.WriteGoAway(3, judge.ErrCodeNo, []byte("bye")))
	p.wantEvents("reset 5 REFUSED_STREAM unprocessed", "goaway NO_ERROR")
	p.head(1, true, ":status=200")
	p.head(5, true, ":status=200") // was on its way
	p.feed()
	if got := strings.Join(p.events, "; "); got != "head 1 200 end; error STREAM_CLOSED: HEADERS on a closed stream" {
		t.Errorf("events %s", got)
	}
}

func TestGoAwayInTwoPhases(t *testing.T) {
	p := ready(t, Config{Client: true})
	p.open(headOf("GET", "/"), true)
	p.open(headOf("GET", "/"), true)
	p.frame(p.fr.WriteGoAway(maxStreamID, judge.ErrCodeNo, nil))
	p.wantEvents("goaway NO_ERROR")
	if p.c.CanOpen() {
		t.Error("streams can be opened after GOAWAY")
	}
	p.frame(p.fr.WriteGoAway(1, judge.ErrCodeNo, nil))
	p.wantEvents("reset 3 REFUSED_STREAM unprocessed", "goaway NO_ERROR")
	p.frame(p.fr.WriteGoAway(3, judge.ErrCodeNo, nil)) // never grows
	p.head(1, true, ":status=200")
	p.wantEvents("goaway NO_ERROR", "head 1 200 end")
}

func TestRefusedStreamIsUnprocessed(t *testing.T) {
	p := ready(t, Config{Client: true})
	p.open(headOf("GET", "/"), true)
	p.open(headOf("GET", "/"), true)
	p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeRefusedStream))
	p.frame(p.fr.WriteRSTStream(3, judge.ErrCodeInternal))
	p.wantEvents("reset 1 REFUSED_STREAM unprocessed", "reset 3 INTERNAL_ERROR")
}

func TestResponseHeadOverALimitIsReset(t *testing.T) {
	p := ready(t, Config{Client: true, HeaderBytes: 300})
	p.open(headOf("GET", "/"), true)
	p.head(1, true, ":status=200", "x="+strings.Repeat("y", 300))
	p.wantEvents("reset 1 ENHANCE_YOUR_CALM local (head too large)")
}

// RFC 7541, section 4.2: heads encoded before the acknowledgement use the old
// table, those after it begin with the new size.
func TestTableSizeOfThePeer(t *testing.T) {
	p := ready(t, Config{Client: true})
	h := headOf("GET", "/", "x-repeated=value")
	for range 3 {
		p.open(h, true)
	}
	p.frames()
	p.open(h, true)
	p.setting(judge.SettingHeaderTableSize, 0)
	p.feed()
	p.open(h, true)
	b := p.c.Output(nil, 1<<20)
	ack := strings.Index(string(b), "\x00\x00\x00\x04\x01")
	if ack < 0 || !strings.Contains(string(b[:ack]), "\x00\x00\x00\x09") && b[3] != 1 {
		t.Fatalf("output %x", b)
	}
	p.out.Write(b)
	if got := p.frames(); !strings.Contains(got, "HEADERS 9 ") || !strings.HasPrefix(got, "HEADERS 7 ") {
		t.Errorf("frames %s", got)
	}
	if next := b[ack+9+9]; next != 0x20 {
		t.Errorf("first byte of the block %#x, want a table size update to 0", next)
	}
}
