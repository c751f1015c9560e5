package hpack

import (
	"bytes"
	"errors"
	"testing"

	judge "golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// FuzzDecoder reads blocks with this decoder and the judge's. Both must read the
// same, or both refuse. Where the judge is more lenient is said below.
func FuzzDecoder(f *testing.F) {
	for _, s := range []string{
		"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", "\x40\x01a\x01b\xbe\xbe", "\x20\x82", "\x3f\xe1\x1f\x82",
		"\x10\x01a\x01b", "\x0f\x2f\x01x", "\x7f\x00\x05value\xbe", "\xff\x80\x80\x80\x80\x80", "\x80", "\x20\x3f\xe1\x1f",
	} {
		f.Add([]byte(s), uint8(len(s)/2))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		ours, theirs := NewDecoder(DefaultTableSize), judge.NewDecoder(DefaultTableSize, nil)
		k := min(int(cut), len(b))
		for _, block := range [][]byte{b[:k], b[k:]} {
			got, err := decodeAll(&ours, block)
			want, jerr := theirs.DecodeFull(block)
			if errors.Is(err, errInteger) || errors.Is(err, errUpdate) || multipleUpdates(block) {
				// The judge allows longer integers, an update after a field while
				// its table is empty, and not two updates while it is not.
				return
			}
			if (err != nil) != (jerr != nil) {
				t.Fatalf("block %x: %v, judge: %v", block, err, jerr)
			}
			if err != nil {
				return
			}
			if show(got) != showJudge(want) {
				t.Fatalf("block %x:\n%sjudge:\n%s", block, show(got), showJudge(want))
			}
		}
	})
}

// multipleUpdates reports whether a block begins with two table size updates.
func multipleUpdates(b []byte) bool {
	if len(b) == 0 || b[0]&0xe0 != 0x20 {
		return false
	}
	d := Decoder{block: b}
	_, err := d.integer(5)
	return err == nil && len(d.block) > 0 && d.block[0]&0xe0 == 0x20
}

// FuzzEncoder has both decoders read what the encoder wrote.
func FuzzEncoder(f *testing.F) {
	f.Add([]byte("a\x00b\x00a\x00b\x00a\x00b"))
	f.Add([]byte(":path\x00/\x00:path\x00/x\x00:path\x00/x\x00cookie\x00c"))
	f.Add([]byte("\x01\x00\x02\x00x\x00" + string(bytes.Repeat([]byte{'y'}, 3000)) + "\x00x\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ours, theirs := NewEncoder(), NewDecoder(DefaultTableSize), judge.NewDecoder(DefaultTableSize, nil)
		parts := bytes.Split(b, []byte{0})
		var in []head.Field
		for i := 0; i+1 < len(parts); i += 2 {
			in = append(in, head.Field{Name: parts[i], Value: parts[i+1]})
		}
		for round := range 3 {
			if len(b) > 0 && round == 1 {
				e.SetTableSize(uint32(b[0]) * 20)
				theirs.SetAllowedMaxDynamicTableSize(uint32(b[0]) * 20)
			}
			block := e.Begin(nil)
			for _, f := range in {
				block = e.AppendField(block, f)
			}
			got, err := decodeAll(&ours, block)
			if err != nil || show(got) != wanted(in) {
				t.Fatalf("round %d: (%v)\n%swant\n%s", round, err, show(got), wanted(in))
			}
			if want, err := theirs.DecodeFull(block); err != nil || showJudge(want) != wanted(in) {
				t.Fatalf("round %d: judge (%v)\n%swant\n%s", round, err, showJudge(want), wanted(in))
			}
		}
	})
}
