package balance_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/share"
)

func TestMain(m *testing.M) { leak.Main(m) }

func rowsOf(n int) []mesh.Endpoint {
	rows := make([]mesh.Endpoint, n)
	for i := range rows {
		rows[i] = mesh.Endpoint{
			Addr:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80),
			Identity: "spiffe://cluster.local/ns/shop/sa/web", Namespace: "shop", Deployment: "web", Zone: "z1",
			Pod: fmt.Sprintf("web-%d", i), Node: fmt.Sprintf("node-%d", i%100),
		}
	}
	return rows
}

func newBalancer(cfg balance.Config, n int) *balance.Balancer {
	b := balance.New(cfg, rand.New(rand.NewPCG(1, 1)))
	b.Replace(rowsOf(n), simStart)
	return b
}

// ask picks, answers after 10 ms and advances the clock.
func ask(b *balance.Balancer, now mono.Time) mono.Time {
	e, _ := b.Pick(now, nil)
	f := e.Start(now)
	f.FirstData(now.Add(10 * time.Millisecond))
	f.Done(now.Add(10*time.Millisecond), balance.Outcome{})
	return now.Add(time.Millisecond)
}

func TestARequestAllocatesNothing(t *testing.T) { // R6.1
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for _, k := range []mesh.Balancing{
		mesh.BalanceEWMA, mesh.BalanceRoundRobin, mesh.BalanceLeastRequests, mesh.BalanceRandom,
	} {
		b, now := newBalancer(balance.Config{Kind: k, Zone: "z1"}, 1000), simStart
		if n := testing.AllocsPerRun(1000, func() { now = ask(b, now) }); n != 0 {
			t.Errorf("kind %d: %v allocations for a request, want none", k, n)
		}
	}
}

func TestTheSameSeedMakesTheSameChoices(t *testing.T) { // R6.1
	run := func() (picks []netip.AddrPort) {
		b, now := newBalancer(balance.Config{}, 50), simStart
		for i := range 5000 {
			e, _ := b.Pick(now, nil)
			f := e.Start(now)
			o := balance.Outcome{}
			if i%3 == 0 {
				o = balance.Failure(balance.CauseReset, 0)
			}
			f.Done(now.Add(time.Duration(i%17)*time.Millisecond), o)
			now = now.Add(5 * time.Millisecond)
			picks = append(picks, e.Addr)
		}
		return picks
	}
	first, second := run(), run()
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("pick %d: %s, then %s", i, first[i], second[i])
		}
	}
}

func TestEverybodyOfManyIsAsked(t *testing.T) { // R6.1
	b, now := newBalancer(balance.Config{}, 1000), simStart
	seen := map[netip.AddrPort]int{}
	for range 20000 {
		e, _ := b.Pick(now, nil)
		seen[e.Addr]++
		f := e.Start(now)
		f.Done(now.Add(time.Duration(5+len(seen)%10)*time.Millisecond), balance.Outcome{})
		now = now.Add(time.Millisecond)
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000 endpoints were asked in 20000 requests", len(seen))
	}
}

// walked is the digest of all rows, n at a time.
func walked(b *balance.Balancer, n int) uint64 {
	w := b.Walk()
	for {
		if _, done := w.Step(n); done {
			return w.Digest()
		}
	}
}

func TestDigestSeesARowThatWentWrong(t *testing.T) { // what the balancer holds, not what it was told
	b := newBalancer(balance.Config{Zone: "z9"}, 100)
	want := mesh.Digest{}
	for _, r := range rowsOf(100) {
		want.Add(r)
	}
	if walked(b, 7) != want.Value() || b.Told() != want.Value() {
		t.Fatal("the digest of what was put in differs")
	}
	b.Each(func(e *balance.Endpoint) {
		if e.Pod == "web-50" {
			e.Endpoint.Weight = 7
		}
	})
	if walked(b, 7) == want.Value() {
		t.Error("a corrupted row is not seen")
	}
	b.Replace(rowsOf(100), simStart)
	if walked(b, 7) != want.Value() || b.Told() != want.Value() {
		t.Error("after all was told again, the digests differ still")
	}
}

