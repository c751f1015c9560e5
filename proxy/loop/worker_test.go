package loop_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// log is a handler, task, flusher and timer handler that writes down its calls.
type log struct {
	lines []string
	on    func(what string)
	timer loop.Timer
}

func (l *log) add(what string) {
	l.lines = append(l.lines, what)
	if l.on != nil {
		l.on(what)
	}
}

func (l *log) Ready(loop.Ready)               { l.add("event") }
func (l *log) Run()                           { l.add("task") }
func (l *log) Flush()                         { l.add("flush") }
func (l *log) Expired(_ *loop.Timer, k uint8) { l.add(fmt.Sprintf("timer %d", k)) }

func (l *log) want(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(l.lines, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	l.lines = nil
}

// newWorker returns a worker that its test turns by hand.
func newWorker() *loop.Worker {
	w := simnet.New(simnet.Config{Seed: 1})
	return loop.NewWorker(w.Host(loopback).NewPoller(), loop.Config{Rand: rand.New(rand.NewPCG(1, 1))})
}

func TestATurnGoesEventsPostsTimersTasksFlushReap(t *testing.T) {
	w, l := newWorker(), &log{}
	now := w.Now()
	token := w.Register(l)
	w.Reap(func() { l.add("reap") })
	w.FlushLater(l)
	w.Soon(l)
	w.Arm(&l.timer, now, l, 3)
	w.Post(func() { l.add("post") })
	w.Turn(now.Add(2*time.Millisecond), []loop.Ready{{Token: token, In: true}})
	l.want(t, "event, post, timer 3, task, flush, reap")
	if w.NextDeadline() != 0 {
		t.Error("a deadline with nothing to do")
	}
	w.Turn(now.Add(3*time.Millisecond), nil)
	l.want(t, "")
}

func TestWhatAPhaseAddsToItselfWaitsForTheNextTurn(t *testing.T) {
	w, l := newWorker(), &log{}
	now := w.Now()
	l.on = func(what string) {
		l.on = nil
		switch what {
		case "task":
			w.Soon(l)
		case "flush":
			w.FlushLater(l)
			w.Soon(l)
		}
	}
	w.Soon(l)
	w.Turn(now, nil)
	l.want(t, "task")
	if w.NextDeadline() != now {
		t.Error("the next turn is not due at once")
	}
	w.Turn(now, nil)
	l.want(t, "task")

	l.on = func(string) { l.on = nil; w.FlushLater(l); w.Soon(l); w.Reap(func() { l.add("reap") }) }
	w.FlushLater(l)
	w.Turn(now, nil)
	l.want(t, "flush, reap")
	w.Turn(now, nil)
	l.want(t, "task, flush")
}

func TestAtMost64PostsRunInATurnInOrder(t *testing.T) {
	w := newWorker()
	var got []int
	for i := range 200 {
		w.Post(func() { got = append(got, i) })
	}
	for turn, want := range []int{64, 128, 192, 201} {
		if turn == 3 {
			w.Post(func() { got = append(got, 200) }) // behind those that wait
		}
		w.Turn(w.Now(), nil)
		if len(got) != want || !slices.IsSorted(got) {
			t.Fatalf("turn %d: %d posts, sorted %v", turn, len(got), slices.IsSorted(got))
		}
		if due := w.NextDeadline() != 0; due != (want < 200) {
			t.Errorf("turn %d: due at once: %v", turn, due)
		}
	}
}

func TestEventsForWhatIsGoneReachNobody(t *testing.T) {
	w, old, young := newWorker(), &log{}, &log{}
	first := w.Register(old)
	w.Unregister(first)
	w.Unregister(first)
	second := w.Register(young)
	if uint32(first) != uint32(second) {
		t.Fatal("the index was not used again: the test proves nothing")
	}
	w.Turn(w.Now(), []loop.Ready{{Token: first, In: true}, {Token: 0, In: true}, {Token: 1 << 40, Err: true}})
	old.want(t, "")
	young.want(t, "")
	if w.Counters().Stale != 3 {
		t.Errorf("%d stale events counted", w.Counters().Stale)
	}
	if w.Handler(first) != nil || w.Handler(second) != young {
		t.Error("Handler does not tell the old from the new")
	}
	// Also within one batch: the first event ends the second's handler.
	young.on = func(string) { w.Unregister(second) }
	w.Turn(w.Now(), []loop.Ready{{Token: second, In: true}, {Token: second, Err: true}})
	young.want(t, "event")
}

func TestACancelledTimerOfTheSameTickDoesNotExpire(t *testing.T) {
	w, a, b := newWorker(), &log{}, &log{}
	at := w.Now().Add(5 * time.Millisecond)
	w.Arm(&a.timer, at, a, 1)
	w.Arm(&b.timer, at, b, 2)
	a.on = func(string) { w.Cancel(&b.timer); w.Arm(&a.timer, at, a, 4) }
	b.on = a.on
	w.Turn(at.Add(time.Millisecond), nil)
	a.want(t, "timer 1")
	b.want(t, "")
	if !a.timer.Armed() || b.timer.Armed() {
		t.Error("what the handler armed and cancelled did not hold")
	}
	a.on = nil
	w.Turn(w.NextDeadline(), nil)
	a.want(t, "timer 4")
}

// pollers are the ones that run a worker for real.
func pollers(t *testing.T, f func(t *testing.T, p loop.Poller)) {
	for _, m := range makers() {
		if strings.HasPrefix(m.name, "simulated") {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			p, _ := m.make(t)
			f(t, p)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPostsFromManyGoroutinesAllRunAndNoneAfterStop(t *testing.T) {
	pollers(t, func(t *testing.T, p loop.Poller) {
		w := loop.NewWorker(p, loop.Config{})
		ended := make(chan struct{})
		go func() { w.Run(); close(ended) }()
		var accepted, ran atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 2000 {
					if w.Post(func() { ran.Add(1) }) {
						accepted.Add(1)
					}
					if i%100 == 0 {
						// Once in a while wait for the answer: the worker may be parked.
						answer := make(chan struct{})
						if w.Post(func() { close(answer) }) {
							<-answer
						}
					}
				}
			})
		}
		wg.Wait()
		w.Stop()
		<-ended
		if accepted.Load() != 16000 || ran.Load() != accepted.Load() {
			t.Errorf("%d accepted, %d ran", accepted.Load(), ran.Load())
		}
		if w.Post(func() { t.Error("ran after the end") }) {
			t.Error("a stopped worker accepted a post")
		}
	})
}

func TestAPostWakesAParkedWorker(t *testing.T) {
	pollers(t, func(t *testing.T, p loop.Poller) {
		w := loop.NewWorker(p, loop.Config{})
		ended := make(chan struct{})
		go func() { w.Run(); close(ended) }()
		for i := range 20 {
			//house:sleep within the hold and beyond it; any length is correct
			time.Sleep(time.Duration(i%4) * 300 * time.Microsecond) // within the hold, and beyond
			answer := make(chan struct{})
			w.Post(func() { close(answer) })
			select {
			case <-answer:
			case <-time.After(5 * time.Second):
				t.Fatal("a post was not run")
			}
		}
		w.Stop()
		<-ended
	})
}

func TestStopBeforeRun(t *testing.T) {
	pollers(t, func(_ *testing.T, p loop.Poller) {
		w := loop.NewWorker(p, loop.Config{})
		w.Stop()
		w.Run()
	})
}

func TestOffloadedStepsAreBoundedAndRunDoneOnTheWorker(t *testing.T) {
	pollers(t, func(t *testing.T, p loop.Poller) {
		const limit, steps = 3, 50
		w := loop.NewWorker(p, loop.Config{Steps: loop.NewSteps(limit)})
		var running, most, ran atomic.Int64
		done := 0 // the worker's alone: -race would tell
		w.Post(func() {
			for range steps {
				w.Offload(func() {
					n := running.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(time.Millisecond) //house:sleep so that steps overlap
					running.Add(-1)
					ran.Add(1)
				}, func() {
					if done++; done == steps/2 {
						w.Stop() // Run still waits for the others
					}
				})
			}
		})
		w.Run()
		if done != steps || ran.Load() != steps {
			t.Errorf("%d steps ran, %d were done", ran.Load(), done)
		}
		if most.Load() > limit {
			t.Errorf("%d steps at once, the limit is %d", most.Load(), limit)
		}
	})
}

func TestATimerOfARunningWorkerExpiresInTime(t *testing.T) {
	pollers(t, func(t *testing.T, p loop.Poller) {
		w := loop.NewWorker(p, loop.Config{})
		l := &log{}
		var late []time.Duration
		at := p.Now()
		l.on = func(string) {
			late = append(late, p.Now().Sub(at))
			if len(late) == 10 {
				w.Stop()
				return
			}
			at = w.Now().Add(time.Duration(len(late)) * 700 * time.Microsecond)
			w.Arm(&l.timer, at, l, 0)
		}
		w.Arm(&l.timer, at, l, 0)
		w.Run()
		for i, d := range late[1:] {
			if d < 0 || d > time.Second {
				t.Errorf("timer %d: %s late", i+1, d)
			}
		}
		if n := w.Counters().Turns; n > 60 {
			t.Errorf("%d turns for 10 timers", n)
		}
	})
}

// noop is what an allocation-free owner looks like.
type noop struct{ timer loop.Timer }

func (*noop) Ready(loop.Ready)           {}
func (*noop) Run()                       {}
func (*noop) Flush()                     {}
func (*noop) Expired(*loop.Timer, uint8) {}

func TestATurnAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("allocation ceilings do not hold under -race")
	}
	w := newWorker()
	owners := make([]noop, 100)
	ready := make([]loop.Ready, len(owners))
	for i := range owners {
		ready[i] = loop.Ready{Token: w.Register(&owners[i]), In: true}
	}
	post := func() {}
	now := w.Now()
	turn := func() {
		now = now.Add(time.Millisecond)
		for i := range owners {
			o := &owners[i]
			w.Arm(&o.timer, now.Add(time.Duration(i)*300*time.Microsecond), o, 1)
			w.Soon(o)
			w.FlushLater(o)
			w.Reap(post)
		}
		w.Post(post)
		w.Turn(now, ready)
		w.NextDeadline()
	}
	turn()
	turn()
	if n := testing.AllocsPerRun(200, turn); n > 0 {
		t.Errorf("%v allocations a turn", n)
	}
}

