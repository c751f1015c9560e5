package h2

import (
	"fmt"
	"strings"
	"testing"

	judge "golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// violation is one thing that a peer must not do, and what becomes of it:
// "GOAWAY code", "RST_STREAM id code", or "" when it is to be ignored.
type violation struct {
	name string
	do   func(p *peer)
	want string
}

func conn(code ErrCode) string              { return "GOAWAY " + code.String() }
func stream(id uint32, code ErrCode) string { return fmt.Sprintf("RST_STREAM %d %v", id, code) }

// serverViolations are what a client can do wrong, by section of RFC 9113.
var serverViolations = []violation{
	// 4.1, 4.2
	{"4.1 unknown frame type", func(p *peer) { p.raw(0x42, 0xff, 0, "abc"); p.raw(0x43, 0, 1, "") }, ""},
	{"4.1 reserved bit and unknown flags", func(p *peer) { p.raw(6, 0xf0, 1<<31, "12345678") }, ""},
	{"4.2 frame larger than offered", func(p *peer) { p.post(1); p.raw(0, 0, 1, strings.Repeat("x", 65537)) }, conn(ErrCodeFrameSize)},
	{"4.2 SETTINGS larger than offered", func(p *peer) { p.raw(4, 0, 0, strings.Repeat("x", 65538)) }, conn(ErrCodeFrameSize)},
	// 4.3
	{"4.3 block interrupted by another type", func(p *peer) { p.raw(1, 0, 1, "\x82"); p.raw(6, 0, 0, "12345678") }, conn(ErrCodeProtocol)},
	{"4.3 block interrupted by another stream", func(p *peer) { p.raw(1, 0, 1, "\x82"); p.raw(9, 4, 3, "\x84") }, conn(ErrCodeProtocol)},
	{"4.3 block interrupted by an unknown type", func(p *peer) { p.raw(1, 0, 1, "\x82"); p.raw(0x42, 0, 0, "") }, conn(ErrCodeProtocol)},
	{"4.3 bad HPACK", func(p *peer) { p.raw(1, 5, 1, "\xff\xff\xff") }, conn(ErrCodeCompression)},
	{"4.3 bad HPACK on a stream that was reset", func(p *peer) {
		p.post(1)
		p.feed()
		p.c.Reset(p.streams[1], ErrCodeCancel, false)
		p.raw(1, 5, 1, "\xff\xff\xff")
	}, conn(ErrCodeCompression)},
	// 5.1
	{"5.1 DATA on an idle stream", func(p *peer) { p.data(1, false, "x") }, conn(ErrCodeProtocol)},
	{"5.1 RST_STREAM on an idle stream", func(p *peer) { p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeCancel)) }, conn(ErrCodeProtocol)},
	{"5.1 WINDOW_UPDATE on an idle stream", func(p *peer) { p.frame(p.fr.WriteWindowUpdate(1, 10)) }, conn(ErrCodeProtocol)},
	{"5.1 CONTINUATION on an idle stream", func(p *peer) { p.raw(9, 4, 1, "\x82") }, conn(ErrCodeProtocol)},
	{"5.1 DATA when half-closed", func(p *peer) { p.get(1); p.data(1, true, "x") }, stream(1, ErrCodeStreamClosed)},
	{"5.1 HEADERS when half-closed", func(p *peer) { p.get(1); p.head(1, true, "x-a=b") }, stream(1, ErrCodeStreamClosed)},
	{"5.1 CONTINUATION when half-closed", func(p *peer) { p.get(1); p.raw(9, 4, 1, "\x82") }, conn(ErrCodeProtocol)},
	{"5.1 WINDOW_UPDATE, RST_STREAM, PRIORITY when closed", func(p *peer) {
		p.closed(1)
		p.frame(p.fr.WriteWindowUpdate(1, 10))
		p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeCancel))
		p.frame(p.fr.WritePriority(1, judge.PriorityParam{StreamDep: 3}))
	}, ""},
	{"5.1 DATA when closed", func(p *peer) { p.closed(1); p.data(1, false, "x") }, stream(1, ErrCodeStreamClosed)},
	{"5.1 HEADERS when closed", func(p *peer) { p.closed(1); p.get(1) }, conn(ErrCodeStreamClosed)},
	{"5.1 DATA after the peer's own reset", func(p *peer) {
		p.post(1)
		p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeCancel))
		p.data(1, false, "x")
	}, stream(1, ErrCodeStreamClosed)},
	{"5.1 frames that crossed our reset", func(p *peer) {
		p.post(1)
		p.feed()
		p.c.Reset(p.streams[1], ErrCodeCancel, false)
		p.frames()
		p.data(1, false, "x")
		p.frame(p.fr.WriteWindowUpdate(1, 5))
		p.head(1, true, "x-trailer=v")
		p.frame(p.fr.WriteRSTStream(1, judge.ErrCodeCancel))
	}, ""},
	// 5.1.1
	{"5.1.1 even stream id", func(p *peer) { p.get(2) }, conn(ErrCodeProtocol)},
	{"5.1.1 stream id that shrinks", func(p *peer) { p.get(5); p.get(3) }, conn(ErrCodeProtocol)},
	{"5.1.1 stream 0", func(p *peer) { p.get(0) }, conn(ErrCodeProtocol)},
	// 5.3 (RFC 7540)
	{"5.3.1 HEADERS that depend on themselves", func(p *peer) {
		p.frame(p.fr.WriteHeaders(judge.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...), EndHeaders: true, EndStream: true, Priority: judge.PriorityParam{StreamDep: 1}}))
	}, stream(1, ErrCodeProtocol)},
	{"5.3.1 PRIORITY that depends on itself", func(p *peer) {
		p.post(1)
		p.frame(p.fr.WritePriority(1, judge.PriorityParam{StreamDep: 1}))
	}, stream(1, ErrCodeProtocol)},
	{"5.3 PRIORITY for an idle stream", func(p *peer) { p.frame(p.fr.WritePriority(99, judge.PriorityParam{StreamDep: 1})) }, ""},
	// 6.1
	{"6.1 DATA on stream 0", func(p *peer) { p.data(0, false, "x") }, conn(ErrCodeProtocol)},
	{"6.1 padding as long as the payload", func(p *peer) { p.post(1); p.raw(0, 8, 1, "\x03ab\x00") }, ""},
	{"6.1 padding longer than the payload", func(p *peer) { p.post(1); p.raw(0, 8, 1, "\x04abc") }, conn(ErrCodeProtocol)},
	{"6.1 padded without a pad length", func(p *peer) { p.post(1); p.raw(0, 8, 1, "") }, conn(ErrCodeFrameSize)},
	// 6.2
	{"6.2 HEADERS with too much padding", func(p *peer) { p.raw(1, 8|5, 1, "\x05\x82\x86\x84") }, conn(ErrCodeProtocol)},
	{"6.2 HEADERS padded without a pad length", func(p *peer) { p.raw(1, 8|5, 1, "") }, conn(ErrCodeFrameSize)},
	{"6.2 HEADERS too short for a priority", func(p *peer) { p.raw(1, 0x20|5, 1, "\x00\x00\x00\x00") }, conn(ErrCodeFrameSize)},
	// 6.3
	{"6.3 PRIORITY on stream 0", func(p *peer) { p.raw(2, 0, 0, "12345") }, conn(ErrCodeProtocol)},
	{"6.3 PRIORITY of a wrong length", func(p *peer) { p.post(1); p.raw(2, 0, 1, "1234") }, stream(1, ErrCodeFrameSize)},
	{"6.3 PRIORITY of a wrong length, stream closed", func(p *peer) { p.closed(1); p.raw(2, 0, 1, "123456") }, stream(1, ErrCodeFrameSize)},
	{"6.3 PRIORITY of a wrong length, stream idle", func(p *peer) { p.raw(2, 0, 1, "123456") }, conn(ErrCodeFrameSize)},
	// 6.4
	{"6.4 RST_STREAM on stream 0", func(p *peer) { p.raw(3, 0, 0, "1234") }, conn(ErrCodeProtocol)},
	{"6.4 RST_STREAM of a wrong length", func(p *peer) { p.post(1); p.raw(3, 0, 1, "123") }, conn(ErrCodeFrameSize)},
	// 6.5
	{"6.5 SETTINGS ack with a payload", func(p *peer) { p.raw(4, 1, 0, "123456") }, conn(ErrCodeFrameSize)},
	{"6.5 SETTINGS on a stream", func(p *peer) { p.raw(4, 0, 1, "") }, conn(ErrCodeProtocol)},
	{"6.5 SETTINGS of a wrong length", func(p *peer) { p.raw(4, 0, 0, "12345") }, conn(ErrCodeFrameSize)},
	{"6.5.2 ENABLE_PUSH of 2", func(p *peer) { p.setting(judge.SettingEnablePush, 2) }, conn(ErrCodeProtocol)},
	{"6.5.2 INITIAL_WINDOW_SIZE of 2^31", func(p *peer) { p.setting(judge.SettingInitialWindowSize, 1<<31) }, conn(ErrCodeFlowControl)},
	{"6.5.2 MAX_FRAME_SIZE too small", func(p *peer) { p.setting(judge.SettingMaxFrameSize, 16383) }, conn(ErrCodeProtocol)},
	{"6.5.2 MAX_FRAME_SIZE too large", func(p *peer) { p.setting(judge.SettingMaxFrameSize, 1<<24) }, conn(ErrCodeProtocol)},
	{"6.5.2 unknown setting", func(p *peer) { p.setting(0x99, 7) }, ""},
	{"RFC 8441 ENABLE_CONNECT_PROTOCOL of 2", func(p *peer) { p.setting(judge.SettingEnableConnectProtocol, 2) }, conn(ErrCodeProtocol)},
	{"RFC 8441 ENABLE_CONNECT_PROTOCOL withdrawn", func(p *peer) {
		p.setting(judge.SettingEnableConnectProtocol, 1)
		p.setting(judge.SettingEnableConnectProtocol, 0)
	}, conn(ErrCodeProtocol)},
	// 6.6 - 6.8
	{"6.6 PUSH_PROMISE", func(p *peer) { p.post(1); p.raw(5, 4, 1, "\x00\x00\x00\x02\x82") }, conn(ErrCodeProtocol)},
	{"6.7 PING on a stream", func(p *peer) { p.raw(6, 0, 1, "12345678") }, conn(ErrCodeProtocol)},
	{"6.7 PING of a wrong length", func(p *peer) { p.raw(6, 0, 0, "1234567") }, conn(ErrCodeFrameSize)},
	{"6.7 PING ack that nobody asked for", func(p *peer) { p.raw(6, 1, 0, "12345678") }, ""},
	{"6.8 GOAWAY on a stream", func(p *peer) { p.raw(7, 0, 1, "12345678") }, conn(ErrCodeProtocol)},
	{"6.8 GOAWAY too short", func(p *peer) { p.raw(7, 0, 0, "1234567") }, conn(ErrCodeFrameSize)},
	// 6.9
	{"6.9 WINDOW_UPDATE of a wrong length", func(p *peer) { p.raw(8, 0, 0, "123") }, conn(ErrCodeFrameSize)},
	{"6.9 WINDOW_UPDATE of 0 on the connection", func(p *peer) { p.raw(8, 0, 0, "\x00\x00\x00\x00") }, conn(ErrCodeProtocol)},
	{"6.9 WINDOW_UPDATE of 0 on a stream", func(p *peer) { p.post(1); p.raw(8, 0, 1, "\x00\x00\x00\x00") }, stream(1, ErrCodeProtocol)},
	{"6.9.1 connection window over 2^31-1", func(p *peer) { p.raw(8, 0, 0, "\x7f\xff\xff\xff") }, conn(ErrCodeFlowControl)},
	{"6.9.1 stream window over 2^31-1", func(p *peer) { p.post(1); p.raw(8, 0, 1, "\x7f\xff\xff\xff") }, stream(1, ErrCodeFlowControl)},
	{"6.9.1 more DATA than the stream window", func(p *peer) {
		p.consume = false
		p.post(1)
		p.data(1, false, strings.Repeat("x", 65536))
		p.data(1, false, "x")
	}, stream(1, ErrCodeFlowControl)},
	{"6.9.2 window overflows by SETTINGS", func(p *peer) {
		p.post(1)
		p.frame(p.fr.WriteWindowUpdate(1, 1<<31-1-65535))
		p.setting(judge.SettingInitialWindowSize, 65536)
	}, conn(ErrCodeFlowControl)},
	// 6.10
	{"6.10 CONTINUATION after END_HEADERS", func(p *peer) { p.get(1); p.raw(9, 4, 1, "\x82") }, conn(ErrCodeProtocol)},
	{"6.10 CONTINUATION after DATA", func(p *peer) { p.post(1); p.data(1, false, "x"); p.raw(9, 4, 1, "\x82") }, conn(ErrCodeProtocol)},
	// 8.1
	{"8.1 second head without END_STREAM", func(p *peer) { p.post(1); p.head(1, false, "x-a=b") }, stream(1, ErrCodeProtocol)},
	{"8.1.1 DATA longer than content-length", func(p *peer) { p.head(1, false, append(post, "content-length=2")...); p.data(1, false, "abc") }, stream(1, ErrCodeProtocol)},
	{"8.1.1 DATA shorter than content-length", func(p *peer) { p.head(1, false, append(post, "content-length=4")...); p.data(1, true, "abc") }, stream(1, ErrCodeProtocol)},
	{"8.1.1 trailers before content-length is met", func(p *peer) {
		p.head(1, false, append(post, "content-length=4")...)
		p.data(1, false, "abc")
		p.head(1, true, "x-a=b")
	}, stream(1, ErrCodeProtocol)},
	{"8.1.1 content-length without a body", func(p *peer) { p.head(1, true, append(post, "content-length=4")...) }, stream(1, ErrCodeProtocol)},
	{"RFC 9110 6.5.1 content-length in trailers", func(p *peer) { p.post(1); p.head(1, true, "content-length=0") }, stream(1, ErrCodeProtocol)},
	{"RFC 9110 6.5.1 host in trailers", func(p *peer) { p.post(1); p.head(1, true, "host=a.b") }, stream(1, ErrCodeProtocol)},
	{"RFC 9110 6.5.1 cookie in trailers", func(p *peer) { p.post(1); p.head(1, true, "x=y", "cookie=a=b") }, stream(1, ErrCodeProtocol)},
	{"8.2.2 te in trailers", func(p *peer) { p.post(1); p.head(1, true, "te=trailers") }, stream(1, ErrCodeProtocol)},
	{"8.3 pseudo-header field in trailers", func(p *peer) { p.post(1); p.head(1, true, ":path=/") }, stream(1, ErrCodeProtocol)},
}

