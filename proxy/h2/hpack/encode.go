package hpack

import (
	"strconv"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// Policy says how a field may be compressed.
type Policy uint8

// The three ways of RFC 7541, section 6.2.
const (
	// Index puts the field into the table when it is seen a second time.
	Index Policy = iota
	// Without leaves the table alone: the value varies from message to message.
	Without
	// Never is Without for everybody on the way too (RFC 7541, section 7.1.3).
	Never
)

// PolicyOf is the policy for a field by its name, in lower case.
func PolicyOf(name []byte) Policy {
	switch string(name) {
	case "authorization", "cookie", "set-cookie", "proxy-authorization":
		return Never
	case "traceparent", "tracestate", "x-request-id", "x-correlation-id", "x-b3-traceid", "x-b3-spanid",
		"x-b3-parentspanid", "b3", "x-amzn-trace-id", "uber-trace-id", "idempotency-key",
		"date", "content-length", "content-range", "range", "etag", "if-none-match", "if-match",
		"if-modified-since", "last-modified", "expires", "age", "location",
		"grpc-timeout", "grpc-message", "grpc-status-details-bin":
		return Without
	}
	return Index
}

// Encoder is the encoding side of a connection.
//
// A field enters the table when it is seen for the second time: what varies
// under a name that PolicyOf does not know would else push out what repeats.
type Encoder struct {
	table table
	idx   *index // nil until the first insertion

	// Table size updates due at the beginning of the next block (RFC 7541,
	// section 4.2): when the size was smaller in between, zero comes first, as
	// some decoders take a second update for an empty table alone.
	update, dipped bool
}

// index finds entries of the table by hash: ways slots from the hash on hold the
// low bits of entries' numbers. A stale or colliding number is noticed by
// comparing.
type index struct {
	pairs, names slots
	seen         [64]uint32 // hashes of pairs seen once
}

type slots [256]uint16

const ways = 4

// NewEncoder returns an encoder for a peer that has not sent SETTINGS.
func NewEncoder() Encoder { return Encoder{table: table{max: DefaultTableSize}} }

// SetTableSize applies SETTINGS_HEADER_TABLE_SIZE of the peer; we use at most
// DefaultTableSize. Call it for each value in the order they came.
func (e *Encoder) SetTableSize(n uint32) {
	n = min(n, DefaultTableSize)
	if n == e.table.max && !e.update {
		return
	}
	if n > e.table.max {
		e.dipped = e.dipped || e.update
		if e.dipped {
			e.table.setMax(0)
		}
	}
	e.update = true
	e.table.setMax(n)
}

// Begin starts a header block.
func (e *Encoder) Begin(dst []byte) []byte {
	if !e.update {
		return dst
	}
	if e.dipped {
		dst = appendInt(dst, 0x20, 5, 0)
	}
	e.update, e.dipped = false, false
	return appendInt(dst, 0x20, 5, e.table.max)
}

// AppendStatus appends :status.
func (e *Encoder) AppendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x88)
	case 204:
		return append(dst, 0x89)
	case 206:
		return append(dst, 0x8a)
	case 304:
		return append(dst, 0x8b)
	case 400:
		return append(dst, 0x8c)
	case 404:
		return append(dst, 0x8d)
	case 500:
		return append(dst, 0x8e)
	}
	var b [4]byte
	return e.Append(dst, static.entries[8].name, strconv.AppendInt(b[:0], int64(status), 10), Index)
}

// AppendField appends a field whose name is in lower case.
func (e *Encoder) AppendField(dst []byte, f head.Field) []byte {
	p := PolicyOf(f.Name)
	if f.Sensitive {
		p = Never
	}
	return e.Append(dst, f.Name, f.Value, p)
}

// pair is a field on its way into a block.
type pair struct {
	name, value  []byte
	hName, hPair uint32
	first        int // static entry of that name, or 0
	policy       Policy
}

// Append appends a field, its name in lower case, by policy p. The block grows
// by at most the lengths of both and 12 bytes.
func (e *Encoder) Append(dst, name, value []byte, p Policy) []byte {
	// Field by field: a literal is built apart and copied, at a third of the cost
	// of the whole.
	var f pair
	f.name, f.value, f.policy = name, value, p
	f.hName = hash(0, name)
	f.first = static.find(name, f.hName)
	if p != Index {
		return e.literal(dst, &f)
	}
	if f.first > 0 {
		if i := static.findPair(f.first, value); i > 0 {
			return appendInt(dst, 0x80, 7, uint32(i))
		}
	}
	f.hPair = hash(f.hName, value)
	if e.idx == nil {
		e.idx = &index{}
	}
	if i := e.findPair(&f); i > 0 {
		return appendInt(dst, 0x80, 7, i)
	}
	if !e.worth(&f) {
		return e.literal(dst, &f)
	}
	return e.insert(dst, &f)
}

