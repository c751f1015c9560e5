package budget_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/budget"
)

func TestMain(m *testing.M) { leak.Main(m) }

const start = mono.Time(time.Hour)

// retries withdraws until the budget refuses.
func retries(r *budget.Retry, now mono.Time) (n int) {
	for r.Withdraw(now) {
		n++
	}
	return n
}

func TestABudgetStartsWithTen(t *testing.T) { // R7.3
	if n := retries(budget.NewRetry(budget.Config{}), start); n != 10 {
		t.Errorf("%d retries without a request, want 10", n)
	}
}

func TestABudgetBringsTenASecondAndAFifthOfRequests(t *testing.T) { // R7.3
	r := budget.NewRetry(budget.Config{})
	retries(r, start)
	if n := retries(r, start.Add(3*time.Second)); n != 30 {
		t.Errorf("%d after 3 s, want 30", n)
	}
	for range 100 {
		r.Request(start.Add(3 * time.Second))
	}
	if n := retries(r, start.Add(3*time.Second)); n != 20 {
		t.Errorf("%d after 100 requests, want 20", n)
	}
}

func TestABudgetHoldsTenSecondsOfIt(t *testing.T) { // R7.3
	r := budget.NewRetry(budget.Config{})
	if n := retries(r, start.Add(time.Hour)); n != 10 {
		t.Errorf("%d: the first look at the clock brought something", n)
	}
	if n := retries(r, start.Add(2*time.Hour)); n != 100 {
		t.Errorf("%d after an idle hour, want the 100 of 10 s", n)
	}
	// 1000 requests a second for a minute bring 200 a second, and 10 besides.
	now := start.Add(3 * time.Hour)
	for i := range 60000 {
		r.Request(now.Add(time.Duration(i) * time.Millisecond))
	}
	now = now.Add(59999 * time.Millisecond)
	if n := retries(r, now); n < 2050 || n > 2101 {
		t.Errorf("%d after a busy minute, want about 2100: 10 s of it", n)
	}
	// What they allowed is gone 10 s later, but for the ten a second.
	r = budget.NewRetry(budget.Config{})
	for i := range 10000 {
		r.Request(now.Add(time.Duration(i) * time.Millisecond))
	}
	if n := retries(r, now.Add(time.Minute)); n != 100 {
		t.Errorf("%d a minute after the last request, want 100", n)
	}
}

func TestAStormOfRetriesIsBounded(t *testing.T) { // R7.3: everything fails, all want to retry
	r, n := budget.NewRetry(budget.Config{}), 0
	const requests = 30000 // 1000/s for 30 s
	for i := range requests {
		now := start.Add(time.Duration(i) * time.Millisecond)
		r.Request(now)
		if r.Withdraw(now) {
			n++
		}
	}
	if most := requests/5 + 10*30 + 10; n > most || n < most-50 {
		t.Errorf("%d retries of %d requests, want about %d", n, requests, most)
	}
}

func TestABudgetIsOfTheProxyNotOfTheWorker(t *testing.T) { // R6.6
	c := budget.Config{}
	b := budget.NewBucket(c)
	one, two := budget.NewShared(c, b), budget.NewShared(c, b)
	if n := retries(one, start) + retries(two, start); n != 10 {
		t.Errorf("two workers begin with %d, want 10", n)
	}
	later := start.Add(time.Hour)
	if n := retries(one, later) + retries(two, later); n != 100 {
		t.Errorf("two workers hold %d, want 100", n)
	}
	for range 50 {
		one.Request(later)
	}
	one.Request(later.Add(time.Millisecond))
	one.Balance(later.Add(time.Millisecond)) // tells the bucket
	if n := retries(two, later); n != 10 {
		t.Errorf("one worker's 51 requests allow the other %d retries, want 10", n)
	}
}

func TestSettingsOfABudget(t *testing.T) { // R7.3
	r := budget.NewRetry(budget.Config{Percent: 50, PerSecond: -1, Start: -1})
	if n := retries(r, start.Add(time.Hour)); n != 0 {
		t.Errorf("%d, want none", n)
	}
	for range 10 {
		r.Request(start.Add(time.Hour))
	}
	if got := r.Balance(start.Add(time.Hour)); got != 5 {
		t.Errorf("balance %v after 10 requests at 50 %%, want 5", got)
	}
}

func TestBackoffIsFullJitterUnderADoublingBound(t *testing.T) { // R7.3
	rng := rand.New(rand.NewPCG(1, 2))
	for retry, most := range map[int]time.Duration{
		1: 25 * time.Millisecond, 2: 50 * time.Millisecond, 3: 100 * time.Millisecond, 4: 200 * time.Millisecond,
		5: 250 * time.Millisecond, 50: 250 * time.Millisecond,
	} {
		var low, high time.Duration = time.Hour, 0
		for range 2000 {
			d := budget.Backoff(rng, retry)
			low, high = min(low, d), max(high, d)
		}
		if low < 0 || low > most/50 || high > most || high < most*98/100 {
			t.Errorf("retry %d: %s to %s, want 0 to %s", retry, low, high, most)
		}
	}
}

func TestABudgetAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	r, now := budget.NewRetry(budget.Config{}), start
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(50 * time.Millisecond)
		r.Request(now)
		r.Withdraw(now)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
