package loop

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// maxPosts is how many posted functions run in one turn, so that a flood of
// them delays traffic by little.
const maxPosts = 64

// Handler is told what is ready under the token it was registered for.
type Handler interface {
	Ready(r Ready)
}

// Task runs once, in the task phase of a turn.
type Task interface {
	Run()
}

// Flusher writes out, in the flush phase of a turn, what the turn has gathered.
type Flusher interface {
	Flush()
}

// Config of a Worker.
type Config struct {
	// Rand is the worker's randomness; nil for one seeded by the runtime.
	Rand *rand.Rand
	// Pool is the worker's memory; nil for one without a budget.
	Pool *slab.Pool
	// Steps runs offloaded work; nil for Inline.
	Steps StepRunner
}

// Counters of a worker, plain fields that only its goroutine reads.
type Counters struct {
	Turns, Events, Posts, Timers, Tasks, Flushes uint64
	// Stale events were for handlers that were gone.
	Stale uint64
	// Busy is the time spent in turns, Waiting that between them.
	Busy, Waiting time.Duration
}

type slot struct {
	h          Handler
	generation uint32
}

// Worker is one thread of control; see the package comment. All methods but
// Post and Stop belong to its goroutine (before Run: to its creator).
type Worker struct {
	// Immutable.
	poller Poller
	rand   *rand.Rand
	pool   *slab.Pool
	steps  StepRunner

	// Owned by the worker's goroutine.
	now       mono.Time
	slots     []slot // slots[0] is never used
	free      []uint32
	wheel     wheel
	tasks     phase[Task]
	flushers  phase[Flusher]
	reaps     phase[func()]
	running   []func() // posts taken over from posted
	ran       int      // how many of running have run
	offloaded int
	counters  Counters
	busy      share

	// Guarded by mu.
	mu     sync.Mutex
	posted []func()
	closed bool

	hasPosts atomic.Bool // posted is not empty; set under mu
	stopping atomic.Bool
}

