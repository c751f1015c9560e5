package chain_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/proxy/chain"
)

func TestMain(m *testing.M) { leak.Main(m) }

// TestListIsWhatASliceIs plays the same random steps on both.
func TestListIsWhatASliceIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var l chain.List[int]
	links := make([]chain.Link[int], 20)
	var want []int
	for range 10_000 {
		n := rng.IntN(len(links))
		if i := slices.Index(want, n); i >= 0 {
			want = slices.Delete(want, i, i+1)
			l.Remove(&links[n])
		} else if rng.IntN(2) == 0 {
			want = slices.Insert(want, 0, n)
			l.Add(&links[n], n)
		} else {
			l.Remove(&links[n]) // it is in none
		}
		if got := slices.Collect(l.All()); !slices.Equal(got, want) || l.Empty() != (len(want) == 0) {
			t.Fatalf("%v, want %v", got, want)
		}
		if first, ok := l.First(); ok != (len(want) > 0) || ok && first != want[0] {
			t.Fatalf("first %d, %v of %v", first, ok, want)
		}
	}
}

func TestWhatIsYieldedMayLeave(t *testing.T) {
	var l chain.List[int]
	links := make([]chain.Link[int], 5)
	for i := range links {
		l.Add(&links[i], i)
	}
	seen := 0
	for n := range l.All() {
		l.Remove(&links[n])
		seen++
	}
	if seen != 5 || !l.Empty() {
		t.Errorf("saw %d, empty %v", seen, l.Empty())
	}
}

func TestAddingTwiceIsABug(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	var l chain.List[int]
	var k chain.Link[int]
	l.Add(&k, 1)
	l.Add(&k, 1)
}

func TestNothingIsAllocated(t *testing.T) {
	var l chain.List[int]
	var k chain.Link[int]
	if n := testing.AllocsPerRun(100, func() { l.Add(&k, 1); l.Remove(&k) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
