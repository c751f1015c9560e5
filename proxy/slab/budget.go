package slab

import "sync/atomic"

// Level says how full a Budget is.
type Level uint8

// Levels: over Half no window grows, over Full new streams are refused.
const (
	LevelNormal Level = iota
	LevelHalf
	LevelFull
)

// Parts of a Budget.
const (
	// shareOf is the part of what is free that one source may have queued: with a
	// budget of 64 MiB 128 KiB for the first, 107 KiB for each of a hundred, 43 KiB
	// for each of a thousand.
	shareOf = 512
	// lendOf is the part of the limit that may be lent to windows, lendShareOf that
	// of what is left of it that one window may get: with 64 MiB up to 1 MiB for one,
	// 64 KiB for each of sixty-four.
	lendOf, lendShareOf = 16, 3
)

// Budget bounds the bytes that all workers keep (rule R4.2). It does not refuse
// memory: who is about to accept more work asks first. A nil Budget has no bound.
type Budget struct {
	limit int64
	used  atomic.Int64
	lent  atomic.Int64
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Level reports how full b is; a nil Budget is never full.
func (b *Budget) Level() Level {
	if b == nil {
		return LevelNormal
	}
	switch u := b.used.Load(); {
	case u > b.limit:
		return LevelFull
	case u > b.limit/2:
		return LevelHalf
	}
	return LevelNormal
}

// Tight reports whether so much is used that who keeps bytes for nobody's good
// should give them up to others: three quarters, so that this begins before
// anybody is refused.
func (b *Budget) Tight() bool { return b != nil && b.used.Load() > b.limit/4*3 }

// Used returns the bytes in use, Limit the bound.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit returns the bound in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Lent is how many bytes windows have been lent beyond their first size.
func (b *Budget) Lent() int64 { return b.lent.Load() }

// Share is how many bytes one source may have queued before it has to stop, at
// most upTo; 0 when nothing is free.
func (b *Budget) Share(upTo int) int {
	if b == nil {
		return upTo
	}
	return int(min(max(b.limit-b.used.Load(), 0)/shareOf, int64(upTo)))
}

// Lend lends n bytes to a window that was lent has already, or nothing: a window
// is a promise to keep what comes. Return takes it back.
func (b *Budget) Lend(n, has int) bool {
	if b == nil {
		return true
	}
	if b.Level() != LevelNormal || int64(has+n) > b.loan() {
		return false
	}
	b.lent.Add(int64(n)) // workers that lend at once exceed it by a window or two
	return true
}

// Return gives back n bytes that Lend lent.
func (b *Budget) Return(n int) {
	if b != nil {
		b.lent.Add(-int64(n))
	}
}

// Excess says how much of the has bytes that a window was lent it should return
// because others want a part, too. Up to twice what it would get now is left to
// it, or windows would swing.
func (b *Budget) Excess(has int) int {
	switch {
	case b == nil || has == 0:
		return 0
	case b.Level() != LevelNormal:
		return has
	case int64(has) > 2*b.loan():
		return (has + 1) / 2
	}
	return 0
}

// loan is how much one window may be lent now.
func (b *Budget) loan() int64 {
	return max(b.limit/lendOf-b.lent.Load(), 0) / lendShareOf
}
