package proxy_test

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2peer is one end of a transcript that speaks HTTP/2, by another's codec.
type h2peer struct {
	*conn
	fr  *http2.Framer
	in  bytes.Buffer
	dec *hpack.Decoder
	enc *hpack.Encoder
	blk bytes.Buffer
}

// http2 begins HTTP/2 on c, whose other end is a server or a client.
func (c *conn) http2(client bool, settings ...http2.Setting) *h2peer {
	p := &h2peer{conn: c}
	p.fr = http2.NewFramer(writer{c}, &p.in)
	p.dec = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.blk)
	if client {
		c.e.Write([]byte(http2.ClientPreface))
	} else {
		c.expect(strings.ReplaceAll(http2.ClientPreface, "\r\n", "\n"))
	}
	p.must(p.fr.WriteSettings(settings...))
	c.w.run(1e6)
	return p
}

type writer struct{ c *conn }

func (w writer) Write(p []byte) (int, error) {
	w.c.e.Write(p)
	return len(p), nil
}

func (p *h2peer) must(err error) {
	if err != nil {
		p.w.t.Helper()
		p.w.t.Fatal(err)
	}
}

// head sends HEADERS; fields are "name: value" by line.
func (p *h2peer) head(id uint32, end bool, fields string) {
	p.blk.Reset()
	for f := range strings.SplitSeq(fields, "\n") {
		i := strings.Index(f[1:], ":") + 1
		p.must(p.enc.WriteField(hpack.HeaderField{Name: f[:i], Value: strings.TrimSpace(f[i+1:])}))
	}
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.blk.Bytes(), EndStream: end, EndHeaders: true}))
	p.w.run(1e6)
}

// frame waits for the next frame and describes it; housekeeping is passed over.
func (p *h2peer) frame() string {
	p.w.t.Helper()
	for {
		whole := func() bool {
			u := p.unread()
			return len(u) >= 9 && len(u) >= 9+int(u[0])<<16+int(u[1])<<8+int(u[2])
		}
		p.w.net.RunUntil(p.w.net.Now().Add(patience), func() bool { return whole() || p.eof || p.err != nil })
		if !whole() {
			return fmt.Sprintf("end (eof %v, %v)", p.eof, p.err)
		}
		u := p.unread()
		n := 9 + int(u[0])<<16 + int(u[1])<<8 + int(u[2])
		p.in.WriteString(u[:n])
		p.read += n
		f, err := p.fr.ReadFrame()
		p.must(err)
		if s := p.describe(f); s != "" {
			return s
		}
	}
}

func (p *h2peer) describe(f http2.Frame) string {
	id := f.Header().StreamID
	end := ""
	switch f := f.(type) {
	case *http2.HeadersFrame:
		if f.StreamEnded() {
			end = " END"
		}
		hs, err := p.dec.DecodeFull(f.HeaderBlockFragment())
		p.must(err)
		s := ""
		for _, h := range hs {
			s += fmt.Sprintf(" %s: %s;", h.Name, h.Value)
		}
		return fmt.Sprintf("HEADERS %d%s%s", id, end, s)
	case *http2.DataFrame:
		if f.StreamEnded() {
			end = " END"
		}
		return fmt.Sprintf("DATA %d%s %s", id, end, f.Data())
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %v", id, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, f.ErrCode)
	}
	return ""
}

// expectFrame checks what the next frame is.
func (p *h2peer) expectFrame(want string) {
	p.w.t.Helper()
	if got := p.frame(); got != want {
		p.w.t.Fatalf("%s: got %s, want %s", p.name, got, want)
	}
}
