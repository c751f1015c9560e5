package wire

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// model does to a buffer and to a plain slice the same things.
type model struct {
	t    *testing.T
	b    buffer
	want []byte
	pool *slab.Pool
	next byte
}

// bytes are n that follow those made before.
func (m *model) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = m.next
		m.next += 7
	}
	return p
}

func (m *model) check() {
	m.t.Helper()
	if m.b.n != len(m.want) {
		m.t.Fatalf("%d bytes, want %d", m.b.n, len(m.want))
	}
	if h := m.b.head(); len(m.want) > 0 && len(h) == 0 || !bytes.HasPrefix(m.want, h) {
		m.t.Fatalf("the head of %d bytes is not what comes next of %d", len(h), len(m.want))
	}
}

func (m *model) step(kind, n int) {
	switch kind {
	case 0:
		p := m.bytes(n)
		m.b.append(p, m.pool)
		m.want = append(m.want, p...)
	case 1: // what is lent is used up to its room, not at all, or outgrown
		use := n * (n % 3)
		p := m.bytes(use)
		m.b.end(append(m.b.begin(n, m.pool), p...), m.pool)
		m.want = append(m.want, p...)
	case 2:
		k := min(n, len(m.b.head()))
		m.b.drop(k, m.pool)
		m.want = m.want[k:]
	}
	m.check()
}

func TestABufferKeepsWhatIsPutIn(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &model{t: t, pool: slab.NewPool(slab.NewBudget(1 << 30))}
		for range 150 {
			m.step(r.IntN(3), r.IntN(1<<(1+r.IntN(17))))
		}
		for m.b.n > 0 {
			m.step(2, 1<<20)
		}
		m.b.clear(m.pool)
		if n := m.pool.InUse(); n != 0 {
			t.Fatalf("seed %d: %d bytes held by an empty buffer", seed, n)
		}
	}
}

// R4.2: a backlog costs what it holds, and leaves nothing to the collector: its pieces are of the
// sizes that the pool keeps.
func TestABacklogIsMadeOfPiecesThatThePoolKeeps(t *testing.T) {
	budget := slab.NewBudget(1 << 30)
	m := &model{t: t, pool: slab.NewPool(budget)}
	for _, n := range []int{100, 3000, 20 << 10, 64 << 10, 300 << 10} {
		m.step(0, n)
	}
	if used := budget.Used(); used > int64(m.b.n+slab.Most) {
		t.Errorf("%d bytes held for %d", used, m.b.n)
	}
	for _, p := range append([][]byte{m.b.first}, m.b.more...) {
		if cap(p) > slab.Most {
			t.Errorf("a piece of %d bytes", cap(p))
		}
	}
	m.b.clear(m.pool)
	if budget.Used() != 0 || m.b.n != 0 {
		t.Errorf("%d bytes held for %d after clear", budget.Used(), m.b.n)
	}
}

// A small answer is one piece, so that it leaves in one record and one write.
func TestWhatIsSmallIsOnePiece(t *testing.T) {
	m := &model{t: t, pool: slab.NewPool(nil)}
	for range 100 {
		m.step(0, 500)
	}
	if len(m.b.head()) != m.b.n {
		t.Errorf("%d bytes in one of %d pieces, %d in all", len(m.b.head()), 1+len(m.b.more), m.b.n)
	}
	m.b.clear(m.pool)
}

func TestMarksFallWithTheBudget(t *testing.T) { // R4.2
	pool := slab.NewPool(slab.NewBudget(64 << 20))
	e := NewEnv(loop.NewWorker(simnet.New(simnet.Config{}).Host(netip.MustParseAddr("10.0.0.1")).NewPoller(), loop.Config{Pool: pool}), 0)
	for _, c := range []struct{ used, high, read int }{
		{512, High, ReadPerTurn}, {8 << 20, 112 << 10, 56 << 10}, {32 << 20, 64 << 10, 32 << 10}, {60 << 20, 8 << 10, leastRead}, {65 << 20, Least, leastRead},
	} {
		held := pool.Get(c.used)
		if got, read := e.high(), len(e.readRoom()); got > c.high || got < c.high-1 || read > c.read || read < c.read-1 {
			t.Errorf("%d used: high %d, read %d; want %d, %d", c.used, got, read, c.high, c.read)
		}
		pool.Put(held)
	}
}