// closed has the Conn answer a request on id, so that the stream is closed.
func (p *peer) closed(id uint32) {
	p.get(id)
	p.feed()
	p.c.SendHead(p.streams[id], ok200(), true)
	p.frames()
}

func (p *peer) setting(id judge.SettingID, v uint32) {
	p.frame(p.fr.WriteSettings(judge.Setting{ID: id, Val: v}))
}

// verdict is what the Conn answered to a violation, in the words of violation.
func (p *peer) verdict() string {
	p.feed()
	for line := range strings.Lines(p.frames()) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "GOAWAY "); ok {
			_, code, _ := strings.Cut(rest, " ")
			return "GOAWAY " + code
		}
		if strings.HasPrefix(line, "RST_STREAM") {
			return line
		}
	}
	return ""
}

// R4.3: whole, byte by byte, and in odd pieces.
func TestServerAnswersViolations(t *testing.T) {
	for _, piece := range []int{0, 1, 7} {
		for _, v := range serverViolations {
			t.Run(fmt.Sprintf("%s/%d", v.name, piece), func(t *testing.T) {
				p := ready(t, Config{})
				p.piece = piece
				v.do(p)
				judgeViolation(t, p, v)
			})
		}
	}
}

// judgeViolation also looks whether the connection lives on when it should.
func judgeViolation(t *testing.T, p *peer, v violation) {
	if got := p.verdict(); got != v.want {
		t.Fatalf("answer %q, want %q; events %q", got, v.want, p.events)
	}
	dead := strings.HasPrefix(v.want, "GOAWAY")
	told := len(p.events) > 0 && strings.HasPrefix(p.events[len(p.events)-1], "error")
	if dead != told {
		t.Errorf("events %q, want an error: %v", p.events, dead)
	}
	if dead {
		return
	}
	p.dropFrames()
	p.frame(p.fr.WritePing(false, [8]byte{1}))
	p.wantFrames("PING ack=true 0100000000000000")
}

