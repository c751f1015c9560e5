package charts

import (
	"bytes"
	"testing"
)

func TestTheSameOptionsGiveTheSameBytes(t *testing.T) {
	for _, name := range []string{Tulle, CRDs} {
		first, err := Render(Options{Chart: name})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			again, err := Render(Options{Chart: name})
			if err != nil || !bytes.Equal(first, again) {
				t.Fatalf("%s: another render differs (%v)", name, err)
			}
		}
	}
}
