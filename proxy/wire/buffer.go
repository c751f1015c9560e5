package wire

import "github.com/tulle-mesh/tulle/proxy/slab"

// buffer holds bytes in order, in as many pieces of slab memory as they need:
// none is larger than what the pool keeps for reuse, so a backlog neither moves
// when it grows nor leaves anything to the collector. The zero buffer is empty
// and owns nothing.
type buffer struct {
	first []byte // first[off:] is next
	off   int
	more  [][]byte // behind first
	n     int      // bytes
}

// tail is the piece that is appended to.
func (b *buffer) tail() *[]byte {
	if k := len(b.more); k > 0 {
		return &b.more[k-1]
	}
	return &b.first
}

// append copies p to the end.
func (b *buffer) append(p []byte, pool *slab.Pool) {
	for len(p) > 0 {
		t := b.tail()
		if cap(*t) == len(*t) {
			t = b.grow(len(p), pool)
		}
		k := min(len(p), cap(*t)-len(*t))
		*t = append(*t, p[:k]...)
		b.n += k
		p = p[k:]
	}
}

// grow makes room for n more bytes, or for as many as one piece takes: a short
// piece moves into a larger one, a long one gets another behind it.
func (b *buffer) grow(n int, pool *slab.Pool) *[]byte {
	t := b.tail()
	if len(*t)+n <= slab.Most || len(*t) < slab.Most/4 {
		return b.enlarge(t, min(max(len(*t)+n, 2*cap(*t)), slab.Most), pool)
	}
	b.more = append(b.more, pool.Get(min(max(n, b.n/2), slab.Most)))
	return b.tail()
}

// enlarge moves the piece t into one of at least n bytes.
func (b *buffer) enlarge(t *[]byte, n int, pool *slab.Pool) *[]byte {
	g := pool.Get(n)
	g = append(g, *t...)
	pool.Put(*t)
	*t = g
	return t
}

// begin lends the piece at the end for appending with n bytes of room; end takes
// it back.
func (b *buffer) begin(n int, pool *slab.Pool) []byte {
	t := b.tail()
	switch room := cap(*t) - len(*t); {
	case room >= n:
	case len(*t)+n <= slab.Most || len(*t) == 0:
		b.enlarge(t, len(*t)+n, pool)
	default:
		b.more = append(b.more, pool.Get(n))
	}
	return *b.tail()
}

// end takes back what begin lent. What outgrew its room is moved into a piece
// that the pool knows.
func (b *buffer) end(p []byte, pool *slab.Pool) {
	t := b.tail()
	b.n += len(p) - len(*t)
	if cap(p) == cap(*t) {
		*t = p
		return
	}
	g := append(pool.Get(len(p)), p...)
	pool.Put(*t)
	*t = g
}

// head is what comes next, in one piece; empty when b is.
func (b *buffer) head() []byte { return b.first[b.off:] }

// drop takes n bytes off the head.
func (b *buffer) drop(n int, pool *slab.Pool) {
	b.off += n
	b.n -= n
	if b.off < len(b.first) {
		return
	}
	pool.Put(b.first)
	b.first, b.off = nil, 0
	if len(b.more) > 0 {
		b.first = b.more[0]
		k := copy(b.more, b.more[1:])
		b.more[k] = nil
		b.more = b.more[:k]
	}
	if b.n == 0 && b.first != nil { // a piece that was begun, and nothing put in
		b.clear(pool)
	}
}

// clear gives everything back.
func (b *buffer) clear(pool *slab.Pool) {
	pool.Put(b.first)
	for _, p := range b.more {
		pool.Put(p)
	}
	*b = buffer{}
}
