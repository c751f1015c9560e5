package hpack

import (
	"encoding/binary"
	"math/bits"
)

// entryOverhead is what RFC 7541, section 4.1 adds to an entry's length.
const entryOverhead = 32

// DefaultTableSize is SETTINGS_HEADER_TABLE_SIZE when nobody says otherwise.
const DefaultTableSize = 4096

// table is a dynamic table (RFC 7541, section 2.3.2). The bytes of its entries
// lie in one window that slides through buf, each entry in one piece; entries
// are a ring. Both grow with use, to max bytes and max/32 entries.
type table struct {
	buf   []byte  // of the live entries, and of evicted ones before start
	base  uint32  // position in the stream of inserted bytes that buf[0] has
	ents  []entry // ring; its length is a power of two
	last  uint32  // insertions ever: the newest entry's number
	count uint32  // live entries
	size  uint32  // as RFC 7541 counts
	max   uint32
}

type entry struct {
	pos          uint32 // in the stream of inserted bytes, modulo 2^32
	nameN, valN  uint16
	hName, hPair uint32 // used by the encoder
}

func (t *table) at(number uint32) *entry { return &t.ents[number&uint32(len(t.ents)-1)] }

func (t *table) bytes(e *entry) (name, value []byte) {
	o := e.pos - t.base
	m := o + uint32(e.nameN)
	return t.buf[o:m:m], t.buf[m : m+uint32(e.valN)]
}

// setMax applies a table size update, evicting what does not fit.
func (t *table) setMax(n uint32) {
	t.max = n
	t.evict(0)
}

// evict makes room for an entry of size n.
func (t *table) evict(n uint32) {
	for t.count > 0 && t.size+n > t.max {
		e := t.at(t.last - t.count + 1)
		t.size -= uint32(e.nameN) + uint32(e.valN) + entryOverhead
		t.count--
	}
}

// insert adds an entry and reports whether it fitted; if not, the table is
// empty now (RFC 7541, section 4.4). name and value must not alias the table.
func (t *table) insert(name, value []byte) (*entry, bool) {
	n := uint32(len(name)) + uint32(len(value)) + entryOverhead
	t.evict(n)
	if n > t.max {
		return nil, false
	}
	t.room(len(name) + len(value))
	if int(t.count) == len(t.ents) {
		t.growEntries()
	}
	t.last++
	t.count++
	t.size += n
	e := t.at(t.last)
	*e = entry{pos: t.base + uint32(len(t.buf)), nameN: uint16(len(name)), valN: uint16(len(value))}
	t.buf = append(append(t.buf, name...), value...)
	return e, true
}

// room makes place for n bytes at the end of buf: it slides the live bytes to
// the front when they leave half of it free, and takes a larger buffer else.
func (t *table) room(n int) {
	if cap(t.buf)-len(t.buf) >= n {
		return
	}
	start := uint32(len(t.buf))
	if t.count > 0 {
		start = t.at(t.last-t.count+1).pos - t.base
	}
	live := t.buf[start:]
	dst := t.buf
	if limit := max(int(t.max), n); cap(dst) < limit && 2*(len(live)+n) > cap(dst) {
		dst = make([]byte, min(limit, max(256, 4*(len(live)+n))))
	}
	t.buf = dst[:copy(dst[:len(live)], live)]
	t.base += start
}

func (t *table) growEntries() {
	ents := make([]entry, max(8, 2*len(t.ents)))
	for i := t.last - t.count + 1; i != t.last+1; i++ {
		ents[i&uint32(len(ents)-1)] = *t.at(i)
	}
	t.ents = ents
}

// hash mixes b into h. It need not withstand an adversary: a collision costs
// compression alone.
func hash(h uint32, b []byte) uint32 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xe7037ed1a0b428db
	x := uint64(h)*k1 ^ uint64(len(b))
	for len(b) >= 8 {
		x = mix(x^binary.LittleEndian.Uint64(b), k0)
		b = b[8:]
	}
	var tail uint64
	switch {
	case len(b) >= 4:
		tail = uint64(binary.LittleEndian.Uint32(b))<<32 | uint64(binary.LittleEndian.Uint32(b[len(b)-4:]))
	case len(b) > 0:
		tail = uint64(b[0])<<16 | uint64(b[len(b)/2])<<8 | uint64(b[len(b)-1])
	}
	x = mix(x^tail, k1)
	return uint32(x ^ x>>32)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0xa0761d6478bd642f, b)
	return hi ^ lo
}
