package proxy_test

import (
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// R11.2: a peer whom nobody told of the proxy's end hears of it first: the process goes on until the peer has left, and what
// was on its way is served. A client of HTTP/1 that stands idle is not waited for.
func TestTheProxyExitsWhenItsPeersHaveLeft(t *testing.T) {
	w := newWorld(t, shapeMesh, func(k *knobs) { k.net = simnet.Config{Delay: 100 * time.Millisecond} })
	mayExit := func(after time.Duration) bool {
		t.Helper()
		n := -1
		w.in.AskBusy(func(sum int) { n = sum })
		w.run(time.Millisecond)
		return w.in.MayExit(after+3*time.Second, n) // the lame-duck period is over
	}
	c, s := w.warm()
	if !mayExit(0) {
		t.Error("an idle hop is something that goes on")
	}
	w.in.Drain()
	w.run(50 * time.Millisecond)
	c.send(get) // the GOAWAY is under way to it
	if mayExit(50 * time.Millisecond) {
		t.Error("the proxy may exit while what its peer sends is under way")
	}
	s.expect(w.request(get))
	s.send(ok)
	c.expect(ok)
	w.run(time.Second)
	if !mayExit(time.Second) {
		t.Error("the peer has left, and is waited for")
	}
}

func TestAnIdleClientDoesNotKeepTheProxy(t *testing.T) {
	w := newWorld(t, shapeIn, nil)
	c := w.dial()
	c.send(get)
	w.accept().send(ok)
	c.expect(ok)
	w.in.Drain()
	n := -1
	w.in.AskBusy(func(sum int) { n = sum })
	w.run(time.Millisecond)
	if n != 0 {
		t.Errorf("%d things go on", n)
	}
}