func TestBusyShareIsThatOfTheTimeInTurns(t *testing.T) {
	const times = 160 // over more than one window of a second
	for _, c := range []struct {
		spin time.Duration // of every 20 ms
		want float64
	}{{0, 0}, {5 * time.Millisecond, 0.25}, {10 * time.Millisecond, 0.5}, {18 * time.Millisecond, 0.9}} {
		p := &clock{Poller: simnet.New(simnet.Config{Seed: 1}).Host(loopback).NewPoller(), now: 1}
		w := loop.NewWorker(p, loop.Config{})
		s := &spinner{w: w, left: times, every: 20 * time.Millisecond, spin: func() { p.now = p.now.Add(c.spin) }}
		w.Arm(&s.timer, p.now, s, 0)
		w.Run()
		if got := w.BusyShare(); got < c.want-0.01 || got > c.want+0.01 {
			t.Errorf("busy share %v of a worker that is busy %s of every 20 ms", got, c.spin)
		}
		// Up to a millisecond of waiting is added where the wheel rounds the first timer up.
		n := w.Counters()
		if all := (times-1)*20*time.Millisecond + c.spin; n.Busy != times*c.spin || n.Busy+n.Waiting < all || n.Busy+n.Waiting > all+time.Millisecond {
			t.Errorf("%s busy and %s waiting after %d times %s of every 20 ms", n.Busy, n.Waiting, times, c.spin)
		}
		if n.Turns < times || n.Timers != times {
			t.Errorf("%d turns and %d timers, want %d of each", n.Turns, n.Timers, times)
		}
	}
}

