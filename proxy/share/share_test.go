package share_test

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/share"
)

func TestMain(m *testing.M) { leak.Main(m) }

const start = mono.Time(time.Hour)

func TestALimitIsOfTheProxyNotOfTheWorker(t *testing.T) { // R6.6, R1.5
	l := share.NewLimit(1000, 4)
	leases := []*share.Lease{l.Lease(), l.Lease(), l.Lease(), l.Lease()}
	got := 0
	for i := range 4 * 1000 {
		if leases[i%4].Take() {
			got++
		}
	}
	if got != 1000 {
		t.Errorf("4 workers took %d together, want the 1000 of the limit", got)
	}
}

func TestOneWorkerCanUseTheWholeLimit(t *testing.T) { // R6.6: what others merely keep is little
	l := share.NewLimit(1000, 4)
	busy, idle := l.Lease(), l.Lease()
	idle.Take()
	idle.Put()
	got := 0
	for busy.Take() {
		got++
	}
	if got < 1000-64 {
		t.Errorf("a worker got %d of 1000 beside an idle one", got)
	}
	for range got {
		busy.Put()
	}
	busy.Close()
	idle.Close()
	if l.Leased() != 0 {
		t.Errorf("%d leased after all was given back", l.Leased())
	}
}

func TestNearTheLimitNothingIsKept(t *testing.T) { // R6.6
	l := share.NewLimit(8, 2)
	one, two := l.Lease(), l.Lease()
	for one.Take() {
	}
	for range 3 {
		one.Put()
	}
	got := 0
	for two.Take() {
		got++
	}
	if got != 3 {
		t.Errorf("the other worker got %d of the 3 that were given back", got)
	}
}

func TestASmallLimitIsPinned(t *testing.T) { // R6.6: smaller than the number of workers
	for _, c := range []struct {
		most, workers int
		want          bool
	}{{3, 4, true}, {4, 4, false}, {1, 1, false}} {
		if got := share.NewLimit(c.most, c.workers).Pinned(); got != c.want {
			t.Errorf("%d for %d workers: pinned %v, want %v", c.most, c.workers, got, c.want)
		}
	}
}

func TestWorkersAtOnceNeverExceedALimit(t *testing.T) { // R6.6
	const most, workers = 100, 4
	l := share.NewLimit(most, workers)
	var used, worst atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		lease := l.Lease()
		wg.Go(func() {
			for i := range 20000 {
				if lease.Take() {
					n := used.Add(1)
					for w := worst.Load(); n > w && !worst.CompareAndSwap(w, n); w = worst.Load() {
					}
				}
				if i%3 > 0 && lease.Used() > 0 {
					used.Add(-1)
					lease.Put()
				}
			}
			used.Add(-int64(lease.Used()))
			for lease.Used() > 0 {
				lease.Put()
			}
			lease.Close()
		})
	}
	wg.Wait()
	if worst.Load() > most || l.Leased() != 0 {
		t.Errorf("%d at once, limit %d; %d still leased", worst.Load(), most, l.Leased())
	}
}

func TestALeaseAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	lease := share.NewLimit(1000, 2).Lease()
	if n := testing.AllocsPerRun(1000, func() { lease.Take(); lease.Put() }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestBucketFillsWithTimeAndHoldsNoMore(t *testing.T) { // R7.3
	b := share.NewBucket(2*share.Token, 5*share.Token, 10*share.Token)
	take := func(at time.Duration) (n int) {
		for b.Withdraw(share.Token, start.Add(at)) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{0, 2}, {0, 0}, {100 * time.Millisecond, 1}, {350 * time.Millisecond, 2}, {400 * time.Millisecond, 1}, {time.Hour, 5}} {
		if got := take(c.at); got != c.want {
			t.Errorf("at %s: %d tokens, want %d", c.at, got, c.want)
		}
	}
}

func TestBucketOfManyWorkersLosesAndInventsNothing(t *testing.T) { // R6.6, R7.3
	b := share.NewBucket(0, 1<<40, 0)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10000 {
				b.Deposit(share.Token / 2)
				if b.Withdraw(share.Token, start) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := taken.Load()*int64(share.Token) + int64(b.Balance(start)); got != 4*10000*int64(share.Token)/2 {
		t.Errorf("taken and left make %d, want %d", got, 4*10000*int64(share.Token)/2)
	}
}

func TestTableForgetsWhatNobodyHolds(t *testing.T) { // R6.6
	var tab share.Table[string, int]
	a := tab.Acquire("x")
	a.Value = 7
	b := tab.Acquire("x")
	if b.Value != 7 {
		t.Fatalf("two workers see %d and %d", a.Value, b.Value)
	}
	if tab.Release(a) {
		t.Error("forgotten while it is held")
	}
	if !tab.Release(b) {
		t.Error("not forgotten by the last")
	}
	if c := tab.Acquire("x"); c.Value != 0 {
		t.Errorf("a new value is %d", c.Value)
	}
}

func TestBreakersOfManyWorkersKeepTheFloor(t *testing.T) { // R6.4, R6.6
	var s share.Breakers
	const n, most = 10, 7
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			refs := make([]*share.BreakerRef, n)
			for i := range refs {
				refs[i] = s.Acquire(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80))
			}
			for round := range 2000 {
				r := &refs[(round*7+w)%n].Value
				if round%2 == 0 {
					s.Eject(r, start, most)
				} else if r.Until() != 0 {
					s.Readmit(r, start)
				}
				if out := s.Out(); out > most {
					t.Errorf("%d of %d are out, at most %d may be", out, n, most)
					break
				}
			}
			for _, r := range refs {
				s.Release(r)
			}
		})
	}
	wg.Wait()
	if s.Out() != 0 {
		t.Errorf("%d are out after all were forgotten", s.Out())
	}
}

func TestOnlyOneWorkerGetsAProbe(t *testing.T) { // R6.4: one probe request readmits
	var s share.Breakers
	r := s.Acquire(netip.MustParseAddrPort("10.0.0.1:80"))
	s.Eject(&r.Value, start, 1)
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if r.Value.Lease(start, start+1000) {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d workers probe", got.Load())
	}
}
