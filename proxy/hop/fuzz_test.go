package hop

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// addGolden seeds f with the heads of testdata/golden.txt.
func addGolden(f *testing.F, add func(raw string)) {
	data, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		f.Fatal(err)
	}
	for entry := range strings.SplitSeq(strings.TrimRight(string(data), "\n"), "\n\n") {
		lines := strings.Split(entry, "\n")
		add(strings.Join(lines[1:len(lines)-1], "\r\n") + "\r\n\r\n")
	}
}

// FuzzCross: any head that the parser takes comes out of the hop byte for byte
// (R3.1, R5.3).
func FuzzCross(f *testing.F) {
	addGolden(f, func(raw string) {
		f.Add([]byte(raw), false)
		f.Add([]byte(raw), true)
	})
	f.Fuzz(func(t *testing.T, raw []byte, toHead bool) {
		h, err := read(raw, h1.Expect{Head: toHead, Upgrade: true})
		if err != nil {
			return
		}
		Strip(h)
		cross(t, h)
	})
}

// FuzzRestore: whatever a hostile peer sends, what comes out has just the fields
// that crossed, and the bytes parse to it again (R5.3).
func FuzzRestore(f *testing.F) {
	for _, v := range []string{"1H.", "10.", "1lH3c.", "1A8:http://aH.", "1V1:/H.", "1M4:POSTHG.", "1x8-H.", "1h1:b.", "1HT.", "1SR2:hi.", "1C.", "1N.", "1Ht8:gzip, chunked."} {
		for _, kind := range []uint8{0, 1, 2, 3} {
			f.Add([]byte(v), []byte("/p"), []byte("a"), []byte("content-type"), []byte("text/plain"), kind)
		}
	}
	f.Fuzz(func(t *testing.T, value, path, authority, name, field []byte, kind uint8) {
		h := &head.Head{Version: 20, Length: -1}
		switch kind % 5 {
		case 0:
			h.Method, h.Scheme, h.Target, h.Authority = []byte("GET"), []byte("http"), path, authority
		case 1:
			h.Method, h.Scheme, h.Target, h.Authority, h.Upgrade = []byte("CONNECT"), []byte("http"), path, authority, field
		case 2:
			h.Method, h.Authority = []byte("CONNECT"), authority
		case 3:
			h.Status = 200
		case 4:
			h.Status = 404
		}
		h.Add([]byte("accept"), []byte("*/*"))
		h.Add(name, field)
		h.Add([]byte(FieldHTTP1), value)
		var out head.Head
		buf, err := Restore(nil, h, h1.Limits{}, &out)
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) && !errors.Is(err, ErrPlain) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		checkRestored(t, h, &out, buf)
	})
}

// checkRestored holds the outcome of Restore against what crossed.
func checkRestored(t *testing.T, h, out *head.Head, buf []byte) {
	t.Helper()
	var again head.Head
	n, err := parse(buf, &again)
	if h.Status != 0 { // the framing may depend on the request
		again.Framing, again.Close = out.Framing, out.Close
	}
	if err != nil || n != len(buf) || same(out, &again) != "" {
		t.Errorf("%q parses as %d, %v\n%s", buf, n, err, same(out, &again))
	}
	// every field that crossed is there, in order, and only special ones besides
	i := 0
	for j := range h.Fields {
		want := &h.Fields[j]
		if Reserved(want.Name) {
			continue
		}
		for i < len(out.Fields) && specialOf(out.Fields[i].Name) != carried {
			i++
		}
		if i == len(out.Fields) || !bytes.EqualFold(out.Fields[i].Name, want.Name) || !bytes.Equal(out.Fields[i].Value, want.Value) {
			t.Errorf("field %q: %q is not where it was in %q", want.Name, want.Value, buf)
			return
		}
		i++
	}
	for ; i < len(out.Fields); i++ {
		if k := specialOf(out.Fields[i].Name); k == carried || k == dropped {
			t.Errorf("a field that never crossed: %q", out.Fields[i].Name)
		}
	}
	if lines := bytes.Count(buf, []byte("\n")); lines != len(out.Fields)+2 && lines != len(out.Fields)+3 {
		t.Errorf("%d lines for %d fields: %q", lines, len(out.Fields), buf)
	}
}
