package simnet_test

import (
	"bytes"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

func calm(seed uint64) *simnet.World { return simnet.New(simnet.Config{Seed: seed}) }

// pod is a host with a proxy at 4143 and 4140, redirected, and an application.
func TestRedirectsLeadToTheProxyAndKeepTheOriginalDestination(t *testing.T) { // R1.2
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	echo(b, 8080)
	out := startRelay(a, 4140, at("10.0.0.2", 8080))
	in := startRelay(b, 4143, at("10.0.0.2", 8080)) // its own dials are not redirected
	a.RedirectOut(4140)
	b.RedirectIn(4143, 4190)

	c := &client{}
	e := c.dial(a, at("10.0.0.2", 8080), []byte("hello"))
	w.Run(w.Now().Add(time.Second))
	if string(c.got) != "hello" || !c.eof {
		t.Fatalf("got %q, eof %v, %v", c.got, c.eof, c.err)
	}
	if e.Remote() != at("10.0.0.2", 8080) {
		t.Errorf("the client sees %s", e.Remote())
	}
	for name, r := range map[string]*relay{"outbound": out, "inbound": in} {
		if len(r.accepted) != 1 {
			t.Fatalf("%s accepted %d connections", name, len(r.accepted))
		}
		if got := r.accepted[0].OriginalDst; got != at("10.0.0.2", 8080) {
			t.Errorf("%s: OriginalDst = %s", name, got)
		}
	}
	if got := in.accepted[0].Local; got != at("10.0.0.2", 4143) {
		t.Errorf("inbound: Local = %s", got)
	}
	if got := in.accepted[0].Remote.Addr(); got != a.IP() {
		t.Errorf("inbound: Remote = %s", got)
	}

	// Exempt ports, the own loopback and direct dials are left alone.
	echo(b, 4190)
	for name, dial := range map[string]func(cb simnet.Callbacks){
		"exempt": func(cb simnet.Callbacks) { a.DialDirect(at("10.0.0.2", 4190), cb) },
		"local":  func(cb simnet.Callbacks) { b.Dial(at("10.0.0.2", 8080), cb) },
	} {
		ok := false
		dial(simnet.Callbacks{Connected: func(*simnet.Endpoint) { ok = true }})
		w.Run(w.Now().Add(time.Second))
		if !ok || len(in.accepted) != 1 {
			t.Errorf("%s: connected %v, inbound proxy saw %d", name, ok, len(in.accepted))
		}
	}
}

func TestAnotherHostsLoopbackCannotBeReached(t *testing.T) { // R1.3
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	if _, err := b.Listen(at("127.0.0.1", 80), nil); err != nil {
		t.Fatal(err)
	}
	if err := dialError(w, a, at("10.0.0.2", 80)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("from outside: %v", err)
	}
	if err := dialError(w, a, at("127.0.0.1", 80)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("own loopback: %v", err)
	}
}

// dialError is how a connect of an endpoint of h ends, nil when it succeeds.
func dialError(w *simnet.World, h *simnet.Host, to netip.AddrPort) (err error) {
	done := false
	h.Dial(to, simnet.Callbacks{
		Connected: func(*simnet.Endpoint) { done = true },
		Failed:    func(_ *simnet.Endpoint, e error) { done, err = true, e },
	})
	if !w.RunUntil(w.Now().Add(10*time.Minute), func() bool { return done }) {
		return errors.New("no outcome")
	}
	return err
}

func TestConnectsEndAsTheScriptSays(t *testing.T) {
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	echo(b, 80)
	for _, c := range []struct {
		outcome simnet.Outcome
		want    error
		after   time.Duration
	}{
		{simnet.Normal, nil, 0},
		{simnet.Refused, syscall.ECONNREFUSED, 0},
		{simnet.Unreachable, syscall.EHOSTUNREACH, 0},
		{simnet.Lost, syscall.ETIMEDOUT, 127 * time.Second},
	} {
		w.OnDial(func(from netip.Addr, to netip.AddrPort) simnet.Outcome {
			if from != a.IP() || to != at("10.0.0.2", 80) {
				t.Errorf("asked about %s to %s", from, to)
			}
			return c.outcome
		})
		start := w.Now()
		if err := dialError(w, a, at("10.0.0.2", 80)); !errors.Is(err, c.want) {
			t.Errorf("outcome %d: %v, want %v", c.outcome, err, c.want)
		}
		if d := w.Now().Sub(start); d < c.after {
			t.Errorf("outcome %d after %s, want %s", c.outcome, d, c.after)
		}
	}
	w.OnDial(nil)
	if err := dialError(w, a, at("10.9.9.9", 80)); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("a host that is not there: %v", err)
	}
	b.Off()
	if err := dialError(w, a, at("10.0.0.2", 80)); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("a host that is off: %v", err)
	}
}

