package share

import (
	"net/netip"
	"sync/atomic"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// Breaker is what all workers of a proxy know of one endpoint's failures (rule R6.4). The zero
// Breaker is in service. Its numbers are read and written by any worker.
type Breaker struct {
	failed atomic.Uint32 // consecutive failures
	rounds atomic.Uint32 // ejections that were not followed by a healthy spell
	until  atomic.Int64  // mono.Time at which the next probe is due; 0: in service
	back   atomic.Int64  // mono.Time of the last readmission
	lost   atomic.Bool   // the last failure was that nobody, or somebody else, was there
}

// Fail counts one failure more and returns how many there were in a row.
func (b *Breaker) Fail(unreachable bool) uint32 {
	if b.lost.Load() != unreachable {
		b.lost.Store(unreachable)
	}
	return b.failed.Add(1)
}

// Succeed ends a row of failures.
func (b *Breaker) Succeed() {
	if b.failed.Load() != 0 {
		b.failed.Store(0)
	}
}

// Unreachable reports whether the present row ends with a failure to reach the endpoint.
func (b *Breaker) Unreachable() bool { return b.failed.Load() != 0 && b.lost.Load() }

// Failures is the length of the present row.
func (b *Breaker) Failures() uint32 { return b.failed.Load() }

// Until is when the next probe of an ejected endpoint is due, 0 when it is in service.
func (b *Breaker) Until() mono.Time { return mono.Time(b.until.Load()) }

// Lease gives the probe that was due at old to one worker: the one for which it returns true. Until
// next, nobody else probes.
func (b *Breaker) Lease(old, next mono.Time) bool {
	return b.until.CompareAndSwap(int64(old), int64(next))
}

// Again keeps an ejected endpoint out until then: its probe failed.
func (b *Breaker) Again(until mono.Time) {
	if b.until.Load() != 0 {
		b.until.Store(int64(until))
	}
}

// Round counts ejections in a row: it returns how many came before this one, and begins again
// when the endpoint was in service since before healthy.
func (b *Breaker) Round(healthy mono.Time) uint32 {
	if back := b.back.Load(); back != 0 && mono.Time(back) < healthy {
		b.rounds.Store(0)
	}
	return b.rounds.Add(1) - 1
}

// Breakers are the breakers of one target and the number of them that are open. The zero Breakers
// is ready for use.
type Breakers struct {
	table Table[netip.AddrPort, Breaker]
	out   atomic.Int64
}

// BreakerRef is one worker's hold of a Breaker.
type BreakerRef = Ref[netip.AddrPort, Breaker]

// Acquire returns the breaker of addr; Release gives it back when the endpoint is gone.
func (s *Breakers) Acquire(addr netip.AddrPort) *BreakerRef { return s.table.Acquire(addr) }

// Release gives r back.
func (s *Breakers) Release(r *BreakerRef) {
	if s.table.Release(r) && r.Value.until.Load() != 0 {
		s.out.Add(-1)
	}
}

// Out is the number of ejected endpoints.
func (s *Breakers) Out() int { return int(s.out.Load()) }

// Eject takes b out of service until then, unless another worker did already or most are out
// already. It reports whether b is out.
func (s *Breakers) Eject(b *Breaker, until mono.Time, most int) bool {
	if b.until.Load() != 0 {
		return true
	}
	for {
		n := s.out.Load()
		if n >= int64(most) {
			return false
		}
		if s.out.CompareAndSwap(n, n+1) {
			break
		}
	}
	if !b.until.CompareAndSwap(0, int64(until)) {
		s.out.Add(-1) // another worker was faster
	}
	return true
}

// Readmit puts b back into service.
func (s *Breakers) Readmit(b *Breaker, now mono.Time) {
	b.failed.Store(0)
	b.back.Store(int64(now))
	if b.until.Swap(0) != 0 {
		s.out.Add(-1)
	}
}

// Open takes a breaker out of service that belongs to one worker alone.
func (b *Breaker) Open(until mono.Time) { b.until.Store(int64(until)) }

// Close puts it back.
func (b *Breaker) Close(now mono.Time) {
	b.failed.Store(0)
	b.back.Store(int64(now))
	b.until.Store(0)
}
