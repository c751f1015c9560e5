package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy"
)

// stoppedBytes is more than all buffers of one flow hold, when it is alone.
const stoppedBytes = 480 << 10

// stoppedFlow is a long stretch of bytes whose reader has stopped.
type stoppedFlow struct {
	reader *conn
	want   string
}

// stoppedPayload tells flows and positions apart.
func stoppedPayload(i int) string {
	var b strings.Builder
	for n := 0; b.Len() < stoppedBytes; n++ {
		fmt.Fprintf(&b, "%d at %d\n", i, n)
	}
	return b.String()
}

// stop begins flow i, of one of four kinds, and stops its reader.
func (w *world) stop(i int) stoppedFlow {
	w.t.Helper()
	c, p := w.dial(), stoppedPayload(i)
	switch i % 4 {
	case 0: // a response
		c.send(get)
		s := w.accept()
		c.e.Pause()
		s.e.Write([]byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(p)) + p))
		return stoppedFlow{c, p}
	case 1: // a request
		c.e.Write([]byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(p)) + p))
		s := w.accept()
		s.e.Pause()
		return stoppedFlow{s, p}
	case 2: // a tunnel, toward the client
		c.send(askUpgrade)
		s := w.accept()
		s.expect(w.upgraded())
		s.send(switched)
		c.expect(switched)
		c.e.Pause()
		s.e.Write([]byte(p))
		return stoppedFlow{c, p}
	default: // bytes that are no HTTP, toward the server
		c.e.Write([]byte("\x00\x01\n" + p))
		s := w.accept()
		s.e.Pause()
		return stoppedFlow{s, p}
	}
}

// held is how much a proxy keeps, in bytes.
func held(p *proxy.Proxy) int64 { return p.Workers()[0].Pool().InUse() }

// R4.2: what is kept for stopped readers is bounded, per flow where they are few and together where
// they are many; and every byte arrives when they read on.
func TestWhatStoppedReadersKeepIsBounded(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		n            int
		budget, most int64
	}{
		{1, 0, mib}, {12, 0, 4 * mib}, {48, 0, 12 * mib}, {24, 2 * mib, 2 * mib},
	} {
		t.Run(fmt.Sprintf("%d of %d MiB", c.n, c.budget/mib), func(t *testing.T) {
			if race.Enabled && c.n > 24 {
				t.Skip("much for the race detector; make test runs it without, too")
			}
			w := newWorld(t, shapeMesh, func(k *knobs) {
				k.cfg.BufferBytes = c.budget
				k.net.SendBuffer, k.net.ReceiveBuffer = 16<<10, 16<<10
			})
			var flows []stoppedFlow
			for i := range c.n {
				flows = append(flows, w.stop(i))
			}
			w.run(5 * time.Second)
			if out, in := held(w.out), held(w.in); out > c.most || in > c.most || out == 0 || in == 0 {
				t.Errorf("%d stopped: outbound keeps %d, inbound %d; want %d at most", c.n, out, in, c.most)
			} else {
				t.Logf("outbound keeps %d, inbound %d", out, in)
			}
			for _, f := range flows {
				f.reader.e.Resume()
			}
			w.run(20 * time.Second)
			for i, f := range flows {
				if got := f.reader.got.String(); !strings.HasSuffix(got, f.want) {
					t.Errorf("flow %d: %d bytes, not what was sent; eof %v, %v", i, len(got), f.reader.eof, f.reader.err)
				}
			}
		})
	}
}