func TestTimeInTurnsIsBusyAndTimeInWaitIsNot(t *testing.T) {
	pollers(t, func(t *testing.T, p loop.Poller) {
		w := loop.NewWorker(p, loop.Config{})
		var spun, waited time.Duration // seen from inside a turn: at most, and at least, what the worker counts
		start := p.Now()
		last := start
		s := &spinner{w: w, left: 10, every: 20 * time.Millisecond}
		s.spin = func() {
			from := p.Now()
			waited += w.Now().Sub(last)
			for last = from; last.Sub(from) < 15*time.Millisecond; last = p.Now() {
			}
			spun += last.Sub(from)
		}
		w.Arm(&s.timer, start.Add(5*time.Millisecond), s, 0)
		w.Run()
		all := p.Now().Sub(start)
		c := w.Counters()
		if c.Busy < spun || c.Busy+c.Waiting > all {
			t.Errorf("%s busy and %s waiting of %s in all, of which %s in turns", c.Busy, c.Waiting, all, spun)
		}
		if c.Waiting <= 0 || c.Waiting > waited {
			t.Errorf("%s waiting, with %s between turns", c.Waiting, waited)
		}
	})
}

// clock is a poller whose time goes on in Wait, up to the deadline, and where its test says so.
type clock struct {
	loop.Poller
	now mono.Time
}

func (c *clock) Now() mono.Time { return c.now }

func (c *clock) Wait(dst []loop.Ready, deadline mono.Time) []loop.Ready {
	c.now = max(c.now, deadline)
	return dst
}

// spinner calls spin every so often, in a turn, until none is left.
type spinner struct {
	w     *loop.Worker
	timer loop.Timer
	left  int
	every time.Duration
	spin  func()
}

func (s *spinner) Expired(*loop.Timer, uint8) {
	s.spin()
	if s.left--; s.left == 0 {
		s.w.Stop()
		return
	}
	s.w.Arm(&s.timer, s.w.Now().Add(s.every), s, 0)
}