// malformed requests, RFC 9113, sections 8.2 and 8.3, and R4.6.
func TestMalformedRequestsAreReset(t *testing.T) {
	with := func(fields ...string) []string { return append(append([]string{}, get...), fields...) }
	for name, fields := range map[string][]string{
		"8.2.1 upper case":                      with("X-A=b"),
		"8.2.1 space in a name":                 with("x a=b"),
		"8.2.1 colon in a name":                 with("x:a=b"),
		"8.2.1 byte over 0x7f in a name":        with("x\x80=b"),
		"R4.6 CR in a value":                    with("x=a\rb"),
		"R4.6 LF in a value":                    with("x=a\nb"),
		"R4.6 NUL in a value":                   with("x=a\x00b"),
		"R4.6 DEL in a long value":              with("x=abcdefghijklmnop\x7fqrst"),
		"R4.6 LF in a pseudo-header field":      {":method=GET", ":scheme=http", ":path=/a\nb", ":authority=a.b"},
		"8.2.1 value begins with a space":       with("x= a"),
		"8.2.1 value ends with a tab":           with("x=a\t"),
		"8.2.2 connection":                      with("connection=close"),
		"8.2.2 proxy-connection":                with("proxy-connection=close"),
		"8.2.2 keep-alive":                      with("keep-alive=1"),
		"R4.6 transfer-encoding":                with("transfer-encoding=chunked"),
		"8.2.2 upgrade":                         with("upgrade=h2c"),
		"8.2.2 te other than trailers":          with("te=gzip"),
		"8.3 unknown pseudo-header field":       with(":x=y"),
		"8.3 unknown pseudo-header field first": append([]string{":x=y"}, get...),
		"8.3 :status in a request":              append([]string{":status=200"}, get...),
		"8.3 pseudo-header field after another": {":method=GET", ":scheme=http", "x=y", ":path=/", ":authority=a.b"},
		"8.3 twice :method":                     append([]string{":method=GET"}, get...),
		"8.3 twice :path":                       append([]string{":path=/"}, get...),
		"8.3.1 no :method":                      {":scheme=http", ":path=/", ":authority=a.b"},
		"8.3.1 no :scheme":                      {":method=GET", ":path=/", ":authority=a.b"},
		"8.3.1 no :path":                        {":method=GET", ":scheme=http", ":authority=a.b"},
		"8.3.1 no authority":                    {":method=GET", ":scheme=http", ":path=/"},
		"8.3.1 empty :path":                     {":method=GET", ":scheme=http", ":path=", ":authority=a.b"},
		"R4.6 :path without a slash":            {":method=GET", ":scheme=http", ":path=x", ":authority=a.b"},
		"R4.6 :path with a space":               {":method=GET", ":scheme=http", ":path=/a b", ":authority=a.b"},
		"8.3.1 asterisk without OPTIONS":        {":method=GET", ":scheme=http", ":path=*", ":authority=a.b"},
		"bad method":                            {":method=G T", ":scheme=http", ":path=/", ":authority=a.b"},
		"bad scheme":                            {":method=GET", ":scheme=1http", ":path=/", ":authority=a.b"},
		"8.3.1 userinfo in :authority":          {":method=GET", ":scheme=http", ":path=/", ":authority=u@a.b"},
		"8.3.1 empty userinfo in :authority":    {":method=GET", ":scheme=http", ":path=/", ":authority=@a.b"},
		"8.3.1 empty :authority":                {":method=GET", ":scheme=http", ":path=/", ":authority="},
		"8.3.1 a port alone in :authority":      {":method=GET", ":scheme=http", ":path=/", ":authority=:80"},
		"8.3.1 two ports in :authority":         {":method=GET", ":scheme=http", ":path=/", ":authority=a.b:1:2"},
		"8.3.1 letters for a port":              {":method=GET", ":scheme=http", ":path=/", ":authority=a.b:http"},
		"8.3.1 space in :authority":             {":method=GET", ":scheme=http", ":path=/", ":authority=a b"},
		"8.3.1 open bracket in :authority":      {":method=GET", ":scheme=http", ":path=/", ":authority=[::1"},
		"8.3.1 escape in :authority":            {":method=GET", ":scheme=http", ":path=/", ":authority=a%2eb"},
		"8.3.1 fragment in :path":               {":method=GET", ":scheme=http", ":path=/a#b", ":authority=a.b"},
		"8.3.1 user in Host":                    {":method=GET", ":scheme=http", ":path=/", "host=u@a.b"},
		"8.5 CONNECT without a port":            {":method=CONNECT", ":authority=a.b"},
		"slash in :authority":                   {":method=GET", ":scheme=http", ":path=/", ":authority=a.b/c"},
		"8.3.1 Host differs":                    with("host=c.d"),
		"two Hosts":                             with("host=a.b", "host=a.b"),
		"8.1.1 content-length not a number":     with("content-length=1x"),
		"8.1.1 content-length signed":           with("content-length=+1"),
		"8.1.1 content-length too large":        with("content-length=9999999999999999999"),
		"R4.6 two content-lengths":              with("content-length=1", "content-length=1"),
		"8.5 CONNECT with :path":                {":method=CONNECT", ":path=/", ":authority=a.b:1"},
		"8.5 CONNECT with :scheme":              {":method=CONNECT", ":scheme=http", ":authority=a.b:1"},
		"8.5 CONNECT without :authority":        {":method=CONNECT"},
		"RFC 8441 :protocol that was not offered": {
			":method=CONNECT", ":protocol=websocket", ":scheme=http", ":path=/", ":authority=a.b"},
		"RFC 8441 :protocol without CONNECT": with(":protocol=websocket"),
	} {
		t.Run(name, func(t *testing.T) {
			p := ready(t, Config{})
			p.head(1, false, fields...)
			if got := p.verdict(); got != stream(1, ErrCodeProtocol) {
				t.Fatalf("answer %q; events %q", got, p.events)
			}
			p.events = nil
			// The table is still in step.
			p.head(3, true, append(get, "x-after=1")...)
			p.wantEvents("head 3 GET http://a.b/ x-after=1 end")
		})
	}
}

