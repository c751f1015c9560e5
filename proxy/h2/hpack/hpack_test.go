package hpack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	judge "golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/head"
)

func fld(name, value string) head.Field {
	return head.Field{Name: []byte(name), Value: []byte(value)}
}

// decodeAll decodes one block; fields are copied.
func decodeAll(d *Decoder, block []byte) ([]head.Field, error) {
	var out []head.Field
	d.Begin(block, nil)
	defer d.Scratch()
	for {
		var f head.Field
		ok, err := d.Next(&f)
		if err != nil || !ok {
			return out, err
		}
		f.Name, f.Value = bytes.Clone(f.Name), bytes.Clone(f.Value)
		out = append(out, f)
	}
}

func show(fields []head.Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%q=%q", f.Name, f.Value)
		if f.Sensitive {
			b.WriteString(" (never indexed)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func showJudge(fields []judge.HeaderField) string {
	var out []head.Field
	for _, f := range fields {
		out = append(out, head.Field{Name: []byte(f.Name), Value: []byte(f.Value), Sensitive: f.Sensitive})
	}
	return show(out)
}

func TestHuffmanAgreesWithJudge(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		s := make([]byte, rng.IntN(60))
		for j := range s {
			if i%2 == 0 {
				s[j] = byte(rng.Uint32())
			} else {
				s[j] = byte(0x20 + rng.IntN(0x5f))
			}
		}
		want := judge.AppendHuffmanString(nil, string(s))
		got := appendEncoded(nil, s)
		if !bytes.Equal(got, want) || len(want) != encodedLen(s) {
			t.Fatalf("encoding %q: %x (length %d), want %x", s, got, encodedLen(s), want)
		}
		if back, ok := appendDecoded(nil, got); !ok || !bytes.Equal(back, s) {
			t.Fatalf("decoding %x: %q %v, want %q", got, back, ok, s)
		}
	}
}

func TestHuffmanRefusesWhatTheJudgeRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200000 {
		s := make([]byte, rng.IntN(9))
		for j := range s {
			s[j] = byte(rng.Uint64() | rng.Uint64())
		}
		if rng.IntN(2) == 0 && len(s) > 0 {
			s[len(s)-1] |= 0xff >> rng.IntN(9)
		}
		want, err := judge.HuffmanDecodeToString(s)
		got, ok := appendDecoded(nil, s)
		if ok != (err == nil) || ok && string(got) != want {
			t.Fatalf("%x: %q %v, want %q %v", s, got, ok, want, err)
		}
	}
}

