package proxy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// R8.2: requests in a pool's queue are answered when no connection can be had,
// each of them, also where the pool may have no more connections.
func TestRefusedConnectionsFailEveryQueuedRequest(t *testing.T) {
	for _, limit := range []int{1, 100} {
		w := newWorld(t, shapeIn, func(k *knobs) { k.cfg.Limits.Conns = limit })
		w.l.Close()
		var cs []*conn
		for range 5 {
			c := w.dial()
			c.e.Write([]byte(crlf(get)))
			cs = append(cs, c)
		}
		for _, c := range cs {
			if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 502 Bad Gateway\ncontent-length: 0") {
				t.Fatalf("%q", h)
			}
		}
	}
}

// R1.5: a pool has no more connections than its limit; who waits is served in order.
func TestPoolLimit(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) { k.cfg.Limits.Conns = 1 })
	var cs []*conn
	for range 4 {
		c := w.dial()
		c.send(get)
		cs = append(cs, c)
	}
	s := w.accept()
	s.expect(get)
	cs[2].e.Close(true) // gives up in the queue
	w.run(time.Millisecond)
	for _, i := range []int{0, 1, 3} {
		if i > 0 {
			s.expect(get)
		}
		s.send(ok)
		cs[i].expect(ok)
	}
	s.nothing(time.Second)
	w.noAccept()
}

// R8.1: who finds the queue full is answered with 503.
func TestFullQueue(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) { k.cfg.Limits.Conns, k.cfg.Limits.Waiting = 1, 1 })
	a, b, c := w.dial(), w.dial(), w.dial()
	a.send(get)
	s := w.accept()
	s.expect(get)
	b.send(get)
	c.send(get)
	if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 503 Service Unavailable\ncontent-length: 0") {
		t.Errorf("%q", h)
	}
	s.send(ok)
	a.expect(ok)
	s.expect(get)
	s.send(ok)
	b.expect(ok)
}

// R7.4: a per-try timeout ends its own attempt, not a backoff.
func TestPerTryTimeout(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, shapeOut, func(k *knobs) {
			k.net.Seed = seed
			k.policy.Timeouts.PerTry = time.Second
			k.policy.Retry = mesh.Retry{ConnectFailure: true, Attempts: 2}
		})
		c := w.dial()
		c.send(get)
		s := w.accept()
		s.expect(get)
		w.run(990 * time.Millisecond)
		s.e.Close(true) // a failure just before the timeout
		s = w.accept()
		s.expect(get)
		w.run(900 * time.Millisecond)
		w.noAccept()
		// R8.3
		if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 504 Gateway Timeout\ncontent-length: 0\ntulle-proxy-error: outbound service catalog.shop:80: endpoint 10.0.0.2:80: ") {
			t.Errorf("%q", h)
		}
		s.expectReset()
		if n := w.out.Counted().Timeouts[metrics.TimeoutTry]; n != 1 {
			t.Errorf("%d timeouts are counted", n)
		}
	}
}

// R7.4: a request whose time is over does not wait for its connection any more.
func TestRequestTimeoutWhileItWaitsForAConnection(t *testing.T) {
	for _, s := range []shape{shapeOut, shapeMesh} {
		w := newWorld(t, s, func(k *knobs) {
			k.policy.Timeouts.Request = 500 * time.Millisecond
			k.net = simnet.Config{Delay: 300 * time.Millisecond, Jitter: 1}
		})
		c := w.dial()
		c.send(get)
		if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 504 ") {
			t.Errorf("%q", h)
		}
		w.run(3 * time.Second) // the connection stands
		c.send(get)            // over it, and nothing else
		app := w.accept()
		app.expect(w.request(get))
		app.nothing(time.Millisecond)
		w.noAccept()
	}
}

// R7.4, R8.3: the request timeout counts from the request, over all attempts,
// and says so; what has begun is cut.
func TestRequestTimeout(t *testing.T) {
	w := newWorld(t, shapeOut, func(k *knobs) { k.policy.Timeouts.Request = 2 * time.Second })
	c := w.dial()
	c.send(get)
	s := w.accept()
	s.expect(get)
	c.nothing(1900 * time.Millisecond)
	if h := c.headOf(); h != "HTTP/1.1 504 Gateway Timeout\ncontent-length: 0\ntulle-proxy-error: outbound service catalog.shop:80: endpoint 10.0.0.2:80: request timeout" {
		t.Errorf("%q", h)
	}
	s.expectReset()
	c.send(get) // the client's connection goes on
	s = w.accept()
	s.expect(get)
	s.send("HTTP/1.1 200 OK\nContent-Length: 9\n\nok")
	c.expect("HTTP/1.1 200 OK\nContent-Length: 9\n\nok")
	w.run(3 * time.Second)
	if !c.eof && c.err == nil {
		t.Error("not cut")
	}
	s.expectReset()
}

// R7.1: what was never written goes to another endpoint whatever its method;
// R7.2: what was written does not, unless a policy asks for it.
func TestOnlyUnprocessedRequestsAreRepeated(t *testing.T) {
	dead := netip.MustParseAddrPort("10.0.0.2:81") // nobody listens
	w := newWorld(t, shapeOut, func(k *knobs) {
		k.rows = []mesh.Endpoint{{Addr: appAddr}, {Addr: dead}}
	})
	for range 6 {
		c := w.dial()
		c.send(post10 + "0123456789")
		s := w.accept()
		s.expect(post10 + "0123456789")
		s.e.Close(true)
		if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 502 Bad Gateway\n") {
			t.Fatalf("%q", h)
		}
		w.noAccept()
		c.e.Close(false)
		w.run(3 * time.Second)
	}
}

// R7.2: a status is retried where the policy names it, for idempotent methods,
// while the body can be sent again.
func TestStatusRetry(t *testing.T) {
	const unavailable = "HTTP/1.1 503 No\nContent-Length: 0\n\n"
	w := newWorld(t, shapeOut, func(k *knobs) { k.policy.Retry = mesh.Retry{Statuses: []int{503}} })
	put := "PUT / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello"
	c := w.dial()
	c.send(put)
	for i := range 3 {
		s := w.accept()
		s.expect(put)
		if i < 2 {
			s.send(unavailable)
			s.expectReset()
			continue
		}
		s.send(unavailable) // the last attempt's answer is passed on
	}
	c.expect(unavailable)

	t.Log("not idempotent")
	c.send(post10 + "0123456789")
	var s *conn
	for _, o := range w.open {
		if o.name == "server" && !o.eof && o.err == nil {
			s = o
		}
	}
	s.expect(post10 + "0123456789")
	s.send(unavailable)
	c.expect(unavailable)

	t.Log("too large to be kept")
	c.send("PUT / HTTP/1.1\nHost: a\nContent-Length: 100000\n\n" + strings.Repeat("x", 100_000))
	s.expect("PUT / HTTP/1.1\nHost: a\nContent-Length: 100000\n\n" + strings.Repeat("x", 100_000))
	s.send(unavailable)
	c.expect(unavailable)
	w.noAccept()
}

// R8.3: a connect timeout is 504.
func TestConnectTimeoutIsGatewayTimeout(t *testing.T) {
	w := newWorld(t, shapeOut, nil)
	w.net.OnDial(func(_ netip.Addr, to netip.AddrPort) simnet.Outcome {
		if to == appAddr {
			return simnet.Lost
		}
		return simnet.Normal
	})
	c := w.dial()
	c.send(get)
	w.run(10 * time.Second)
	if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 504 Gateway Timeout\n") || !strings.Contains(h, "connect timeout") {
		t.Errorf("%q", h)
	}
}
