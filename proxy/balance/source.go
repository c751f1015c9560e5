package balance

import (
	"hash/fnv"
	"io"
	"slices"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// mine is the endpoint of a room that the balancer's source goes to, as of a state of the rooms.
type mine struct {
	e     *Endpoint
	moves uint64
}

// bySource returns the endpoint of a room to which Source goes: the one whose hash together with Source's
// is the highest (rendezvous hashing: Thaler and Ravishankar 1998), R6.2. It changes only when that one leaves,
// or one with a higher hash comes: one source in n+1 moves when n become n+1. It is looked for after
// the rooms have changed, or when it is avoided.
func (b *Balancer) bySource(r room, avoid []*Endpoint) *Endpoint {
	m := &b.mine[r]
	if m.e == nil || m.moves != b.moves {
		*m = mine{b.highest(b.rooms[r].all, nil), b.moves}
	}
	if !slices.Contains(avoid, m.e) {
		return m.e
	}
	return b.highest(b.rooms[r].all, avoid)
}

func (b *Balancer) highest(all, avoid []*Endpoint) (best *Endpoint) {
	var top uint64
	for _, e := range all {
		if slices.Contains(avoid, e) {
			continue
		}
		if h := b.affinity(e); best == nil || h > top || h == top && e.Addr.Compare(best.Addr) > 0 {
			best, top = e, h
		}
	}
	return best
}

// affinity hashes the address alone: with the ports of one Service a source goes to one workload.
func (b *Balancer) affinity(e *Endpoint) uint64 {
	h := fnv.New64a()
	a := e.Addr.Addr().As16()
	h.Write(a[:])
	io.WriteString(h, b.cfg.Source) //nolint:errcheck // it has none
	x := h.Sum64()
	// SplitMix64's finaliser: of FNV the last bytes hardly reach the high bits, which decide.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// letIn takes back those whose ejection is over, in place of a probe: that would send one request of a source
// to somebody else's endpoint.
func (b *Balancer) letIn(now mono.Time) {
	o := &b.rooms[out]
	for len(o.all) > 0 && o.all[0].probeAt <= now {
		e := o.all[0]
		if until := e.br.Until(); until > now { // another worker's failures count
			e.probeAt = until
			b.fixOut(e)
			continue
		}
		e.readmit(now)
	}
}