// NewWorker returns a worker on p, which stays its creator's to close.
func NewWorker(p Poller, cfg Config) *Worker {
	if cfg.Rand == nil {
		cfg.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if cfg.Pool == nil {
		cfg.Pool = slab.NewPool(nil)
	}
	if cfg.Steps == nil {
		cfg.Steps = Inline{}
	}
	w := &Worker{poller: p, rand: cfg.Rand, pool: cfg.Pool, steps: cfg.Steps, slots: make([]slot, 1)}
	w.now = p.Now()
	w.wheel.start(w.now)
	return w
}

// Now is the time of the current turn.
func (w *Worker) Now() mono.Time { return w.now }

// Rand is the worker's randomness.
func (w *Worker) Rand() *rand.Rand { return w.rand }

// Pool is the worker's memory.
func (w *Worker) Pool() *slab.Pool { return w.pool }

// Poller is what the worker waits with.
func (w *Worker) Poller() Poller { return w.poller }

// Counters returns what the worker has counted.
func (w *Worker) Counters() Counters { return w.counters }

// BusyShare is the share of time spent in turns over the last whole second, 0 to 1.
func (w *Worker) BusyShare() float64 { return w.busy.last }

// Register gives h a token. Readiness under it reaches h until Unregister.
func (w *Worker) Register(h Handler) Token {
	var i uint32
	if n := len(w.free); n > 0 {
		i = w.free[n-1]
		w.free = w.free[:n-1]
	} else {
		i = uint32(len(w.slots))
		w.slots = append(w.slots, slot{})
	}
	s := &w.slots[i]
	s.h = h
	return makeToken(i, s.generation)
}

// Unregister ends t. What is still reported under it reaches nobody, also when
// its index is used again; a second Unregister does nothing.
func (w *Worker) Unregister(t Token) {
	if w.Handler(t) == nil {
		return
	}
	s := &w.slots[t.index()]
	s.h = nil
	s.generation++
	w.free = append(w.free, t.index())
}

// Handler returns what is registered under t, nil when nothing is (any more):
// what comes back late (an offloaded step, an answer from another goroutine)
// finds its owner through it.
func (w *Worker) Handler(t Token) Handler {
	i := t.index()
	if int(i) >= len(w.slots) || w.slots[i].generation != t.generation() {
		return nil
	}
	return w.slots[i].h
}

// Soon runs t in the task phase of this turn; called in that phase or later, in
// the next turn.
func (w *Worker) Soon(t Task) { w.tasks.add(t) }

// FlushLater calls f once in the flush phase of this turn; called in that phase
// or later, in the next turn. The caller keeps track of being listed already.
func (w *Worker) FlushLater(f Flusher) { w.flushers.add(f) }

// Reap calls f after the flush phase, when nothing of this turn refers to what
// it frees any more.
func (w *Worker) Reap(f func()) { w.reaps.add(f) }

// Turn handles what is ready: events, posts, timers, tasks, flush, reap, in
// this order. now must not go backwards.
func (w *Worker) Turn(now mono.Time, ready []Ready) {
	w.now = now
	w.counters.Turns++
	for i := range ready {
		w.dispatch(ready[i])
	}
	w.runPosts(maxPosts)
	w.counters.Timers += w.wheel.advance(now)
	for _, t := range w.tasks.begin() {
		w.counters.Tasks++
		t.Run()
	}
	w.tasks.end()
	for _, f := range w.flushers.begin() {
		w.counters.Flushes++
		f.Flush()
	}
	w.flushers.end()
	for _, f := range w.reaps.begin() {
		f()
	}
	w.reaps.end()
}

func (w *Worker) dispatch(r Ready) {
	h := w.Handler(r.Token)
	if h == nil {
		w.counters.Stale++
		return
	}
	w.counters.Events++
	h.Ready(r)
}

// NextDeadline is when the next turn is due at the latest: at once (Now) when
// work was left for it, at the next timer, or never (zero).
func (w *Worker) NextDeadline() mono.Time {
	if w.tasks.waiting() || w.flushers.waiting() || w.reaps.waiting() || w.ran < len(w.running) {
		return w.now
	}
	return w.wheel.next()
}

// Arm sets t to expire at the given time (rounded up to the wheel's
// millisecond), whether or not it was armed before. The handler is called in
// the timer phase of a turn, never by Arm.
func (w *Worker) Arm(t *Timer, at mono.Time, h TimerHandler, kind uint8) {
	t.handler, t.kind = h, kind
	w.wheel.arm(t, at)
}

// Cancel disarms t; after it t does not expire. Cancelling twice is allowed.
func (w *Worker) Cancel(t *Timer) { w.wheel.cancel(t) }

// Run waits and turns until Stop. It returns after every offloaded step has
// ended and every accepted post has run.
func (w *Worker) Run() {
	var ready []Ready
	before := w.poller.Now()
	for !w.stopping.Load() {
		ready = w.poller.Wait(ready[:0], w.NextDeadline())
		now := w.poller.Now()
		w.Turn(now, ready)
		after := w.poller.Now()
		w.counters.Waiting += now.Sub(before)
		w.counters.Busy += after.Sub(now)
		w.busy.note(before, now, after)
		before = after
	}
	w.finish()
}

// share measures the busy share over windows of a second.
type share struct {
	from mono.Time
	busy time.Duration
	last float64
}

func (s *share) note(before, now, after mono.Time) {
	if s.from == 0 {
		s.from = before
	}
	s.busy += after.Sub(now)
	if d := after.Sub(s.from); d >= time.Second {
		s.last = float64(s.busy) / float64(d)
		s.from, s.busy = after, 0
	}
}

// phase is a list that is worked off once per turn; what is added meanwhile
// waits for the next turn. Its memory is reused.
type phase[T any] struct {
	queue, run []T
}

func (p *phase[T]) add(t T)       { p.queue = append(p.queue, t) }
func (p *phase[T]) waiting() bool { return len(p.queue) > 0 }

func (p *phase[T]) begin() []T {
	p.queue, p.run = p.run[:0], p.queue
	return p.run
}

func (p *phase[T]) end() {
	clear(p.run)
	p.run = p.run[:0]
}
