package proxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// nobodyAddr is where clients dial a name that the control plane does not answer for.
var nobodyAddr = meshtest.Addr("127.0.0.1:9009")

// R1.5, R4.5: what is over a limit is refused and counted by its reason.
func TestRefusalsAreCountedByReason(t *testing.T) {
	const long = 70 << 10
	for _, c := range []struct {
		name   string
		reason metrics.Refusal
		edit   func(k *knobs)
		do     func(w *world)
	}{
		{"an HTTP/1 head", metrics.RefusedHead, nil, func(w *world) {
			c := w.dial()
			c.send("GET / HTTP/1.1\nHost: a\nX: " + strings.Repeat("x", long) + "\n\n")
		}},
		{"an HTTP/1 target", metrics.RefusedHead, nil, func(w *world) {
			w.dial().send("GET /" + strings.Repeat("x", 40<<10) + " HTTP/1.1\nHost: a\n\n")
		}},
		{"bytes that are no request", metrics.RefusedMalformed, nil, func(w *world) {
			w.dial().send("GET / HTTP/1.1\nHost: a\nHost: b\n\n")
		}},
		{"a second head of a stream", metrics.RefusedMalformed, nil, func(w *world) {
			p := w.dial().http2(true)
			p.head(1, true, h2get)
			p.head(1, true, h2get)
		}},
		{"an HTTP/2 head", metrics.RefusedHead, nil, func(w *world) {
			p := w.dial().http2(true)
			p.head(1, true, h2get+strings.Repeat("\na: b", 300))
		}},
		{"streams over the limit", metrics.RefusedRequests, nil, func(w *world) {
			p := w.dial().http2(true)
			for id := uint32(1); id < 2*260; id += 2 {
				p.head(id, true, h2get)
			}
		}},
		{"streams while the buffers are full", metrics.RefusedMemory, func(k *knobs) { k.cfg.BufferBytes = 1 << 20 }, func(w *world) {
			p := w.dial().http2(true)
			held := w.out.Workers()[0].Pool()
			b := held.Get(2 << 20)
			p.head(1, true, h2get)
			held.Put(b)
		}},
		{"a flood", metrics.RefusedFlood, nil, func(w *world) {
			p := w.dial().http2(true)
			for range 3000 {
				p.must(p.fr.WritePing(false, [8]byte{}))
			}
			w.run(1e9)
		}},
		{"connections that wait for a name", metrics.RefusedQueue, func(k *knobs) {
			k.cfg.Limits.Waiting = 2
			k.upstreams = []proxy.Upstream{{Listen: nobodyAddr, Target: mesh.NameTarget("nobody.shop", 80)}}
		}, func(w *world) {
			for range 5 {
				w.dialAt(nobodyAddr).send(get)
			}
		}},
		{"requests that wait for a connection", metrics.RefusedQueue, func(k *knobs) { k.cfg.Limits.Waiting, k.cfg.Limits.Conns = 2, 1 }, func(w *world) {
			w.net.OnDial(func(_ netip.Addr, to netip.AddrPort) simnet.Outcome {
				if to == inAddr {
					return simnet.Lost
				}
				return simnet.Normal
			})
			for range 255 {
				w.dial().send(get)
			}
			w.run(1e6)
			if n := w.out.Counted().Queued[metrics.Outbound]; n != 252 {
				w.t.Errorf("%d wait, want 2 besides the 250 that the connection being made has room for", n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, shapeMesh, c.edit)
			c.do(w)
			w.run(1e7)
			if got := w.out.Counted().Refused; got[c.reason] == 0 {
				t.Errorf("refused by reason: %v", got)
			}
		})
	}
}
