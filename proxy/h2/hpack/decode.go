package hpack

import "github.com/tulle-mesh/tulle/proxy/head"

// Error is a COMPRESSION_ERROR (RFC 9113, section 4.3): after it the decoder
// must not be used again.
type Error string

// Error implements error.
func (e Error) Error() string { return "hpack: " + string(e) }

const (
	errTruncated = Error("block ends inside a field")
	errInteger   = Error("integer too large")
	errIndex     = Error("index beyond the tables")
	errHuffman   = Error("invalid Huffman code")
	errUpdate    = Error("table size update after a field")
	errSize      = Error("table size update over the limit")
)

// Decoder is the decoding side of a connection. The zero value is not usable.
type Decoder struct {
	table table
	limit uint32 // of table size updates: what was announced to the peer

	// of the block being decoded
	block   []byte
	scratch []byte
	fields  bool // a field was seen
	skip    bool
}

// NewDecoder returns a decoder for a peer that was told tableSize, at most 65535.
func NewDecoder(tableSize uint32) Decoder {
	tableSize = min(tableSize, 1<<16-1)
	return Decoder{limit: tableSize, table: table{max: tableSize}}
}

// Begin starts decoding one whole header block. What Next returns lies in block,
// in scratch (appended to) and in static memory.
func (d *Decoder) Begin(block, scratch []byte) {
	d.block, d.scratch, d.fields, d.skip = block, scratch, false, false
}

// Skip has what follows in this block decoded for the table's sake alone, at a
// cost bounded by the block's length: fields are empty (R4.5, HPACK bombs).
func (d *Decoder) Skip() { d.skip = true }

// Scratch returns the memory given to Begin, as it grew, and forgets the block.
func (d *Decoder) Scratch() []byte {
	s := d.scratch
	d.block, d.scratch = nil, nil
	return s
}

// Next decodes a field into f; ok is false at the end of the block.
func (d *Decoder) Next(f *head.Field) (ok bool, err error) {
	for len(d.block) > 0 {
		switch b := d.block[0]; {
		case b >= 0x80: // indexed, RFC 7541, section 6.1
			d.fields = true
			return true, d.indexed(f)
		case b >= 0x40: // literal with incremental indexing, 6.2.1
			d.fields = true
			return true, d.literal(f, 6, true)
		case b >= 0x20: // table size update, 6.3
			if err := d.sizeUpdate(); err != nil {
				return false, err
			}
		default: // literal without indexing, never indexed, 6.2.2, 6.2.3
			d.fields = true
			f.Sensitive = b >= 0x10
			return true, d.literal(f, 4, false)
		}
	}
	return false, nil
}

func (d *Decoder) sizeUpdate() error {
	n, err := d.integer(5)
	switch {
	case err != nil:
		return err
	case d.fields:
		return errUpdate
	case n > d.limit:
		return errSize
	}
	d.table.setMax(n)
	return nil
}

func (d *Decoder) indexed(f *head.Field) error {
	i, err := d.integer(7)
	if err != nil {
		return err
	}
	name, value, dynamic, err := d.lookup(i)
	if err != nil {
		return err
	}
	f.Sensitive = false
	if d.skip {
		f.Name, f.Value = nil, nil
		return nil
	}
	if dynamic {
		// The entry may be evicted before the block ends.
		f.Name, f.Value = d.keep(name), d.keep(value)
		return nil
	}
	f.Name, f.Value = name, value
	return nil
}

func (d *Decoder) literal(f *head.Field, prefix uint, index bool) error {
	if index {
		f.Sensitive = false
	}
	mark := len(d.scratch)
	i, err := d.integer(prefix)
	if err != nil {
		return err
	}
	if f.Name, err = d.name(i); err != nil {
		return err
	}
	if f.Value, err = d.str(); err != nil {
		return err
	}
	if index {
		d.table.insert(f.Name, f.Value)
	}
	if d.skip {
		f.Name, f.Value, d.scratch = nil, nil, d.scratch[:mark]
	}
	return nil
}

// name returns the name of entry i, or reads a literal one when i is 0.
func (d *Decoder) name(i uint32) ([]byte, error) {
	if i == 0 {
		return d.str()
	}
	name, _, dynamic, err := d.lookup(i)
	if dynamic {
		name = d.keep(name)
	}
	return name, err
}

func (d *Decoder) lookup(i uint32) (name, value []byte, dynamic bool, err error) {
	if i-1 < staticCount {
		e := &static.entries[i]
		return e.name, e.value, false, nil
	}
	if i-1-staticCount >= d.table.count || i == 0 {
		return nil, nil, false, errIndex
	}
	name, value = d.table.bytes(d.table.at(d.table.last - (i - 1 - staticCount)))
	return name, value, true, nil
}

func (d *Decoder) keep(b []byte) []byte {
	n := len(d.scratch)
	d.scratch = append(d.scratch, b...)
	return d.scratch[n:len(d.scratch):len(d.scratch)]
}

// str reads a string literal (RFC 7541, section 5.2).
func (d *Decoder) str() ([]byte, error) {
	if len(d.block) == 0 {
		return nil, errTruncated
	}
	coded := d.block[0] >= 0x80
	n, err := d.integer(7)
	if err != nil {
		return nil, err
	}
	if uint64(n) > uint64(len(d.block)) {
		return nil, errTruncated
	}
	s := d.block[:n:n]
	d.block = d.block[n:]
	if !coded {
		return s, nil
	}
	m := len(d.scratch)
	var ok bool
	if d.scratch, ok = appendDecoded(d.scratch, s); !ok {
		return nil, errHuffman
	}
	return d.scratch[m:len(d.scratch):len(d.scratch)], nil
}

// integer reads an integer with a prefix of that many bits (RFC 7541, section
// 5.1). It takes at most five octets more, and no value of 2^28 or above that
// an attacker alone would send.
func (d *Decoder) integer(prefix uint) (uint32, error) {
	mask := uint32(1)<<prefix - 1
	n := uint32(d.block[0]) & mask
	d.block = d.block[1:]
	if n < mask {
		return n, nil
	}
	for shift := uint(0); len(d.block) > 0; shift += 7 {
		b := d.block[0]
		d.block = d.block[1:]
		if shift > 28 || shift == 28 && b&0x7f != 0 {
			return 0, errInteger
		}
		n += uint32(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errTruncated
}