// clientViolations are what a server can do wrong. Streams 1 (GET), 3 (HEAD) and
// 5 (an open POST) are there.
var clientViolations = []violation{
	{"8.1 DATA before the head", func(p *peer) { p.data(1, true, "x") }, stream(1, ErrCodeProtocol)},
	{"8.3.2 no :status", func(p *peer) { p.head(1, true, "x=y") }, stream(1, ErrCodeProtocol)},
	{"8.3.2 :status of two digits", func(p *peer) { p.head(1, true, ":status=20") }, stream(1, ErrCodeProtocol)},
	{"8.3.2 :status not a number", func(p *peer) { p.head(1, true, ":status=2x0") }, stream(1, ErrCodeProtocol)},
	{"8.3.2 :path in a response", func(p *peer) { p.head(1, true, ":status=200", ":path=/") }, stream(1, ErrCodeProtocol)},
	{"RFC 9110 6.5.1 set-cookie in trailers", func(p *peer) { p.head(1, false, ":status=200"); p.head(1, true, "set-cookie=a=b") }, stream(1, ErrCodeProtocol)},
	{"8.6 101", func(p *peer) { p.head(1, false, ":status=101") }, stream(1, ErrCodeProtocol)},
	{"8.1 interim response that ends", func(p *peer) { p.head(1, true, ":status=100") }, stream(1, ErrCodeProtocol)},
	{"8.1 second final head", func(p *peer) { p.head(1, false, ":status=200"); p.head(1, false, ":status=200") }, stream(1, ErrCodeProtocol)},
	{"8.1.1 content-length not met", func(p *peer) { p.head(1, true, ":status=200", "content-length=3") }, stream(1, ErrCodeProtocol)},
	{"8.1.1 body of a HEAD response", func(p *peer) { p.head(3, false, ":status=200", "content-length=3"); p.data(3, true, "abc") }, stream(3, ErrCodeProtocol)},
	{"8.1.1 body of a 304", func(p *peer) { p.head(1, false, ":status=304"); p.data(1, true, "abc") }, stream(1, ErrCodeProtocol)},
	{"8.1.1 content-length of a HEAD response", func(p *peer) { p.head(3, true, ":status=200", "content-length=3") }, ""},
	{"8.1.1 content-length of a 304", func(p *peer) { p.head(1, true, ":status=304", "content-length=3") }, ""},
	{"5.1 HEADERS on an idle stream", func(p *peer) { p.head(7, true, ":status=200") }, conn(ErrCodeProtocol)},
	{"5.1 HEADERS on a stream of the server", func(p *peer) { p.head(2, true, ":status=200") }, conn(ErrCodeProtocol)},
	{"5.1 DATA on an idle stream", func(p *peer) { p.data(7, true, "x") }, conn(ErrCodeProtocol)},
	{"5.1 HEADERS on a closed stream", func(p *peer) { p.head(1, true, ":status=200"); p.head(1, true, ":status=200") }, conn(ErrCodeStreamClosed)},
	{"5.1 DATA on a closed stream", func(p *peer) { p.head(1, true, ":status=200"); p.data(1, true, "x") }, stream(1, ErrCodeStreamClosed)},
	{"5.1 DATA after the end, our side open", func(p *peer) { p.head(5, true, ":status=200"); p.data(5, true, "x") }, stream(5, ErrCodeStreamClosed)},
	{"8.4 PUSH_PROMISE", func(p *peer) { p.raw(5, 4, 1, "\x00\x00\x00\x02\x88") }, conn(ErrCodeProtocol)},
	{"6.5.2 ENABLE_PUSH from a server", func(p *peer) { p.setting(judge.SettingEnablePush, 1) }, conn(ErrCodeProtocol)},
	{"6.9.1 more DATA than the stream window", func(p *peer) {
		p.consume = false
		p.head(1, false, ":status=200")
		p.data(1, false, strings.Repeat("x", 65536))
		p.data(1, false, "x")
	}, stream(1, ErrCodeFlowControl)},
}