// What is kept with each change and what is added up from the rows agree, whatever happened; a walk
// knows whether it may have missed something.
func TestDigestsAgree(t *testing.T) {
	const n = 60
	b, now := newBalancer(balance.Config{Zone: "z1"}, n), simStart
	rng, all := rand.New(rand.NewPCG(1, 2)), rowsOf(n)
	held := map[netip.AddrPort]mesh.Endpoint{}
	for _, r := range all {
		held[r.Addr] = r
	}
	w, valid := b.Walk(), 0
	for range 5000 {
		now = now.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
		before := b.Told()
		switch r := all[rng.IntN(n)]; rng.IntN(4) {
		case 0:
			b.Apply(nil, []netip.AddrPort{r.Addr}, now)
			delete(held, r.Addr)
		case 1:
			r.Weight, r.Terminating, r.Pod = uint32(rng.IntN(3)), rng.IntN(4) == 0, [...]string{r.Pod, "another"}[rng.IntN(2)]
			b.Apply([]mesh.Endpoint{r}, nil, now)
			held[r.Addr] = r
		default: // failures move endpoints from room to room
			if e, _ := b.Pick(now, nil); e != nil {
				f := e.Start(now)
				f.Done(now, balance.Failure(balance.CauseReset, 0))
			}
		}
		var want mesh.Digest
		for _, r := range held {
			want.Add(r)
		}
		if got := walked(b, 1+rng.IntN(100)); got != want.Value() || b.Told() != got {
			t.Fatalf("walked %x, kept %x, want %x", got, b.Told(), want.Value())
		}
		if b.Told() != before && w.Valid() {
			t.Fatal("a walk says that nothing changed")
		}
		if _, done := w.Step(rng.IntN(30)); done {
			if w.Valid() {
				valid++
				if w.Digest() != want.Value() {
					t.Fatalf("a valid walk of many steps is %x, want %x", w.Digest(), want.Value())
				}
			}
			w = b.Walk()
		}
	}
	if valid == 0 {
		t.Error("no walk of many steps was valid")
	}
}

func TestAFlightCountsOnceWhateverIsTold(t *testing.T) { // R6.1: in flight until the first data frame
	b := newBalancer(balance.Config{}, 1)
	e, _ := b.Pick(simStart, nil)
	f := e.Start(simStart)
	if e.Load() != 1 {
		t.Fatalf("load %d after Start, want 1", e.Load())
	}
	f.FirstData(simStart + 1)
	f.FirstData(simStart + 2)
	if e.Load() != 0 {
		t.Fatalf("load %d after first data, want 0", e.Load())
	}
	f.Done(simStart+3, balance.Outcome{})
	f.Done(simStart+4, balance.Failure(balance.CauseReset, 0))
	f.FirstData(simStart + 5)
	if e.Load() != 0 {
		t.Fatalf("load %d at the end, want 0", e.Load())
	}
	tun := e.StartTunnel(simStart)
	tun.FirstData(simStart + 1)
	if e.Load() != 1 {
		t.Fatalf("load %d with an open tunnel, want 1", e.Load())
	}
	tun.Done(simStart+2, balance.Outcome{})
	failed := e.StartTunnel(simStart)
	failed.Done(simStart+2, balance.Failure(balance.CauseConnect, 0))
	if e.Load() != 0 {
		t.Fatalf("load %d after tunnels, want 0", e.Load())
	}
	var zero balance.Flight
	zero.FirstData(simStart)
	zero.Done(simStart, balance.Outcome{})
}

func TestFlightsOutliveTheirEndpoint(t *testing.T) { // R4.3: what is open finishes after its endpoint left
	b := newBalancer(balance.Config{}, 2)
	e, _ := b.Pick(simStart, nil)
	f, g := e.Start(simStart), e.StartTunnel(simStart)
	b.Apply(nil, []netip.AddrPort{e.Addr}, simStart)
	if !e.Gone() {
		t.Fatal("the endpoint is still there")
	}
	f.FirstData(simStart + 1)
	g.FirstData(simStart + 1)
	f.Done(simStart+2, balance.Failure(balance.CauseReset, time.Second))
	g.Done(simStart+2, balance.Outcome{})
	if e.Load() != 0 || e.Ejected() {
		t.Errorf("load %d, ejected %v", e.Load(), e.Ejected())
	}
}

