// Package budget decides whether a retry may be made and when (rule R7.3): pure decisions over a
// token bucket that the proxy's workers share.
//
// Each request brings a fifth of a token and each second ten; a retry takes one. The bucket holds
// at most what ten seconds bring, so that a quiet night does not pay for a storm of retries in the
// morning, and starts with ten.
package budget

import (
	"math/rand/v2"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/share"
)

// Config is a retry budget's; zero fields are the defaults of R7.3. Immutable once passed.
type Config struct {
	// Percent of requests that may be retried, in whole percents; 0 is 20.
	Percent int
	// PerSecond is what is allowed besides, in retries; 0 is 10, negative is none.
	PerSecond int
	// Window is how much of it the bucket holds; 0 is 10 s.
	Window time.Duration
	// Start is what a new bucket holds, in retries; 0 is 10, negative is none.
	Start int
}

func (c Config) filled() Config {
	if c.Percent == 0 {
		c.Percent = 20
	}
	if c.PerSecond == 0 {
		c.PerSecond = 10
	}
	if c.Window == 0 {
		c.Window = 10 * time.Second
	}
	if c.Start == 0 {
		c.Start = 10
	}
	c.PerSecond, c.Start = max(c.PerSecond, 0), max(c.Start, 0)
	return c
}

// NewBucket returns the bucket of c, which the Retry of every worker then draws from.
func NewBucket(c Config) *share.Bucket {
	c = c.filled()
	perSecond := share.Milli(c.PerSecond) * share.Token
	most := perSecond * share.Milli(c.Window/time.Millisecond) / 1000
	start := share.Milli(c.Start) * share.Token
	return share.NewBucket(start, max(most, start), perSecond)
}

// slots divide the window over which requests are counted.
const slots = 10

// chunk is how many requests a worker counts before it tells the bucket.
const chunk = 16

// Retry is one worker's hand on a budget. Not safe for concurrent use.
type Retry struct {
	bucket  *share.Bucket
	each    share.Milli // what a request brings
	slot    time.Duration
	at      int64 // index of the present slot
	counts  [slots]int64
	untold  int64 // requests that the bucket does not know of
	opening bool  // no request was seen yet
}

// NewRetry returns a Retry with a bucket of its own.
func NewRetry(c Config) *Retry { return NewShared(c, NewBucket(c)) }

// NewShared returns a worker's Retry on a bucket made with the same Config.
func NewShared(c Config, b *share.Bucket) *Retry {
	c = c.filled()
	return &Retry{
		bucket: b, each: share.Milli(c.Percent) * share.Token / 100, slot: c.Window / slots, opening: true,
	}
}

// Request counts a request (not a retry).
func (r *Retry) Request(now mono.Time) {
	r.turn(now)
	r.counts[r.at%slots]++
	r.untold++
	if r.untold >= chunk {
		r.tell()
	}
}

// Withdraw takes a retry out of the budget; false means that it is used up.
func (r *Retry) Withdraw(now mono.Time) bool {
	r.turn(now)
	r.tell()
	return r.bucket.Withdraw(share.Token, now)
}

// Balance is how many retries the budget holds.
func (r *Retry) Balance(now mono.Time) float64 {
	r.turn(now)
	r.tell()
	return float64(r.bucket.Balance(now)) / float64(share.Token)
}

// tell gives the bucket what requests have brought, and room for it.
func (r *Retry) tell() {
	if r.untold == 0 {
		return
	}
	n := share.Milli(r.untold) * r.each
	r.untold = 0
	r.bucket.Grow(n)
	r.bucket.Deposit(n)
}

// turn takes from the bucket's room what requests of slots that are over had given to it.
func (r *Retry) turn(now mono.Time) {
	at := int64(now) / int64(r.slot)
	if r.opening {
		r.at, r.opening = at, false
		return
	}
	if at <= r.at {
		return
	}
	r.tell()
	var gone int64
	for range min(at-r.at, slots) {
		r.at++
		gone += r.counts[r.at%slots]
		r.counts[r.at%slots] = 0
	}
	r.at = at
	if gone > 0 {
		r.bucket.Grow(-share.Milli(gone) * r.each)
	}
}

// Bounds of the backoff (rule R7.3).
const (
	backoffBase = 25 * time.Millisecond
	backoffMax  = 250 * time.Millisecond
)

// Backoff is how long to wait before the given retry (1 is the first): full jitter over a bound
// that doubles from 25 ms to 250 ms.
func Backoff(rng *rand.Rand, retry int) time.Duration {
	bound := backoffMax
	if n := max(retry, 1) - 1; n < 4 {
		bound = min(backoffBase<<n, backoffMax)
	}
	return time.Duration(rng.Int64N(int64(bound) + 1))
}
