// Package slab is a worker's memory for bytes that must outlive a turn:
// leftovers, parked heads, stream queues, replay bodies. A Pool belongs to one
// worker; its Budget (rule R4.2) is shared by all workers of a proxy.
//
// How much one stream or connection may keep depends on how much all keep: each
// may have a part of what is free (the dynamic thresholds of shared-memory
// switches: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6:2, 1998).
// So a few that stop may keep much, many little each, and together they come
// near the limit without reaching it.
package slab

import (
	"math/bits"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// Sizes of the buffers that a Pool keeps for reuse, powers of two, in bytes.
const (
	minShift = 9       // 512 B
	maxShift = 16      // 64 KiB
	keepEach = 1 << 20 // bytes kept per size
)

// Most is the largest buffer that is kept for reuse: who needs more takes several.
const Most = 1 << maxShift

// Pool hands out byte buffers and counts what is out against its Budget. It is
// not safe for concurrent use. A nil Pool allocates and counts nothing.
type Pool struct {
	budget *Budget
	free   [maxShift - minShift + 1][][]byte
	inUse  int64
	heads  []*head.Head
	full   func()
}

// NewPool returns a pool that counts against b, which may be nil.
func NewPool(b *Budget) *Pool { return &Pool{budget: b} }

func class(n int) int {
	if n <= 1<<minShift {
		return 0
	}
	return bits.Len(uint(n-1)) - minShift
}

// Get returns an empty buffer with room for at least n bytes. Its owner calls
// Put with a slice of the same capacity when done.
func (p *Pool) Get(n int) []byte {
	c := class(n)
	if p == nil {
		return make([]byte, 0, max(n, 1<<minShift))
	}
	if c >= len(p.free) {
		p.count(int64(n))
		return make([]byte, 0, n)
	}
	size := 1 << (c + minShift)
	p.count(int64(size))
	if k := len(p.free[c]); k > 0 {
		b := p.free[c][k-1]
		p.free[c] = p.free[c][:k-1]
		return b
	}
	return make([]byte, 0, size)
}

// Put takes back a buffer that Get or Grow returned. Put(nil) does nothing.
func (p *Pool) Put(b []byte) {
	if p == nil || cap(b) == 0 {
		return
	}
	p.count(-int64(cap(b)))
	c := class(cap(b))
	if c < len(p.free) && cap(b) == 1<<(c+minShift) && len(p.free[c])<<(c+minShift) < keepEach {
		p.free[c] = append(p.free[c], b[:0])
	}
}

// Trim gives half of what is kept for reuse to the collector: called now and then, it lets the memory of
// a busy hour go.
func (p *Pool) Trim() {
	for c := range p.free {
		keep := len(p.free[c]) / 2
		clear(p.free[c][keep:])
		p.free[c] = p.free[c][:keep]
	}
}

// Append appends data to b, a buffer of this pool or nil, moving it to a larger
// buffer when it does not fit.
func (p *Pool) Append(b []byte, data ...byte) []byte {
	if cap(b)-len(b) >= len(data) {
		return append(b, data...)
	}
	n := p.Get(max(len(b)+len(data), min(2*cap(b), 1<<20)))
	n = append(n, b...)
	n = append(n, data...)
	p.Put(b)
	return n
}

// InUse returns the bytes that are out.
func (p *Pool) InUse() int64 {
	if p == nil {
		return 0
	}
	return p.inUse
}

// Budget is what p counts against; nil for none.
func (p *Pool) Budget() *Budget {
	if p == nil {
		return nil
	}
	return p.budget
}

// OnFull has f called whenever p takes a buffer beyond the budget. f must not use p.
func (p *Pool) OnFull(f func()) { p.full = f }

// Level reports how full the budget behind p is.
func (p *Pool) Level() Level { return p.Budget().Level() }

func (p *Pool) count(n int64) {
	p.inUse += n
	if p.budget == nil {
		return
	}
	if u := p.budget.used.Add(n); n > 0 && u > p.budget.limit && p.full != nil {
		p.full()
	}
}