func TestAKilledProcessClosesAllItHad(t *testing.T) {
	w := calm(1)
	app, proxy, server := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2")), w.Host(addr("10.0.0.3"))
	echo(server, 80)
	p := startRelay(proxy, 4140, at("10.0.0.3", 80))
	var eof bool
	var failed error
	app.Dial(at("10.0.0.2", 4140), simnet.Callbacks{
		EOF:    func(*simnet.Endpoint) { eof = true },
		Failed: func(_ *simnet.Endpoint, err error) { failed = err },
	})
	w.Run(w.Now().Add(time.Second))
	if err := p.w.Poller().Close(); err != nil {
		t.Fatal(err)
	}
	w.Run(w.Now().Add(time.Second))
	if !eof || failed != nil {
		t.Errorf("eof %v, %v; want a FIN", eof, failed)
	}
	if err := dialError(w, app, at("10.0.0.2", 4140)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after the kill: %v", err)
	}
	if !w.Idle() {
		t.Error("a killed worker still has something to do")
	}
}

func TestResetsReachBothEnds(t *testing.T) {
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	var server, dialler error
	if _, err := b.Listen(at("0.0.0.0", 80), func(*simnet.Endpoint, loop.Accepted) simnet.Callbacks {
		return simnet.Callbacks{Failed: func(_ *simnet.Endpoint, err error) { server = err }}
	}); err != nil {
		t.Fatal(err)
	}
	if w.ResetAny() {
		t.Error("reset something where there is nothing")
	}
	a.Dial(at("10.0.0.2", 80), simnet.Callbacks{Failed: func(_ *simnet.Endpoint, err error) { dialler = err }})
	w.Run(w.Now().Add(time.Second))
	if n := w.ResetWhere(func(_, to netip.AddrPort) bool { return to.Port() == 81 }); n != 0 {
		t.Errorf("reset %d connections to another port", n)
	}
	if !w.ResetAny() {
		t.Fatal("nothing to reset")
	}
	w.Run(w.Now().Add(time.Second))
	if !errors.Is(server, syscall.ECONNRESET) || !errors.Is(dialler, syscall.ECONNRESET) {
		t.Errorf("server: %v, dialler: %v", server, dialler)
	}
}

func TestAPartitionDelaysAndNothingIsLost(t *testing.T) {
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	echo(b, 80)
	c := &client{}
	c.dial(a, at("10.0.0.2", 80), pattern(100000, 3))
	w.Run(w.Now().Add(300 * time.Microsecond))
	w.Partition(a, b, 5*time.Second)
	w.Run(w.Now().Add(4 * time.Second))
	if c.eof {
		t.Error("everything crossed a partition")
	}
	w.Run(w.Now().Add(10 * time.Second))
	if !c.eof || !bytes.Equal(c.got, pattern(100000, 3)) {
		t.Errorf("after it: %d bytes, eof %v, %v", len(c.got), c.eof, c.err)
	}
}

func TestAHostThatIsOffIsLearntOfByKeepAliveAlone(t *testing.T) { // R1.1
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	echo(b, 80)
	var failed error
	e := a.Dial(at("10.0.0.2", 80), simnet.Callbacks{Failed: func(_ *simnet.Endpoint, err error) { failed = err }})
	w.Run(w.Now().Add(time.Second))
	b.Off()
	e.Write([]byte("anybody?"))
	w.Run(w.Now().Add(90 * time.Second))
	if failed != nil {
		t.Fatalf("learnt too early: %v", failed)
	}
	w.Run(w.Now().Add(20 * time.Second))
	if !errors.Is(failed, syscall.ETIMEDOUT) {
		t.Errorf("got %v", failed)
	}
}

func TestAReaderThatStopsStopsItsWriter(t *testing.T) { // R4.2
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	var server *simnet.Endpoint
	var got []byte
	if _, err := b.Listen(at("10.0.0.2", 80), func(e *simnet.Endpoint, _ loop.Accepted) simnet.Callbacks {
		server = e
		e.Pause()
		return simnet.Callbacks{Data: func(_ *simnet.Endpoint, p []byte) { got = append(got, p...) }}
	}); err != nil {
		t.Fatal(err)
	}
	drained := false
	e := a.Dial(at("10.0.0.2", 80), simnet.Callbacks{Drained: func(*simnet.Endpoint) { drained = true }})
	data := pattern(1<<20, 0)
	e.Write(data)
	w.Run(w.Now().Add(time.Minute))
	if want := 1<<20 - 128<<10; e.Buffered() != want || len(got) > 0 || drained {
		t.Fatalf("%d bytes buffered, want %d beyond both buffers; %d read", e.Buffered(), want, len(got))
	}
	server.Resume()
	w.Run(w.Now().Add(time.Minute))
	if !bytes.Equal(got, data) || !drained {
		t.Errorf("%d bytes after resuming", len(got))
	}
}

