package h1

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

func TestMain(m *testing.M) { leak.Main(m) }

// conversation is what one parser reads.
type conversation struct {
	name string
	role Role
	lim  Limits
	exp  []Expect // one per message in the client role; the last one goes on
	in   string
	eof  bool // the peer half-closes behind in
	want string
}

// read feeds pieces of c.in, which end at the offsets cuts, and writes down what
// comes of them. A piece is overwritten once it was stashed: nothing may refer
// to it any more.
func (c *conversation) read(t testing.TB, cuts ...int) string {
	t.Helper()
	pool := slab.NewPool(nil)
	r := reader{c: c, p: NewParser(c.role, c.lim, pool)}
	r.p.NextMessage(r.expect())
	from := 0
	for _, to := range append(cuts, len(c.in)) {
		piece := []byte(c.in[from:to])
		from = to
		r.p.Feed(piece)
		r.drain()
		left := r.p.Stash()
		if kept := len(r.p.Rest()); kept != left {
			t.Errorf("%d bytes kept, Stash says %d", kept, left)
		}
		for i := range piece {
			piece[i] = 0xaa
		}
	}
	if c.eof {
		if ev, ok := r.p.EOF(); ok {
			r.event(&ev)
			r.drain()
		} else {
			r.flush()
			r.out.WriteString("nothing\n")
		}
	}
	r.flush()
	if rest := r.p.Rest(); len(rest) > 0 && r.p.state != stateFailed {
		fmt.Fprintf(&r.out, "rest %q\n", rest)
	}
	r.p.Close()
	if pool.InUse() != 0 {
		t.Errorf("%d bytes of the pool still in use", pool.InUse())
	}
	return r.out.String()
}

type reader struct {
	c       *conversation
	p       *Parser
	message int
	out     strings.Builder
	data    []byte // not yet written down
}

func (r *reader) expect() (e Expect) {
	if n := len(r.c.exp); n > 0 {
		e = r.c.exp[min(r.message, n-1)]
	}
	r.message++
	return e
}

func (r *reader) drain() {
	for {
		ev, ok := r.p.Next()
		if !ok {
			return
		}
		r.event(&ev)
	}
}

func (r *reader) event(ev *Event) {
	if ev.Kind != EventData {
		r.flush()
	}
	switch ev.Kind {
	case EventHead:
		r.head("head", ev.Head)
	case EventInfo:
		r.head("info", ev.Head)
	case EventTunnel:
		r.head("tunnel", ev.Head)
	case EventTrailers:
		r.out.WriteString("trailers\n")
		r.fields(ev.Head)
	case EventData:
		if len(ev.Data) == 0 {
			r.out.WriteString("empty data\n")
		}
		r.data = append(r.data, ev.Data...)
	case EventEnd:
		r.out.WriteString("end\n")
		r.p.NextMessage(r.expect())
	case EventError:
		fmt.Fprintf(&r.out, "error %d %s", ev.Err.Status, ev.Err)
		if ev.Err.Truncated {
			r.out.WriteString(" (truncated)")
		}
		r.out.WriteByte('\n')
	}
}

// flush writes down the data: in one piece, however it came.
func (r *reader) flush() {
	if len(r.data) > 0 {
		q := fmt.Sprintf("%q", r.data)
		fmt.Fprintf(&r.out, "data %s\n", q[1:len(q)-1])
		r.data = r.data[:0]
	}
}

func (r *reader) head(kind string, h *head.Head) {
	if h.Status != 0 {
		fmt.Fprintf(&r.out, "%s %d %q", kind, h.Status, h.Reason)
	} else {
		fmt.Fprintf(&r.out, "%s %s %q %s", kind, h.Method, h.Target,
			[...]string{"origin", "absolute", "authority", "asterisk"}[h.Form])
		if len(h.Scheme) > 0 {
			fmt.Fprintf(&r.out, " scheme=%s", h.Scheme)
		}
		fmt.Fprintf(&r.out, " authority=%q", h.Authority)
	}
	fmt.Fprintf(&r.out, " %d %s", h.Version, [...]string{"none", "length", "chunked", "eof"}[h.Framing])
	if h.Length >= 0 {
		fmt.Fprintf(&r.out, " length=%d", h.Length)
	}
	if h.Upgrade != nil {
		fmt.Fprintf(&r.out, " upgrade=%q", h.Upgrade)
	}
	if h.Expect {
		r.out.WriteString(" expect")
	}
	if h.Close {
		r.out.WriteString(" close")
	}
	r.out.WriteByte('\n')
	r.fields(h)
}

func (r *reader) fields(h *head.Head) {
	for i := range h.Fields {
		q := fmt.Sprintf("%q", h.Fields[i].Value)
		fmt.Fprintf(&r.out, "  %s: %s\n", h.Fields[i].Name, q[1:len(q)-1])
	}
}

// check reads c in one piece, byte by byte, and cut in two at every offset: what
// comes of it is the same.
func (c *conversation) check(t *testing.T) {
	t.Helper()
	got := c.read(t)
	if c.want != "" && got != c.want {
		t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
	}
	each := make([]int, len(c.in))
	for i := range each {
		each[i] = i
	}
	if len(each) > 4096 {
		return
	}
	if again := c.read(t, each...); again != got {
		t.Errorf("byte by byte:\n%s\nin one piece:\n%s", again, got)
	}
	for i := range each {
		if again := c.read(t, i); again != got {
			t.Fatalf("cut at %d:\n%s\nin one piece:\n%s", i, again, got)
		}
	}
}

// lines ends each line with CRLF, and the last with an empty line too.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }
