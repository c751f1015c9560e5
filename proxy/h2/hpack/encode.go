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

// index finds entries of the table by hash: ways slots from the hash on hold
// numbers of entries. A stale or colliding number is noticed by comparing.
type index struct {
	pairs, names [256]uint32
	seen         [64]uint32 // hashes of pairs seen once
}

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

// Append appends a field, its name in lower case, by policy p. The block grows
// by at most the lengths of both and 12 bytes.
func (e *Encoder) Append(dst, name, value []byte, p Policy) []byte {
	hName := hash(0, name)
	first := static.find(name, hName)
	if p != Index {
		return e.literal(dst, first, hName, name, value, p)
	}
	if first > 0 {
		if i := static.findPair(first, value); i > 0 {
			return appendInt(dst, 0x80, 7, uint32(i))
		}
	}
	hPair := hash(hName, value)
	if e.idx == nil {
		e.idx = &index{}
	}
	if i := e.findPair(hPair, name, value); i > 0 {
		return appendInt(dst, 0x80, 7, i)
	}
	if !e.worth(hPair, len(name)+len(value)) {
		return e.literal(dst, first, hName, name, value, Without)
	}
	dst = e.appendName(dst, 0x40, 6, e.nameIndex(first, hName, name), name, true)
	dst = appendString(dst, value, true)
	e.insert(hName, hPair, name, value)
	return dst
}

// worth reports whether a pair is to enter the table: it was seen before, and
// leaves room for others.
func (e *Encoder) worth(hPair uint32, n int) bool {
	if uint32(n)+entryOverhead > e.table.max/2 {
		return false
	}
	slot := &e.idx.seen[hPair>>26]
	if *slot != hPair {
		*slot = hPair
		return false
	}
	return true
}

func (e *Encoder) literal(dst []byte, first int, hName uint32, name, value []byte, p Policy) []byte {
	var flag byte
	if p == Never {
		flag = 0x10
	}
	dst = e.appendName(dst, flag, 4, e.nameIndex(first, hName, name), name, false)
	return appendString(dst, value, false)
}

func (e *Encoder) nameIndex(first int, hName uint32, name []byte) uint32 {
	if first > 0 || e.idx == nil {
		return uint32(first)
	}
	return e.findName(hName, name)
}

func (e *Encoder) appendName(dst []byte, flag byte, prefix uint, i uint32, name []byte, keep bool) []byte {
	dst = appendInt(dst, flag, prefix, i)
	if i == 0 {
		dst = appendString(dst, name, keep)
	}
	return dst
}

// insert mirrors what the peer's decoder will do.
func (e *Encoder) insert(hName, hPair uint32, name, value []byte) {
	ent, ok := e.table.insert(name, value)
	if !ok {
		return
	}
	ent.hName, ent.hPair = hName, hPair
	e.remember(&e.idx.pairs, hPair)
	e.remember(&e.idx.names, hName)
}

// remember stores the newest entry's number in the slot of h that holds the
// oldest number.
func (e *Encoder) remember(slots *[256]uint32, h uint32) {
	best := uint8(h)
	for w := range uint8(ways) {
		s := uint8(h) + w
		if e.table.last-slots[s] > e.table.last-slots[best] {
			best = s
		}
	}
	slots[best] = e.table.last
}

func (e *Encoder) findPair(h uint32, name, value []byte) uint32 {
	for w := range uint8(ways) {
		number := e.idx.pairs[uint8(h)+w]
		if !e.table.live(number) {
			continue
		}
		ent := e.table.at(number)
		if ent.hPair != h {
			continue
		}
		if n, v := e.table.bytes(ent); string(n) == string(name) && string(v) == string(value) {
			return staticCount + 1 + e.table.last - number
		}
	}
	return 0
}

func (e *Encoder) findName(h uint32, name []byte) uint32 {
	for w := range uint8(ways) {
		number := e.idx.names[uint8(h)+w]
		if !e.table.live(number) {
			continue
		}
		ent := e.table.at(number)
		if ent.hName != h {
			continue
		}
		if n, _ := e.table.bytes(ent); string(n) == string(name) {
			return staticCount + 1 + e.table.last - number
		}
	}
	return 0
}

// appendString appends a string literal. What the peer keeps in its table is
// sent in Huffman code where that is shorter; what is sent over and over again
// costs both ends more time to code than the bytes saved are worth
// (BenchmarkHuffman).
func appendString(dst, s []byte, keep bool) []byte {
	if keep {
		if n := encodedLen(s); n < len(s) {
			return appendEncoded(appendInt(dst, 0x80, 7, uint32(n)), s)
		}
	}
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
