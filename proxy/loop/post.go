package loop

import (
	"runtime"
	"sync"
)

// Post runs f in a later turn of w, in the order of posting. It may be called
// from any goroutine. It answers false, and f will never run, once w has
// stopped.
func (w *Worker) Post(f func()) (ok bool) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.posted = append(w.posted, f)
	first := !w.hasPosts.Swap(true)
	w.mu.Unlock()
	if first {
		w.poller.Wake()
	}
	return true
}

// Stop ends Run after the current turn. It may be called from any goroutine,
// also before Run.
func (w *Worker) Stop() {
	w.stopping.Store(true)
	w.poller.Wake()
}

// runPosts runs at most limit posts. Those that are left are in w.running
// afterwards, so that NextDeadline sees them; what is posted later wakes the
// poller by itself.
func (w *Worker) runPosts(limit int) {
	for w.takePosts(); w.ran < len(w.running) && limit > 0; limit-- {
		f := w.running[w.ran]
		w.running[w.ran] = nil
		w.ran++
		w.counters.Posts++
		f()
		w.takePosts()
	}
}

func (w *Worker) takePosts() {
	if w.ran < len(w.running) || !w.hasPosts.Load() {
		return
	}
	w.mu.Lock()
	w.running, w.posted = w.posted, w.running[:0]
	w.hasPosts.Store(false)
	w.mu.Unlock()
	w.ran = 0
}

// finish runs what was accepted before the worker stopped, posts alone.
func (w *Worker) finish() {
	for !w.close() {
		w.runPosts(maxPosts)
		if w.ran == len(w.running) {
			runtime.Gosched() // a step is still running elsewhere
		}
	}
}

// close refuses posts from now on if none is waiting or to be expected.
func (w *Worker) close() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = w.ran == len(w.running) && len(w.posted) == 0 && w.offloaded == 0
	return w.closed
}

// StepRunner runs work that is too long for a turn.
type StepRunner interface {
	// Go runs step now or later, on this goroutine or another.
	Go(step func())
}

// Offload runs step elsewhere and then done in a later turn of w. What both
// touch must be left alone by others in between.
func (w *Worker) Offload(step, done func()) {
	w.offloaded++
	w.steps.Go(func() {
		step()
		w.Post(func() {
			w.offloaded--
			done()
		})
	})
}

// Inline is the StepRunner of simulations: it runs a step at once.
type Inline struct{}

// Go implements StepRunner.
func (Inline) Go(step func()) { step() }

// Steps is a StepRunner with a bounded number of goroutines, which live only
// while there is work. Workers may share one.
type Steps struct {
	limit int // immutable

	// Guarded by mu.
	mu      sync.Mutex
	queue   []func()
	running int
}

// NewSteps returns a StepRunner of at most limit goroutines; 0 means one.
func NewSteps(limit int) *Steps { return &Steps{limit: max(limit, 1)} }

// Go implements StepRunner: steps begin in the order of their calls.
func (s *Steps) Go(step func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == s.limit {
		s.queue = append(s.queue, step)
		return
	}
	s.running++
	go s.work(step) // ends when no step is queued
}

func (s *Steps) work(step func()) {
	for step != nil {
		step()
		step = s.next()
	}
}

func (s *Steps) next() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.running--
		s.queue = nil
		return nil
	}
	step := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	return step
}