func TestEjectionsAreOfTheProxyNotOfTheWorker(t *testing.T) { // R6.6
	var shared share.Breakers
	one := newBalancer(balance.Config{Breakers: &shared}, 4)
	two := newBalancer(balance.Config{Breakers: &shared}, 4)
	at := func(b *balance.Balancer, pod string) (found *balance.Endpoint) {
		b.Each(func(e *balance.Endpoint) {
			if e.Pod == pod {
				found = e
			}
		})
		return found
	}
	fail := func(b *balance.Balancer, pod string, n int) {
		for range n {
			f := at(b, pod).Start(simStart)
			f.Done(simStart, balance.Failure(balance.CauseConnect, 0))
		}
	}
	fail(one, "web-0", 4)
	fail(two, "web-0", 3) // seven between them
	if !at(two, "web-0").Ejected() {
		t.Fatal("seven failures, seen by two workers, do not eject")
	}
	for range 200 {
		if e, _ := one.Pick(simStart, nil); e.Pod == "web-0" {
			t.Fatal("the other worker still chooses it")
		}
	}
	// The floor is of the proxy too: two of four stay.
	fail(one, "web-1", 7)
	fail(two, "web-2", 20)
	fail(one, "web-3", 20)
	if shared.Out() != 2 {
		t.Fatalf("%d are out, want 2 of 4", shared.Out())
	}
	// One probe for both workers, and its success is seen by both.
	later := simStart.Add(2 * time.Second)
	var probes []*balance.Endpoint
	for range 50 {
		for _, b := range []*balance.Balancer{one, two} {
			if e, _ := b.Pick(later, nil); e.Ejected() {
				probes = append(probes, e)
			}
		}
	}
	if len(probes) != 2 {
		t.Fatalf("%d probes of 2 ejected endpoints, want one each", len(probes))
	}
	for _, e := range probes {
		f := e.Start(later)
		f.Done(later, balance.Outcome{})
	}
	later = later.Add(10 * time.Second)
	one.Pick(later, nil)
	two.Pick(later, nil)
	if a, b := one.Available(later), two.Available(later); a != 4 || b != 4 || shared.Out() != 0 {
		t.Errorf("after both probes: %d and %d in service, %d out, want 4, 4, 0", a, b, shared.Out())
	}
	one.Close()
	two.Close()
}

func TestStatsCountCircuitsNotProbes(t *testing.T) { // R12.1: circuit_open_total
	var opened uint64
	b := newBalancer(balance.Config{Opened: &opened}, 3)
	now := simStart
	e, _ := b.Pick(now, nil)
	for range 7 {
		f := e.Start(now)
		f.Done(now, balance.Failure(balance.CauseStatus, 0))
	}
	for range 3 {
		now = now.Add(10 * time.Second)
		p, _ := b.Pick(now, nil)
		f := p.Start(now)
		f.Done(now, balance.Failure(balance.CauseStatus, 0))
	}
	if s := b.Stats(); s.Ejections != 1 || s.Probes != 3 || s.Readmissions != 0 || opened != 1 {
		t.Errorf("got %+v, want 1 ejection and 3 probes", s)
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, n := range []int{2, 10, 10000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			bal, now := newBalancer(balance.Config{}, n), simStart
			b.ReportAllocs()
			for b.Loop() {
				now = ask(bal, now)
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	bal := newBalancer(balance.Config{}, 10000)
	for b.Loop() {
		walked(bal, 256)
	}
}

func BenchmarkApplyOne(b *testing.B) {
	bal := newBalancer(balance.Config{}, 10000)
	row := rowsOf(1)
	for b.Loop() {
		bal.Apply(nil, []netip.AddrPort{row[0].Addr}, simStart)
		bal.Apply(row, nil, simStart)
	}
}
