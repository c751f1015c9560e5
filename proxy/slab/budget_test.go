package slab

import "testing"

func TestLevels(t *testing.T) { // R4.2
	b := NewBudget(4096)
	p := NewPool(b)
	half := p.Get(2048)
	if l := p.Level(); l != LevelNormal {
		t.Errorf("half used: level %d", l)
	}
	more := p.Get(1024)
	if l := p.Level(); l != LevelHalf {
		t.Errorf("over half: level %d", l)
	}
	all := p.Get(2048)
	if l := p.Level(); l != LevelFull {
		t.Errorf("over all: level %d", l)
	}
	for _, x := range [][]byte{half, more, all} {
		p.Put(x)
	}
	if b.Used() != 0 || p.InUse() != 0 {
		t.Errorf("%d, %d in use at the end", b.Used(), p.InUse())
	}
	var none *Pool
	if none.Level() != LevelNormal || none.Budget().Share(7) != 7 || !none.Budget().Lend(1<<20, 0) || none.Budget().Excess(5) != 0 {
		t.Error("without a budget there is a bound")
	}
	none.Budget().Return(1 << 20)
}

// stopped is what n sources keep that stop when they have their share.
func stopped(b *Budget, n, upTo int) (each, all int64) {
	had := make([]int64, n)
	for more := true; more; {
		more = false
		for i := range had {
			if had[i] < int64(b.Share(upTo)) {
				had[i] += 1 << 10
				b.used.Add(1 << 10)
				more = true
			}
		}
	}
	for _, h := range had {
		each = max(each, h)
		all += h
	}
	b.used.Add(-all)
	return each, all
}

func TestSharesOfManyAddUpToLessThanTheBudget(t *testing.T) { // R4.2
	const limit, upTo = 64 << 20, 128 << 10
	b := NewBudget(limit)
	for _, c := range []struct {
		n           int
		least, most int64 // of all
	}{
		{1, 128 << 10, 128 << 10}, {10, 1200 << 10, 1280 << 10}, {100, 10 << 20, 11 << 20},
		{1000, 40 << 20, 44 << 20}, {10_000, 56 << 20, 64 << 20},
	} {
		if each, all := stopped(b, c.n, upTo); all < c.least || all > c.most || each > upTo {
			t.Errorf("%d sources keep %d, %d at most each; want %d to %d", c.n, all, each, c.least, c.most)
		}
	}
	b.used.Store(limit + 1)
	if got := b.Share(upTo); got != 0 {
		t.Errorf("a share of %d of nothing", got)
	}
}

// window grows as an HTTP/2 stream's does: it doubles, up to a mebibyte.
func window(b *Budget, size, lent int) (int, int) {
	if n := b.Excess(lent); n > 0 {
		b.Return(n)
		return size - n, lent - n
	}
	if grow := min(size, 1<<20-size); grow > 0 && b.Lend(grow, lent) {
		return size + grow, lent + grow
	}
	return size, lent
}

func TestWindowsShareWhatIsLent(t *testing.T) { // R4.2
	const first = 64 << 10
	for _, c := range []struct{ n, least, most int }{{1, 1 << 20, 1 << 20}, {4, 256 << 10, 1 << 20}, {16, 128 << 10, 512 << 10}, {100, first, 256 << 10}} {
		b := NewBudget(64 << 20)
		size, lent := make([]int, c.n), make([]int, c.n)
		for i := range size {
			size[i] = first
		}
		for range 50 { // they come one after the other, so the first find more
			for i := range size {
				size[i], lent[i] = window(b, size[i], lent[i])
			}
		}
		sum := 0
		for i, s := range size {
			sum += lent[i]
			if s < c.least || s > c.most || s != first+lent[i] {
				t.Errorf("window %d of %d: %d bytes, %d of them lent; want %d to %d", i, c.n, s, lent[i], c.least, c.most)
			}
		}
		if b.Lent() != int64(sum) || sum > 4<<20 {
			t.Errorf("%d windows were lent %d, counted %d; want 4 MiB at most", c.n, sum, b.Lent())
		}
	}
}

func TestOverHalfOfTheBudgetWindowsGiveBack(t *testing.T) { // R4.2
	b := NewBudget(64 << 20)
	size, lent := window(b, 64<<10, 0)
	b.used.Store(33 << 20)
	if b.Lend(1, 0) {
		t.Error("lent over half of the budget")
	}
	if size, lent = window(b, size, lent); size != 64<<10 || lent != 0 || b.Lent() != 0 {
		t.Errorf("window %d, lent %d of %d", size, lent, b.Lent())
	}
}

func TestALateComerGetsItsPartOfWhatWasLent(t *testing.T) { // R4.2
	b := NewBudget(64 << 20)
	size, lent := make([]int, 9), make([]int, 9)
	for i := range size {
		size[i] = 64 << 10
	}
	for round := range 60 {
		for i := range size {
			if i < 8 || round > 20 { // the last one comes late
				size[i], lent[i] = window(b, size[i], lent[i])
			}
		}
	}
	if size[8] < 128<<10 {
		t.Errorf("the late one has %d bytes, the others %d", size[8], size[:8])
	}
}

func TestTrimLetsTheMemoryOfABusyHourGo(t *testing.T) {
	p := NewPool(nil)
	var out [][]byte
	for range 16 {
		out = append(out, p.Get(Most))
	}
	for _, b := range out {
		p.Put(b)
	}
	for kept := 16; kept > 0; kept /= 2 {
		if got := len(p.free[len(p.free)-1]); got != kept {
			t.Errorf("%d kept, want %d", got, kept)
		}
		p.Trim()
	}
	if len(p.free[len(p.free)-1]) != 0 || p.InUse() != 0 {
		t.Errorf("%d kept after all", len(p.free[len(p.free)-1]))
	}
}