func TestClientAnswersViolations(t *testing.T) {
	for _, piece := range []int{0, 1, 7} {
		for _, v := range clientViolations {
			t.Run(fmt.Sprintf("%s/%d", v.name, piece), func(t *testing.T) {
				p := ready(t, Config{Client: true})
				p.open(headOf("GET", "/"), true)
				p.open(headOf("HEAD", "/"), true)
				p.open(headOf("POST", "/"), false)
				p.frames()
				p.piece = piece
				v.do(p)
				judgeViolation(t, p, v)
			})
		}
	}
}

func TestFirstFrameIsSettings(t *testing.T) {
	for name, do := range map[string]func(p *peer){
		"bad preface":    func(p *peer) { p.in.Reset(); p.in.WriteString("GET / HTTP/1.1\r\nHost: a.b\r\n\r\n") },
		"PING first":     func(p *peer) { p.frame(p.fr.WritePing(false, [8]byte{})) },
		"SETTINGS ack":   func(p *peer) { p.frame(p.fr.WriteSettingsAck()) },
		"unknown type":   func(p *peer) { p.raw(0x42, 0, 0, "") },
		"HEADERS first":  func(p *peer) { p.get(1) },
		"GOAWAY first":   func(p *peer) { p.raw(7, 0, 0, "12345678") },
		"nonsense first": func(p *peer) { p.in.WriteString("SSH-2.0-x and what follows") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, Config{})
			do(p)
			p.feed()
			if len(p.events) != 1 || !strings.HasPrefix(p.events[0], "error") {
				t.Errorf("events %q", p.events)
			}
		})
	}
}

// open opens a stream of a client Conn.
func (p *peer) open(h *head.Head, end bool) *Stream {
	p.t.Helper()
	s, err := p.c.Open(h, end, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.streams[s.ID] = s
	return s
}