// RFC 7541, appendix C.
func TestDecoderReadsTheExamplesOfTheRFC(t *testing.T) {
	const request = ":method=GET :scheme=http :path=/ :authority=www.example.com"
	for _, tc := range []struct {
		name   string
		size   uint32
		blocks []string
		last   string
		table  uint32 // size afterwards
	}{
		{"C.3", 4096, []string{
			"828684410f7777772e6578616d706c652e636f6d",
			"828684be58086e6f2d6361636865",
			"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
		}, ":method=GET :scheme=https :path=/index.html :authority=www.example.com custom-key=custom-value", 164},
		{"C.4", 4096, []string{
			"828684418cf1e3c2e5f23a6ba0ab90f4ff",
			"828684be5886a8eb10649cbf",
			"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
		}, ":method=GET :scheme=https :path=/index.html :authority=www.example.com custom-key=custom-value", 164},
		{"C.6", 256, []string{
			"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
			"4883640effc1c0bf",
			"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
		}, ":status=200 cache-control=private date=Mon, 21 Oct 2013 20:13:22 GMT location=https://www.example.com content-encoding=gzip set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1", 215},
		{"C.3.1", 4096, []string{"828684410f7777772e6578616d706c652e636f6d"}, request, 57},
	} {
		d := NewDecoder(tc.size)
		var got []string
		for _, b := range tc.blocks {
			fields, err := decodeAll(&d, unhex(t, b))
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			got = got[:0]
			for _, f := range fields {
				got = append(got, string(f.Name)+"="+string(f.Value))
			}
		}
		if g := strings.Join(got, " "); g != tc.last || d.table.size != tc.table {
			t.Errorf("%s: %s (table %d)\nwant %s (table %d)", tc.name, g, d.table.size, tc.last, tc.table)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	var b []byte
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecoderErrors(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		want        error
	}{
		{"index 0", "80", errIndex},
		{"index beyond the tables", "be", errIndex},
		{"name beyond the tables", "7e0161", errIndex},
		{"integer that ends early", "ff80", errTruncated},
		{"integer of six octets", "ff808080808001", errInteger},
		{"integer too large", "ffffffffff7f", errInteger},
		{"literal without a name", "40", errTruncated},
		{"name that ends early", "40036162", errTruncated},
		{"no value", "400161", errTruncated},
		{"value that ends early", "4001610562", errTruncated},
		{"EOS", "40016184ffffffff", errHuffman},
		{"padding of eight bits", "400161860000000000ff", errHuffman},
		{"padding of zeros", "4001618118", errHuffman},
		{"update after a field", "8220", errUpdate},
		{"update over the limit", "3fe21f", errSize},
	} {
		d := NewDecoder(4096)
		if _, err := decodeAll(&d, unhex(t, tc.block)); err != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// R4.5: one byte that names a large entry costs nothing once the caller has
// enough.
func TestSkippedFieldsCostNoMemory(t *testing.T) {
	d := NewDecoder(4096)
	block := append([]byte{0x40, 1, 'a', 0x7f, 0xa1, 0x1e}, bytes.Repeat([]byte{'v'}, 4000)...)
	for range 60000 {
		block = append(block, 0xbe)
	}
	d.Begin(block, nil)
	var f head.Field
	for i := 0; ; i++ {
		if i == 10 {
			d.Skip()
		}
		ok, err := d.Next(&f)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if i > 10 && len(f.Value) > 0 {
			t.Fatal("a skipped field has a value")
		}
	}
	if n := len(d.Scratch()); n > 10*4001 {
		t.Errorf("scratch grew to %d bytes", n)
	}
}

// randomFields makes a head in which much repeats, some varies and some is odd.
func randomFields(rng *rand.Rand) []head.Field {
	names := []string{":path", ":authority", "accept", "user-agent", "x-a", "x-b", "x-c", "content-type",
		"cookie", "traceparent", "date", "accept-encoding", ":method", ":status", "x-long-name-of-a-field"}
	var out []head.Field
	for range rng.IntN(12) {
		f := fld(names[rng.IntN(len(names))], fmt.Sprint("value-", rng.IntN(6)))
		switch rng.IntN(12) {
		case 0:
			f.Value = make([]byte, rng.IntN(1500))
			for i := range f.Value {
				f.Value[i] = byte(rng.Uint32())
			}
		case 1:
			f.Value = nil
		case 2:
			f.Name = fmt.Append(nil, "x-", rng.IntN(300))
		case 3:
			f.Sensitive = true
		}
		out = append(out, f)
	}
	return out
}

func TestEncoderIsReadByJudgeAndDecoder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		e, d := NewEncoder(), NewDecoder(DefaultTableSize)
		j := judge.NewDecoder(DefaultTableSize, nil)
		for range 40 {
			if rng.IntN(8) == 0 {
				// The peer's SETTINGS: its decoder's limit is the same at once, as
				// both sides know from the acknowledgement.
				n := uint32(rng.IntN(6000))
				e.SetTableSize(n)
				if rng.IntN(3) == 0 {
					n = uint32(rng.IntN(6000))
					e.SetTableSize(n)
				}
				j.SetAllowedMaxDynamicTableSize(n)
			}
			in := randomFields(rng)
			block := e.Begin(nil)
			for _, f := range in {
				block = e.AppendField(block, f)
			}
			want := wanted(in)
			theirs, err := j.DecodeFull(block)
			if got := showJudge(theirs); err != nil || got != want {
				t.Fatalf("seed %d: judge reads (%v)\n%swant\n%s", seed, err, got, want)
			}
			ours, err := decodeAll(&d, block)
			if got := show(ours); err != nil || got != want {
				t.Fatalf("seed %d: decoder reads (%v)\n%swant\n%s", seed, err, got, want)
			}
		}
	}
}

func wanted(in []head.Field) string {
	var out []head.Field
	for _, f := range in {
		f.Sensitive = f.Sensitive || PolicyOf(f.Name) == Never
		out = append(out, f)
	}
	return show(out)
}

func TestDecoderReadsTheJudgesEncoder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var buf bytes.Buffer
		j := judge.NewEncoder(&buf)
		d := NewDecoder(DefaultTableSize)
		for range 40 {
			if rng.IntN(8) == 0 {
				j.SetMaxDynamicTableSize(uint32(rng.IntN(4097)))
			}
			in := randomFields(rng)
			buf.Reset()
			for _, f := range in {
				_ = j.WriteField(judge.HeaderField{Name: string(f.Name), Value: string(f.Value), Sensitive: f.Sensitive})
			}
			got, err := decodeAll(&d, buf.Bytes())
			if err != nil || show(got) != show(in) {
				t.Fatalf("seed %d: (%v)\n%swant\n%s", seed, err, show(got), show(in))
			}
		}
	}
}

