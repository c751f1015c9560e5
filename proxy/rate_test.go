package proxy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// R8.6: what is over the rate is answered with 429 and Retry-After, and neither reaches the application nor is
// tried again; a second later there is room.
func TestRequestsOverTheRateAreAnswered(t *testing.T) {
	for _, shape := range []shape{shapeIn, shapeMesh} {
		w := newWorld(t, shape, func(k *knobs) { k.cfg.Limits.Rate = 2 })
		c := w.dial()
		var s *conn
		served := func() {
			t.Helper()
			c.send(get)
			if s == nil {
				s = w.accept()
			}
			s.expect(w.request(get))
			s.send(ok)
			c.expect(ok)
		}
		served()
		served()
		c.send(get)
		head := c.headOf()
		for _, want := range []string{"HTTP/1.1 429 ", "\nretry-after: 1", "\ncontent-length: 0"} {
			if !strings.Contains(head, want) {
				t.Errorf("%q lacks %q", head, want)
			}
		}
		s.nothing(100 * time.Millisecond)
		if n := w.in.Counted().Refused[metrics.RefusedRate]; n != 1 {
			t.Errorf("%d refused, want 1", n)
		}
		w.run(time.Second)
		served()
	}
}

// R8.6: a gRPC client hears RESOURCE_EXHAUSTED, and when to come again.
func TestGRPCOverTheRateIsAnswered(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) { k.cfg.Limits.Rate = 1 })
	c := w.dial().http2(true)
	const call = ":method: POST\n:scheme: http\n:authority: a\n:path: /a.B/C\ncontent-type: application/grpc\nte: trailers"
	c.head(1, true, call)
	w.accept()
	c.head(3, true, call)
	c.expectFrame("HEADERS 3 END :status: 200; content-type: application/grpc; grpc-status: 8; grpc-retry-pushback-ms: 1000;")
}

// What the policy denies is not counted against the rate.
func TestWhatIsDeniedCostsNoRate(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) {
		k.cfg.Limits.Rate = 1
		k.inbound = &mesh.InboundPolicy{Default: mesh.DefaultDeny}
	})
	c := w.dial()
	for range 3 {
		c.send(get)
		if head := c.headOf(); !strings.HasPrefix(head, "HTTP/1.1 403 ") {
			t.Fatalf("answered with %q", head)
		}
	}
}
