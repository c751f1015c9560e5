package simnet

import "github.com/tulle-mesh/tulle/internal/mono"

type kind uint8

const (
	kindCall kind = iota
	kindTurn
	kindApp
	kindSegment
	kindFIN
	kindRST
	kindWindow
	kindSYN
	kindSYNACK
	kindRest
	kindACK
	// Not events, but noted like them.
	kindRead
	kindWrite
	kindClose
)

func (k kind) String() string {
	return [...]string{"call", "turn", "app", "segment", "fin", "rst", "window", "syn", "synack", "rest", "ack",
		"read", "write", "close"}[k]
}

// event is what will happen; which fields it uses depends on its kind.
type event struct {
	at       mono.Time
	tie      uint64 // random, then the order of pushing: orders what is due at once
	kind     kind
	n        int
	end      *end
	poller   *Poller
	listener *Listener
	timer    *Timer
	err      error
}

func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.tie < f.tie }

// queue is a binary heap of events.
type queue struct {
	heap  []event
	count uint32
}

func (w *World) push(e event) {
	q := &w.queue
	q.count++
	e.tie = uint64(w.rng.Uint32())<<32 | uint64(q.count)
	q.heap = append(q.heap, e)
	for i := len(q.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q.heap[i].before(&q.heap[parent]) {
			break
		}
		q.heap[i], q.heap[parent] = q.heap[parent], q.heap[i]
		i = parent
	}
}

func (q *queue) pop() event {
	top := q.heap[0]
	n := len(q.heap) - 1
	q.heap[0] = q.heap[n]
	q.heap[n] = event{}
	q.heap = q.heap[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && q.heap[child+1].before(&q.heap[child]) {
			child++
		}
		if !q.heap[child].before(&q.heap[i]) {
			break
		}
		q.heap[i], q.heap[child] = q.heap[child], q.heap[i]
		i = child
	}
	return top
}
