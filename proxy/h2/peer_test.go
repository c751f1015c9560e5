package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	judge "golang.org/x/net/http2"
	jpack "golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// peer is the other end of a Conn under test: x/net's framer writes and reads
// its frames. What the Conn tells and sends is kept as lines of text.
type peer struct {
	t    testing.TB
	c    *Conn
	now  mono.Time
	fr   *judge.Framer // writes to in, reads from out
	in   bytes.Buffer  // to the Conn
	out  bytes.Buffer  // from the Conn
	enc  *jpack.Encoder
	hbuf bytes.Buffer
	dec  *jpack.Decoder

	streams map[uint32]*Stream
	consume bool // give credit back as DATA arrives
	piece   int  // feed in pieces of so many bytes; 0: all at once
	events  []string
}

func newPeer(t testing.TB, cfg Config) *peer {
	p := &peer{t: t, now: 1e9, streams: map[uint32]*Stream{}, consume: true}
	p.c = New(cfg, p.now)
	p.fr = judge.NewFramer(&p.in, &p.out)
	p.fr.AllowIllegalWrites = true
	p.fr.AllowIllegalReads = true
	p.fr.SetMaxReadFrameSize(1<<24 - 1)
	p.enc = jpack.NewEncoder(&p.hbuf)
	p.dec = jpack.NewDecoder(4096, nil)
	if !cfg.Client {
		p.in.WriteString(preface)
	}
	return p
}

// ready is a peer after the exchange of SETTINGS; what was said until then is
// forgotten.
func ready(t testing.TB, cfg Config, settings ...judge.Setting) *peer {
	p := newPeer(t, cfg)
	p.frame(p.fr.WriteSettings(settings...))
	p.frame(p.fr.WriteSettingsAck())
	p.feed()
	p.frames()
	p.events = nil
	return p
}

// frame takes the error of one of the framer's Write methods.
func (p *peer) frame(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}

// raw appends a frame as it stands.
func (p *peer) raw(typ, flags uint8, id uint32, payload string) {
	p.in.Write(appendFrameHeader(nil, frameHeader{length: len(payload), typ: frameType(typ), flags: flags, id: id}))
	p.in.WriteString(payload)
}

// block encodes "name=value" pairs.
func (p *peer) block(fields ...string) []byte {
	p.hbuf.Reset()
	for _, f := range fields {
		i := strings.IndexByte(f[1:], '=') + 1
		p.frame(p.enc.WriteField(jpack.HeaderField{Name: f[:i], Value: f[i+1:]}))
	}
	return bytes.Clone(p.hbuf.Bytes())
}

// head sends HEADERS on a stream.
func (p *peer) head(id uint32, end bool, fields ...string) {
	p.frame(p.fr.WriteHeaders(judge.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true}))
}

var get = []string{":method=GET", ":scheme=http", ":path=/", ":authority=a.b"}
var post = []string{":method=POST", ":scheme=http", ":path=/", ":authority=a.b"}

func (p *peer) get(id uint32)  { p.head(id, true, get...) }
func (p *peer) post(id uint32) { p.head(id, false, post...) }
func (p *peer) data(id uint32, end bool, content string) {
	p.frame(p.fr.WriteData(id, end, []byte(content)))
}

// feed hands what was written to the Conn and keeps its events.
func (p *peer) feed() {
	b := p.in.Bytes()
	for len(b) > 0 {
		n := len(b)
		if p.piece > 0 {
			n = min(n, p.piece)
		}
		// A copy that is spoilt afterwards: nothing may refer to it any more.
		read := bytes.Clone(b[:n])
		b = b[n:]
		p.c.Feed(read)
		for {
			ev, ok := p.c.Next(p.now)
			if !ok {
				break
			}
			p.event(ev)
		}
		p.c.Stash()
		for i := range read {
			read[i] = 0xdb
		}
	}
	p.in.Reset()
}

func (p *peer) event(ev Event) {
	var b strings.Builder
	switch ev.Kind {
	case EventHead:
		p.streams[ev.Stream.ID] = ev.Stream
		fmt.Fprintf(&b, "head %d %s", ev.Stream.ID, showHead(ev.Head))
	case EventInfo:
		fmt.Fprintf(&b, "info %d %s", ev.Stream.ID, showHead(ev.Head))
	case EventData:
		fmt.Fprintf(&b, "data %d %s", ev.Stream.ID, brief(ev.Data))
		if p.consume {
			p.c.Consume(ev.Stream, len(ev.Data))
		}
	case EventTrailers:
		fmt.Fprintf(&b, "trailers %d %s", ev.Stream.ID, showHead(ev.Head))
	case EventReset:
		fmt.Fprintf(&b, "reset %d %v", ev.Stream.ID, ev.Code)
		delete(p.streams, ev.Stream.ID)
	case EventRefused:
		fmt.Fprintf(&b, "refused %v %d", ev.Code, ev.N)
	case EventGoAway:
		fmt.Fprintf(&b, "goaway %v", ev.Code)
	case EventSettings:
		b.WriteString("settings")
	case EventPong:
		fmt.Fprintf(&b, "pong %d", ev.N)
	case EventError:
		fmt.Fprintf(&b, "error %v", ev.Err)
	}
	if ev.Local {
		fmt.Fprintf(&b, " local (%s)", ev.Reason)
	}
	if ev.Unprocessed {
		b.WriteString(" unprocessed")
	}
	if ev.End {
		b.WriteString(" end")
	}
	p.events = append(p.events, b.String())
}

