package proxy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// R6.5, R11.4: two queues wait for news of one target, connections to be resolved and requests for an
// endpoint, each for its own time.
func TestEachQueueWaitsForItsOwnTime(t *testing.T) {
	v2 := mesh.NameTarget("catalog-v2.shop", 80)
	direct := meshtest.Addr("127.0.0.1:9002")
	w := newWorld(t, shapeOut, func(k *knobs) {
		k.cfg.Timeouts.Endpoint = 200 * time.Millisecond
		k.policy.Routes = []mesh.Route{{Name: "shop/split", Backends: []mesh.Backend{{Target: v2, Weight: 1}}}}
		k.upstreams = []proxy.Upstream{{Listen: direct, Target: v2}}
	})
	parked := w.dialAt(direct)
	parked.send(get)
	c := w.dial()
	c.send(get)
	c.nothing(150 * time.Millisecond)
	w.run(100 * time.Millisecond)
	c.expect("HTTP/1.1 503 Service Unavailable\n")
	parked.nothing(700 * time.Millisecond)
	w.run(100 * time.Millisecond)
	parked.expectReset()
	if n := w.out.Counted().Timeouts[metrics.TimeoutResolve]; n != 2 {
		t.Errorf("%d timeouts are counted", n)
	}
}

// R6.4, R6.5: nobody waits while there is an endpoint, be it an ejected one: when the last one in
// service leaves, one that was out is back at once.
func TestNobodyWaitsForAnEjectedEndpoint(t *testing.T) {
	well := mesh.Endpoint{Addr: meshtest.Addr("10.0.0.3:80")}
	w := newWorld(t, shapeOut, func(k *knobs) { k.rows = []mesh.Endpoint{well, {Addr: appAddr}} })
	_, err := w.net.Host(well.Addr.Addr()).Listen(well.Addr, func(e *simnet.Endpoint, _ loop.Accepted) simnet.Callbacks {
		w.open = append(w.open, &conn{w: w, e: e})
		return simnet.Callbacks{Data: func(e *simnet.Endpoint, _ []byte) { e.Write([]byte(crlf(ok))) }}
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		c := w.dial()
		c.send(get)
		w.run(time.Second) // failures count as slow: it is asked every few seconds
		for _, s := range w.accepted {
			s.e.Close(true)
		}
		w.accepted = nil
		c.e.Close(false)
	}
	if got := w.series("circuit_open_total"); !strings.Contains(strings.Join(got, ""), "counter:{value:1}") {
		t.Fatalf("ejections: %q, want one", got)
	}
	w.outD.Set(target, &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80}, mesh.Endpoint{Addr: appAddr})
	before := w.net.Now()
	c := w.dial()
	c.send(get)
	s := w.accept()
	s.expect(get)
	s.send(ok)
	c.expect(ok)
	if d := w.net.Now().Sub(before); d > 100*time.Millisecond {
		t.Errorf("it waited for %v", d)
	}
}

// R11.1: connections that come before the first inbound policy wait for it, and cost nobody a retry.
func TestTheFirstPolicyIsWaitedFor(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.late = true })
	var all []*conn
	for range 20 { // more than a budget of retries holds
		c := w.dial()
		c.send(get)
		all = append(all, c)
	}
	gone := w.dial()
	gone.send(get)
	w.run(500 * time.Millisecond)
	gone.e.Close(true)
	w.noAccept()
	w.inD.Attach(w.in)
	for range all {
		s := w.accept()
		s.expect(w.request(get))
		s.send(ok)
	}
	for _, c := range all {
		c.expect(ok)
	}
	for _, s := range w.series("retry_total") {
		if !strings.Contains(s, "counter:{value:0}") {
			t.Errorf("a retry: %s", s)
		}
	}
}

// R11.1: the wait is bounded: who has waited for a second hears that nothing was decided.
func TestTheFirstPolicyIsNotWaitedForForEver(t *testing.T) {
	w := newWorld(t, shapeIn, func(k *knobs) { k.late = true })
	a := w.dial()
	a.send(get)
	w.run(600 * time.Millisecond)
	b := w.dial()
	b.send(get)
	a.nothing(300 * time.Millisecond)
	w.run(150 * time.Millisecond)
	a.expect("HTTP/1.1 503 Service Unavailable\n")
	b.nothing(400 * time.Millisecond)
	w.run(200 * time.Millisecond)
	b.expect("HTTP/1.1 503 Service Unavailable\n")
	w.noAccept()
	w.inD.Attach(w.in)
	c := w.dial()
	c.send(get)
	s := w.accept()
	s.expect(get)
}

// R11.4: what discovery said holds for 24 hours without its stream; then the target is as one that was
// never resolved, until the stream is back.
func TestWhatIsKnownHoldsForADay(t *testing.T) {
	w := newWorld(t, shapeOut, nil)
	served := func() {
		t.Helper()
		c := w.dial()
		c.send(get)
		s := w.accept()
		s.expect(get)
		s.send(ok)
		c.expect(ok)
		c.e.Close(false)
	}
	w.outD.Lose()
	w.run(23*time.Hour + 59*time.Minute)
	served()
	w.run(2 * time.Minute)
	c := w.dial()
	c.send(get)
	c.nothing(900 * time.Millisecond)
	w.run(200 * time.Millisecond)
	c.expectReset()
	w.noAccept()
	w.outD.Attach(w.out)
	served()

	w.outD.Lose() // the day begins anew
	w.run(23 * time.Hour)
	served()
}

// R2.5: where a silent client may be a peer whose ClientHello is late, the application is not connected
// to before a second is over. After ten minutes without a peer, silence is the server's cue again.
func TestALateClientHelloIsWaitedFor(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	silent := w.dial()
	w.run(800 * time.Millisecond)
	w.noAccept()
	w.run(200 * time.Millisecond)
	w.accept().send("220 banner\n")
	silent.expect("220 banner\n")

	w.run(11 * time.Minute)
	silent = w.dial()
	w.run(20 * time.Millisecond)
	w.accept().send("220 banner\n")
	silent.expect("220 banner\n")
}
