package share

import (
	"sync/atomic"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// Milli is a thousandth of a token: the unit of a Bucket.
type Milli int64

// Token is one whole token.
const Token Milli = 1000

// Bucket is a token bucket that all workers fill and draw from: it fills with time, by what
// workers deposit, and holds at most a base plus what workers add to it.
type Bucket struct {
	perSecond Milli
	balance   atomic.Int64
	most      atomic.Int64
	filled    atomic.Int64 // mono.Time up to which it was filled; 0: never
}

// NewBucket returns a bucket that holds start tokens, at most most, and gains perSecond.
func NewBucket(start, most, perSecond Milli) *Bucket {
	b := &Bucket{perSecond: perSecond}
	b.balance.Store(int64(start))
	b.most.Store(int64(most))
	return b
}

// Grow changes what the bucket can hold.
func (b *Bucket) Grow(by Milli) { b.most.Add(int64(by)) }

// Deposit puts tokens in, as many as fit.
func (b *Bucket) Deposit(n Milli) {
	if n <= 0 {
		return
	}
	for {
		have := b.balance.Load()
		next := min(have+int64(n), max(b.most.Load(), have))
		if b.balance.CompareAndSwap(have, next) {
			return
		}
	}
}

// Withdraw takes n out, all or nothing.
func (b *Bucket) Withdraw(n Milli, now mono.Time) bool {
	b.fill(now)
	for {
		old := b.balance.Load()
		have := min(old, b.most.Load()) // what it could hold may have shrunk meanwhile
		if have < int64(n) {
			return false
		}
		if b.balance.CompareAndSwap(old, have-int64(n)) {
			return true
		}
	}
}

// Balance is what is in at now.
func (b *Bucket) Balance(now mono.Time) Milli {
	b.fill(now)
	return Milli(min(b.balance.Load(), b.most.Load()))
}

// fill adds what time has brought. The worker whose swap succeeds adds it.
func (b *Bucket) fill(now mono.Time) {
	from := b.filled.Load()
	if from == 0 {
		b.filled.CompareAndSwap(0, int64(now))
		return
	}
	// Whole thousandths only: the rest of the time stays for the next fill.
	step := int64(time.Second) / max(int64(b.perSecond), 1)
	n := (int64(now) - from) / step
	if b.perSecond <= 0 || n <= 0 {
		return
	}
	if b.filled.CompareAndSwap(from, from+n*step) {
		b.Deposit(Milli(n))
	}
}
