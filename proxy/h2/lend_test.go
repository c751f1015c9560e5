package h2

import (
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/slab"
)

// bulk has n streams carry as much as their windows let them, their owner keeping pace, for so many rounds.
func (p *peer) bulk(rounds int, ids ...uint32) {
	full := strings.Repeat("x", 1<<14)
	for range rounds {
		for _, id := range ids {
			s := p.streams[id]
			for s.recvWin >= 1<<14 {
				p.data(id, false, full)
				p.feed()
			}
			p.c.Consume(s, int(s.held))
			p.frames()
		}
	}
}

// sound checks that a window is what the peer may send, what is held and what is owed.
func (p *peer) sound(id uint32) {
	p.t.Helper()
	if s := p.streams[id]; s.recvWin+s.held+s.owed != s.size || s.lent < 0 || s.size-s.lent != p.c.cfg.Window {
		p.t.Errorf("stream %d: recvWin %d, held %d, owed %d, size %d, lent %d", id, s.recvWin, s.held, s.owed, s.size, s.lent)
	}
}

// R4.2: windows beyond the first are lent by the budget: a grown one shrinks when others want a part, all of
// them over half of the budget, and what a stream was lent comes back with its end.
func TestWindowsAreLent(t *testing.T) {
	budget := slab.NewBudget(16 << 20) // lends 1 MiB
	pool := slab.NewPool(budget)
	p := ready(t, Config{Pool: pool})
	p.consume = false
	for id := uint32(1); id <= 9; id += 2 {
		p.post(id)
	}
	p.feed()
	p.bulk(100, 1)
	if s := p.streams[1]; s.size != 256<<10 || budget.Lent() != 192<<10 {
		t.Fatalf("alone: window %d, lent %d", s.size, budget.Lent())
	}
	p.bulk(100, 3, 5, 7, 9, 1)
	var lent int32
	for id := uint32(1); id <= 9; id += 2 {
		p.sound(id)
		s := p.streams[id]
		lent += s.lent
		if s.size < 128<<10 {
			t.Errorf("stream %d of five has a window of %d", id, s.size)
		}
	}
	if budget.Lent() != int64(lent) || lent > 1<<20 {
		t.Errorf("lent %d, the windows say %d", budget.Lent(), lent)
	}
	held := pool.Get(9 << 20)
	p.bulk(10, 1, 3)
	for _, id := range []uint32{1, 3} {
		p.sound(id)
		if s := p.streams[id]; s.lent != 0 {
			t.Errorf("over half of the budget stream %d keeps %d lent", id, s.lent)
		}
	}
	pool.Put(held)
	for id := uint32(1); id <= 9; id += 2 {
		p.c.Reset(p.streams[id], ErrCodeCancel, false)
	}
	if budget.Lent() != 0 {
		t.Errorf("%d lent to nobody", budget.Lent())
	}
}
