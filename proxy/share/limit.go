package share

import "sync/atomic"

// chunkMax is the most that a worker takes from a Limit at once: large enough that the shared
// number is touched once in so many requests, small enough that what an idle worker keeps does
// not matter to a limit worth sharing.
const chunkMax = 64

// Limit is a number of things that all workers together may have at a time: requests in flight,
// connections, handshakes (rule R1.5).
type Limit struct {
	most    int64
	workers int64
	leased  atomic.Int64
}

// NewLimit returns a limit of most things for so many workers.
func NewLimit(most, workers int) *Limit {
	return &Limit{most: int64(most), workers: int64(max(workers, 1))}
}

// Pinned reports whether the limit is too small to be leased: its target then belongs to one
// worker.
func (l *Limit) Pinned() bool { return l.workers > 1 && l.most < l.workers }

// Most is the limit, Leased what workers hold of it (in use, and kept for their next requests).
func (l *Limit) Most() int { return int(l.most) }

// Leased is what workers hold of the limit.
func (l *Limit) Leased() int { return int(l.leased.Load()) }

// Lease returns a worker's share of l; it belongs to that worker.
func (l *Limit) Lease() *Lease { return &Lease{limit: l} }

// chunk is how much to lease when so much is free: less and less as the limit comes near, in the
// end one by one, so that no worker is refused for what others merely keep.
func (l *Limit) chunk(free int64) int64 {
	return max(1, min(chunkMax, free/(4*l.workers)))
}

func (l *Limit) take() int64 {
	for {
		n := l.leased.Load()
		free := l.most - n
		if free <= 0 {
			return 0
		}
		c := l.chunk(free)
		if l.leased.CompareAndSwap(n, n+c) {
			return c
		}
	}
}

// Lease is one worker's part of a Limit. Not safe for concurrent use.
type Lease struct {
	limit      *Limit
	have, used int64
}

// Take takes one; false means that the limit is reached.
func (l *Lease) Take() bool {
	if l.used == l.have {
		c := l.limit.take()
		if c == 0 {
			return false
		}
		l.have += c
	}
	l.used++
	return true
}

// Put gives one back. What is kept for the next ones is at most two chunks, nothing when the
// limit is near.
func (l *Lease) Put() {
	if l.used == 0 {
		panic("BUG: more given back to a limit than taken")
	}
	l.used--
	spare := l.have - l.used
	c := l.limit.chunk(l.limit.most - l.limit.leased.Load())
	if c == 1 {
		c = 0
	}
	if spare > 2*c {
		l.limit.leased.Add(c - spare)
		l.have = l.used + c
	}
}

// Used is what this worker has in use.
func (l *Lease) Used() int { return int(l.used) }

// Close gives everything back that is not in use.
func (l *Lease) Close() {
	l.limit.leased.Add(l.used - l.have)
	l.have = l.used
}