func TestFieldsThatVaryLeaveTheTableAlone(t *testing.T) {
	e := NewEncoder()
	for i := range 50 {
		var b []byte
		for _, name := range []string{"traceparent", "date", "cookie", "authorization", "x-request-id"} {
			b = e.AppendField(b, fld(name, "same"))
		}
		// A name that no list knows: every value once.
		e.AppendField(b, fld("x-user", fmt.Sprint("user-", i)))
	}
	if e.table.count != 0 {
		t.Errorf("%d entries, want none", e.table.count)
	}
}

func TestCookieIsNeverIndexed(t *testing.T) {
	e := NewEncoder()
	for _, f := range []head.Field{fld("cookie", "a=b"), fld("authorization", "Bearer x"), {Name: []byte("x"), Value: []byte("y"), Sensitive: true}} {
		for range 3 {
			if b := e.AppendField(nil, f); b[0]&0xf0 != 0x10 {
				t.Errorf("%s: first byte %#x, want a literal never indexed", f.Name, b[0])
			}
		}
	}
}

func TestRepeatedFieldCostsOneByte(t *testing.T) {
	e := NewEncoder()
	n := 0
	for range 3 {
		n = len(e.AppendField(nil, fld("user-agent", "curl/8.0")))
	}
	if n != 1 {
		t.Errorf("third time: %d bytes, want 1", n)
	}
}

func TestTableMemoryIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	tab := table{max: 4096}
	for range 20000 {
		name, value := make([]byte, rng.IntN(40)), make([]byte, rng.IntN(1<<rng.IntN(13)))
		tab.insert(name, value)
		if tab.size > 4096 || cap(tab.buf) > 4096 || len(tab.ents) > 256 {
			t.Fatalf("size %d, buffer %d, entries %d", tab.size, cap(tab.buf), len(tab.ents))
		}
	}
}

func requestFields() []head.Field {
	return []head.Field{
		fld(":method", "POST"), fld(":scheme", "http"), fld(":path", "/shop.Catalog/List"), fld(":authority", "catalog.shop:80"),
		fld("content-type", "application/grpc"), fld("user-agent", "grpc-go/1.85.0"), fld("te", "trailers"),
		fld("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), fld("grpc-timeout", "999732u"),
	}
}

func TestWarmCodecsDoNotAllocate(t *testing.T) {
	if race.Enabled {
		t.Skip("allocation counts do not hold under the race detector")
	}
	e, d := NewEncoder(), NewDecoder(DefaultTableSize)
	fields, scratch, block := requestFields(), make([]byte, 0, 4096), make([]byte, 0, 4096)
	n := testing.AllocsPerRun(1000, func() {
		block = e.Begin(block[:0])
		for _, f := range fields {
			block = e.AppendField(block, f)
		}
		d.Begin(block, scratch[:0])
		var f head.Field
		for {
			if ok, err := d.Next(&f); !ok || err != nil {
				break
			}
		}
		scratch = d.Scratch()
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	e := NewEncoder()
	fields, block := requestFields(), make([]byte, 0, 4096)
	for b.Loop() {
		block = e.Begin(block[:0])
		for _, f := range fields {
			block = e.AppendField(block, f)
		}
	}
	b.ReportMetric(float64(len(block)), "bytes/block")
}

func BenchmarkDecode(b *testing.B) {
	e, d := NewEncoder(), NewDecoder(DefaultTableSize)
	var block []byte
	scratch := make([]byte, 0, 4096)
	step := func() {
		d.Begin(block, scratch[:0])
		var f head.Field
		for {
			if ok, err := d.Next(&f); !ok || err != nil {
				break
			}
		}
		scratch = d.Scratch()
	}
	for range 3 {
		block = e.Begin(block[:0])
		for _, f := range requestFields() {
			block = e.AppendField(block, f)
		}
		step()
	}
	for b.Loop() {
		step()
	}
}

// BenchmarkHuffman is why values that are sent every time are sent plain: what
// both ends pay for the bytes saved.
func BenchmarkHuffman(b *testing.B) {
	for _, s := range []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", strings.Repeat("session=abcdef0123456789; ", 10)} {
		src := []byte(s)
		coded := appendEncoded(nil, src)
		dst := make([]byte, 0, 2*len(src))
		b.Run(fmt.Sprintf("encode/%d", len(src)), func(b *testing.B) {
			for b.Loop() {
				_ = encodedLen(src)
				dst = appendEncoded(dst[:0], src)
			}
			b.ReportMetric(float64(len(src)-len(coded)), "bytes-saved")
		})
		b.Run(fmt.Sprintf("decode/%d", len(src)), func(b *testing.B) {
			for b.Loop() {
				dst, _ = appendDecoded(dst[:0], coded)
			}
		})
		b.Run(fmt.Sprintf("plain/%d", len(src)), func(b *testing.B) {
			for b.Loop() {
				dst = append(dst[:0], src...)
			}
		})
	}
}
