// Package share holds what belongs to a proxy and not to one of its workers (rule R6.6): limits,
// budgets and ejections. Workers never wait for each other: what they share is read with atomic
// loads and leased in chunks, so that the way of a request touches memory of its own worker, and
// the sum over workers still is the proxy's number, never that number times the workers.
//
// A Limit that is smaller than the number of workers cannot be leased in chunks without strangers'
// leases starving the one who needs it: Limit.Pinned says so, and its owner serves such a target
// with one worker.
package share

import (
	"sync"
	"sync/atomic"
)

// Table finds the shared value of a key for every worker that asks, and forgets it when the last
// of them has let go. The zero Table is ready for use.
//
// It is a sync.Map: workers ask when a target or an endpoint comes or goes, never per request.
type Table[K comparable, V any] struct {
	m sync.Map // K -> *Ref[K, V]
}

// Ref is one value of a Table with the number of workers that hold it.
type Ref[K comparable, V any] struct {
	Value V
	key   K
	held  atomic.Int64
}

// Acquire returns the value of key, a zero V when it is new. Each Acquire is followed by one
// Release.
func (t *Table[K, V]) Acquire(key K) *Ref[K, V] {
	for {
		v, ok := t.m.Load(key)
		if !ok {
			fresh := &Ref[K, V]{key: key}
			v, _ = t.m.LoadOrStore(key, fresh)
		}
		r := v.(*Ref[K, V])
		if r.hold() {
			return r
		}
		t.m.CompareAndDelete(key, v) // the last holder has just let go
	}
}

// Release gives r back; it reports whether the caller was the last to hold it.
func (t *Table[K, V]) Release(r *Ref[K, V]) bool {
	if r.held.Add(-1) > 0 {
		return false
	}
	if !r.held.CompareAndSwap(0, dead) {
		return false
	}
	t.m.CompareAndDelete(r.key, any(r))
	return true
}

// dead marks a Ref that nobody may take any more.
const dead = -1 << 40

func (r *Ref[K, V]) hold() bool {
	for {
		n := r.held.Load()
		if n < 0 {
			return false
		}
		if r.held.CompareAndSwap(n, n+1) {
			return true
		}
	}
}