// worth reports whether a pair is to enter the table: it was seen before, and
// leaves room for others.
func (e *Encoder) worth(f *pair) bool {
	if uint32(len(f.name)+len(f.value))+entryOverhead > e.table.max/2 {
		return false
	}
	slot := &e.idx.seen[f.hPair>>26]
	if *slot != f.hPair {
		*slot = f.hPair
		return false
	}
	return true
}

// literal appends f for the peer to forget.
func (e *Encoder) literal(dst []byte, f *pair) []byte {
	flag := byte(0)
	if f.policy == Never {
		flag = 0x10
	}
	i := e.findName(f)
	dst = appendInt(dst, flag, 4, i)
	if i == 0 {
		dst = appendPlain(dst, f.name)
	}
	return appendPlain(dst, f.value)
}

// insert appends f for the peer to keep, and keeps it as the peer's decoder will.
func (e *Encoder) insert(dst []byte, f *pair) []byte {
	i := e.findName(f)
	dst = appendInt(dst, 0x40, 6, i)
	if i == 0 {
		dst = appendShort(dst, f.name)
	}
	dst = appendShort(dst, f.value)
	if ent, ok := e.table.insert(f.name, f.value); ok {
		ent.hName, ent.hPair = f.hName, f.hPair
		e.remember(&e.idx.pairs, f.hPair)
		e.remember(&e.idx.names, f.hName)
	}
	return dst
}

// remember stores the newest entry's number in the slot of h that holds the
// oldest number.
func (e *Encoder) remember(t *slots, h uint32) {
	last, best := uint16(e.table.last), uint8(h)
	for w := range uint8(ways) {
		s := uint8(h) + w
		if last-t[s] > last-t[best] {
			best = s
		}
	}
	t[best] = last
}

// findPair returns the index of f in the dynamic table, 0 when it is not there.
func (e *Encoder) findPair(f *pair) uint32 {
	for w := range uint8(ways) {
		age := uint32(uint16(e.table.last) - e.idx.pairs[uint8(f.hPair)+w])
		if age >= e.table.count {
			continue
		}
		ent := e.table.at(e.table.last - age)
		if ent.hPair != f.hPair {
			continue
		}
		if n, v := e.table.bytes(ent); string(n) == string(f.name) && string(v) == string(f.value) {
			return staticCount + 1 + age
		}
	}
	return 0
}

// findName returns the index of an entry of f's name, 0 when there is none.
func (e *Encoder) findName(f *pair) uint32 {
	if f.first > 0 || e.idx == nil {
		return uint32(f.first)
	}
	for w := range uint8(ways) {
		age := uint32(uint16(e.table.last) - e.idx.names[uint8(f.hName)+w])
		if age >= e.table.count {
			continue
		}
		ent := e.table.at(e.table.last - age)
		if ent.hName != f.hName {
			continue
		}
		if n, _ := e.table.bytes(ent); string(n) == string(f.name) {
			return staticCount + 1 + age
		}
	}
	return 0
}

// appendShort appends a string that the peer keeps, in Huffman code where that is
// shorter.
func appendShort(dst, s []byte) []byte {
	if n := encodedLen(s); n < len(s) {
		return appendEncoded(appendInt(dst, 0x80, 7, uint32(n)), s)
	}
	return appendPlain(dst, s)
}

// appendPlain appends a string that is sent over and over again: coding it costs
// both ends more time than the bytes saved are worth (BenchmarkHuffman).
func appendPlain(dst, s []byte) []byte {
	return append(appendInt(dst, 0, 7, uint32(len(s))), s...)
}

// appendInt appends n with a prefix of that many bits under flag.
func appendInt(dst []byte, flag byte, prefix uint, n uint32) []byte {
	mask := uint32(1)<<prefix - 1
	if n < mask {
		return append(dst, flag|byte(n))
	}
	dst = append(dst, flag|byte(mask))
	for n -= mask; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
