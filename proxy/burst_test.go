package proxy_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// burst has n clients ask at once.
func (w *world) burst(n int) []*conn {
	cs := make([]*conn, n)
	for i := range cs {
		cs[i] = w.dial()
		cs[i].e.Write([]byte(crlf(get)))
	}
	w.run(10 * time.Millisecond)
	return cs
}

// dials counts connections to an address; each is treated as outcome says, from 1.
func (w *world) dials(addr netip.AddrPort, outcome func(n int) simnet.Outcome) *int {
	n := new(int)
	w.net.OnDial(func(_ netip.Addr, to netip.AddrPort) simnet.Outcome {
		if to != addr {
			return simnet.Normal
		}
		*n++
		return outcome(*n)
	})
	return n
}

// answer has the application answer n requests, whatever connections they come on.
func (w *world) answer(n int) {
	w.t.Helper()
	want := crlf(w.request(get))
	var apps []*conn
	for end := w.net.Now().Add(patience); n > 0; w.run(time.Millisecond) {
		if w.net.Now() > end {
			w.t.Fatalf("%d requests have not come", n)
		}
		apps, w.accepted = append(apps, w.accepted...), nil
		for _, s := range apps {
			if s.unread() == want {
				s.read += len(want)
				s.e.Write([]byte(crlf(ok)))
				n--
			}
		}
	}
	w.run(10 * time.Millisecond)
}

func always(o simnet.Outcome) func(int) simnet.Outcome { return func(int) simnet.Outcome { return o } }

func (w *world) wantQueued(want uint64) {
	w.t.Helper()
	if got := w.out.Counted().Queued[metrics.Outbound]; uint64(got) != want {
		w.t.Errorf("%d requests wait, want %d", got, want)
	}
}

// R4.4: as many connections are made at once as those who wait need, of 250 streams each, and never more than 8.
func TestABurstIsDialledForAtOnce(t *testing.T) {
	for _, c := range []struct{ requests, dials int }{{1, 1}, {250, 1}, {251, 2}, {1001, 5}, {2000, 8}, {2600, 8}} {
		t.Run(fmt.Sprint(c.requests), func(t *testing.T) {
			w := newWorld(t, shapeMesh, nil)
			n := w.dials(inAddr, always(simnet.Lost))
			w.burst(c.requests)
			w.wantQueued(uint64(c.requests))
			if *n != c.dials {
				t.Errorf("%d connections are being made, want %d", *n, c.dials)
			}
		})
	}
}

// R4.4: one endpoint's limit of connections holds in a burst, too.
func TestABurstKeepsToTheLimitOfConnections(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.cfg.Limits.Conns = 2 })
	n := w.dials(inAddr, always(simnet.Lost))
	w.burst(1000)
	if *n != 2 {
		t.Errorf("%d connections are being made, want 2", *n)
	}
}

// R1.5, R8.1: who finds neither room on what is being made nor a place in the queue is told which queue, and counted.
func TestABurstOverTheBoundIsRefusedByName(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.cfg.DisableRetries = true })
	w.dials(inAddr, always(simnet.Lost))
	const room = 1024 + 8*250
	cs := w.burst(room + 10)
	w.wantQueued(room)
	if got := w.out.Counted().Refused[metrics.RefusedQueue]; got != 10 {
		t.Errorf("%d refused, want 10", got)
	}
	answered := 0
	for _, c := range cs {
		if c.unread() != "" {
			answered++
			c.expect("HTTP/1.1 503 Service Unavailable\ncontent-length: 0\n" +
				"tulle-proxy-error: outbound service catalog.shop:80: endpoint 10.0.0.2:10080: more than 1024 requests wait for a connection\n")
		}
	}
	if answered != 10 {
		t.Errorf("%d were told, want 10", answered)
	}
}

// R1.5: HTTP/1 has a connection for each; the queue is for those whom none is being made for.
func TestABurstOfHTTP1KeepsToItsBounds(t *testing.T) {
	w := newWorld(t, shapeOut, func(k *knobs) { k.cfg.Limits.Waiting, k.cfg.Limits.Conns = 2, 3 })
	n := w.dials(appAddr, always(simnet.Lost))
	w.burst(10)
	w.wantQueued(5)
	if *n != 3 {
		t.Errorf("%d connections are being made, want 3", *n)
	}
}

// R4.4: everybody of a burst is served, and no more connections are made than that takes.
func TestABurstIsServed(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	n := w.dials(inAddr, always(simnet.Normal))
	cs := w.burst(1300)
	w.answer(len(cs))
	for _, c := range cs {
		c.expect(ok)
	}
	if *n != 6 {
		t.Errorf("%d connections for 1,300 requests at once, want 6", *n)
	}
}

// R8.3: a connection that cannot be made fails those for whom no other one is on its way, and nobody else.
func TestOneOfSeveralConnectionsFails(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.cfg.DisableRetries = true })
	n := w.dials(inAddr, always(simnet.Lost))
	cs := w.burst(200)
	w.run(500 * time.Millisecond)
	w.burst(200)
	if *n != 2 {
		t.Fatalf("%d connections are being made, want 2", *n)
	}
	w.wantQueued(400)
	w.run(600 * time.Millisecond) // the first one's time is over
	w.wantQueued(250)
	for _, c := range cs[:150] { // they have waited longest
		c.expect("HTTP/1.1 504 Gateway Timeout\n")
	}
	w.run(500 * time.Millisecond)
	w.wantQueued(0)
}

// R4.4: how many streams a peer takes is learned from its last connection.
func TestHowManyStreamsAPeerTakesIsLearned(t *testing.T) {
	w := newWorld(t, shapeOut, nil)
	n := w.dials(appAddr, func(n int) simnet.Outcome {
		if n == 1 {
			return simnet.Normal
		}
		return simnet.Lost
	})
	c := w.dial().http2(true)
	c.head(1, true, h2get)
	w.accept().http2(false, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 5})
	for i := range uint32(24) {
		c.head(2*i+3, true, h2get)
	}
	w.wantQueued(20)
	if *n != 1+4 {
		t.Errorf("%d connections for 25 requests to who takes 5 at once, want one and 4 that are being made", *n)
	}
}

// R4.4: a peer that never says how many streams it takes does not leave others waiting.
func TestAPeerWithoutSettingsLeavesNobodyWaiting(t *testing.T) {
	w := newWorld(t, shapeOut, nil)
	n := w.dials(appAddr, always(simnet.Normal))
	for range 2 {
		c := w.dial().http2(true)
		for i := range uint32(140) {
			c.head(2*i+1, true, h2get)
		}
	}
	if *n != 2 {
		t.Fatalf("%d connections at first, want 2, which may yet have room for all", *n)
	}
	w.wantQueued(80)
	w.run(6 * time.Second)
	w.wantQueued(0)
	if *n != 3 {
		t.Errorf("%d connections, want another one", *n)
	}
}
