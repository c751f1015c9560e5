package balance

import "github.com/tulle-mesh/tulle/internal/mesh"

// Told is the order-free digest of the rows that were put in, kept up to date with each of them. It
// says whether an update was lost or wrongly taken, at no cost, but not whether a row went wrong
// since: that is for a Walk.
func (b *Balancer) Told() uint64 { return b.told.Value() }

// tell counts e's row in; untell takes out what tell counted, even if the row is another by now.
func (b *Balancer) tell(e *Endpoint) {
	b.moves++
	e.hash = e.Endpoint.Hash()
	b.told.AddHash(e.hash)
}

func (b *Balancer) untell(e *Endpoint) { b.told.RemoveHash(e.hash) }

// Walk digests the rows that Pick really chooses from, some at a time: ten thousand at once would hold
// a worker up for milliseconds.
type Walk struct {
	b     *Balancer
	moves uint64
	room  room
	pos   int
	sum   mesh.Digest
}

// Walk begins to look at every row.
func (b *Balancer) Walk() Walk { return Walk{b: b, moves: b.moves} }

// Step looks at no more than n rows, and tells at how many it looked and whether those were the last.
func (w *Walk) Step(n int) (looked int, done bool) {
	for ; w.room < rooms; w.room, w.pos = w.room+1, 0 {
		all := w.b.rooms[w.room].all
		for ; w.pos < len(all); w.pos++ {
			if looked == n {
				return looked, false
			}
			w.sum.Add(all[w.pos].Endpoint)
			looked++
		}
	}
	return looked, true
}

// Valid reports whether nothing came, went or moved since the walk began: else it may have missed it.
func (w *Walk) Valid() bool { return w.moves == w.b.moves }

// Digest is the order-free digest of what was looked at.
func (w *Walk) Digest() uint64 { return w.sum.Value() }