func TestFailedAcceptsEndNothing(t *testing.T) { // R1.1
	w := calm(1)
	app, proxy, server := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2")), w.Host(addr("10.0.0.3"))
	echo(server, 80)
	r := startRelay(proxy, 4140, at("10.0.0.3", 80))
	r.w.Poller().(*simnet.Poller).FailAccepts(3, syscall.EMFILE)
	c := &client{}
	c.dial(app, at("10.0.0.2", 4140), []byte("late"))
	w.Run(w.Now().Add(time.Second))
	if string(c.got) != "late" || w.Stats().FailedAccepts != 3 {
		t.Errorf("got %q after %d failed accepts", c.got, w.Stats().FailedAccepts)
	}
	if n := w.Stats().Turns; n > 100 {
		t.Errorf("%d turns: it spins", n)
	}
}

func TestAFullBacklogDelaysConnects(t *testing.T) {
	w := calm(1)
	a, b := w.Host(addr("10.0.0.1")), w.Host(addr("10.0.0.2"))
	p := b.NewPoller()
	l, err := p.Listen(at("10.0.0.2", 80), loop.ListenOptions{Backlog: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	connected := 0
	for range 2 {
		a.Dial(at("10.0.0.2", 80), simnet.Callbacks{Connected: func(*simnet.Endpoint) { connected++ }})
	}
	w.Run(w.Now().Add(500 * time.Millisecond))
	if connected != 1 || w.Stats().BacklogFull == 0 {
		t.Fatalf("%d connected with a backlog of one", connected)
	}
	if _, _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	w.Run(w.Now().Add(2 * time.Second))
	if connected != 2 {
		t.Errorf("%d connected after the backlog had room", connected)
	}
}

func TestListenConflicts(t *testing.T) {
	w := calm(1)
	h := w.Host(addr("10.0.0.1"))
	p := h.NewPoller()
	listen := func(addr netip.AddrPort, reuse bool) error {
		_, err := p.Listen(addr, loop.ListenOptions{ReusePort: reuse}, 1)
		return err
	}
	if err := listen(at("10.0.0.1", 80), true); err != nil {
		t.Fatal(err)
	}
	if err := listen(at("10.0.0.1", 80), true); err != nil {
		t.Errorf("with ReusePort: %v", err)
	}
	if err := listen(at("0.0.0.0", 80), false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same port: %v", err)
	}
	if err := listen(at("10.0.0.2", 80), false); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("another host's address: %v", err)
	}
}

func TestTimersRunInOrderAndCanBeStopped(t *testing.T) {
	w := calm(1)
	var order []int
	start := w.Now()
	w.After(3*time.Millisecond, func() { order = append(order, 3) })
	w.After(time.Millisecond, func() {
		order = append(order, 1)
		w.At(0, func() { order = append(order, 2) }) // passed: at once
	})
	stopped := w.After(2*time.Millisecond, func() { t.Error("a stopped timer ran") })
	stopped.Stop()
	w.Run(start.Add(10 * time.Millisecond))
	if len(order) != 3 || order[0] != 1 || order[1] != 2 || order[2] != 3 {
		t.Errorf("order %v", order)
	}
	if w.Now() != start.Add(10*time.Millisecond) {
		t.Errorf("the clock stands at %s", w.Now().Sub(start))
	}
}

func TestWorkersTimersAndPostsRunInSimulatedTime(t *testing.T) {
	w := calm(1)
	h := w.Host(addr("10.0.0.1"))
	p := h.NewPoller()
	wk := loop.NewWorker(p, loop.Config{Rand: w.NewRand()})
	w.Drive(p, wk)
	e := &expiry{}
	w.Run(w.Now().Add(time.Millisecond))
	start := w.Now()
	stepped, done := false, false
	wk.Post(func() {
		wk.Arm(&e.t, wk.Now().Add(90*time.Second), e, 7)
		wk.Offload(func() { stepped = true }, func() { done = true })
	})
	w.Run(start.Add(time.Second))
	if !stepped || !done {
		t.Errorf("offloaded: stepped %v, done %v", stepped, done)
	}
	turns := w.Stats().Turns
	w.Run(start.Add(80 * time.Second))
	if n := w.Stats().Turns - turns; n != 0 {
		t.Errorf("%d turns while nothing happened", n)
	}
	w.Run(start.Add(91 * time.Second))
	if e.kind != 7 {
		t.Error("the timer did not expire")
	}
	if !w.Idle() {
		t.Error("not idle")
	}
}

type expiry struct {
	t    loop.Timer
	kind uint8
}

func (e *expiry) Expired(_ *loop.Timer, kind uint8) { e.kind = kind }