func brief(b []byte) string {
	if len(b) > 24 {
		return fmt.Sprintf("%q... %d bytes", b[:8], len(b))
	}
	return fmt.Sprintf("%q", b)
}

func showHead(h *head.Head) string {
	var b strings.Builder
	if h.Status != 0 {
		fmt.Fprintf(&b, "%d", h.Status)
	} else if h.Method != nil {
		fmt.Fprintf(&b, "%s %s://%s%s", h.Method, h.Scheme, h.Authority, h.Target)
	}
	if h.Upgrade != nil {
		fmt.Fprintf(&b, " upgrade=%s", h.Upgrade)
	}
	for _, f := range h.Fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return strings.TrimSpace(b.String())
}

// frames takes the Conn's output and returns its frames, one a line.
func (p *peer) frames() string {
	p.out.Write(p.c.Output(nil, 1<<20))
	for {
		if _, _, ok := p.c.Drained(); !ok {
			break
		}
	}
	if b := p.out.Bytes(); bytes.HasPrefix(b, []byte(preface)) {
		p.out.Next(len(preface))
	}
	var lines []string
	for {
		f, err := p.fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return strings.Join(lines, "\n")
		}
		if err != nil {
			p.t.Fatalf("the framer refuses our output: %v", err)
		}
		lines = append(lines, p.show(f))
	}
}

func (p *peer) show(f judge.Frame) string {
	h := f.Header()
	end := ""
	switch f := f.(type) {
	case *judge.DataFrame:
		if f.StreamEnded() {
			end = " end"
		}
		return fmt.Sprintf("DATA %d %s%s", h.StreamID, brief(f.Data()), end)
	case *judge.HeadersFrame:
		if f.StreamEnded() {
			end = " end"
		}
		block := bytes.Clone(f.HeaderBlockFragment())
		for more := !f.HeadersEnded(); more; {
			c, err := p.fr.ReadFrame()
			cf, ok := c.(*judge.ContinuationFrame)
			if err != nil || !ok {
				p.t.Fatalf("header block interrupted by %v (%v)", c, err)
			}
			block = append(block, cf.HeaderBlockFragment()...)
			more = !cf.HeadersEnded()
		}
		fields, err := p.dec.DecodeFull(block)
		if err != nil {
			p.t.Fatalf("the judge cannot decode our head: %v", err)
		}
		var b strings.Builder
		for _, f := range fields {
			b.WriteString(" " + f.Name + "=" + f.Value)
		}
		return fmt.Sprintf("HEADERS %d%s%s", h.StreamID, b.String(), end)
	case *judge.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %v", h.StreamID, ErrCode(f.ErrCode))
	case *judge.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, ErrCode(f.ErrCode))
	case *judge.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", h.StreamID, f.Increment)
	case *judge.PingFrame:
		return fmt.Sprintf("PING ack=%v %x", f.IsAck(), f.Data)
	case *judge.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ack"
		}
		var b strings.Builder
		_ = f.ForeachSetting(func(s judge.Setting) error {
			fmt.Fprintf(&b, " %v=%d", s.ID, s.Val)
			return nil
		})
		return "SETTINGS" + b.String()
	}
	return fmt.Sprintf("%v", f)
}

// wantEvents feeds what was written and compares the events since the last call.
func (p *peer) wantEvents(want ...string) {
	p.t.Helper()
	p.feed()
	if got := strings.Join(p.events, "\n"); got != strings.Join(want, "\n") {
		p.t.Fatalf("events:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	p.events = nil
}

func (p *peer) wantFrames(want ...string) {
	p.t.Helper()
	p.feed()
	if got := p.frames(); got != strings.Join(want, "\n") {
		p.t.Fatalf("frames:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

// dropFrames takes the output and forgets it.
func (p *peer) dropFrames() {
	p.feed()
	p.frames()
	p.events = nil
}

func ok200() *head.Head { return &head.Head{Status: 200, Version: 20, Length: -1} }

func headOf(method, target string, fields ...string) *head.Head {
	h := &head.Head{Method: []byte(method), Target: []byte(target), Authority: []byte("a.b"), Version: 20, Length: -1}
	for _, f := range fields {
		n, v, _ := strings.Cut(f, "=")
		h.Add([]byte(n), []byte(v))
	}
	return h
}
