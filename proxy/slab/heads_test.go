package slab

import (
	"testing"

	"github.com/tulle-mesh/tulle/proxy/head"
)

func TestHeadsAreLentEmpty(t *testing.T) {
	p := NewPool(nil)
	h := p.Head()
	h.Status, h.Method = 200, []byte("x")
	h.Add([]byte("a"), []byte("b"))
	fields := h.Fields
	p.PutHead(h)
	if again := p.Head(); again != h {
		t.Error("the head that came back is not lent again")
	}
	if h.Status != 0 || h.Method != nil || len(h.Fields) != 0 || h.Length != -1 {
		t.Errorf("not empty: %+v", h)
	}
	if fields[0].Name != nil {
		t.Error("a head in the pool keeps bytes alive")
	}
	p.PutHead(nil)
	big := &head.Head{Fields: make([]head.Field, 0, keepFields+1)}
	p.PutHead(big)
	if p.Head() == big {
		t.Error("an outsized head was kept")
	}
	var none *Pool
	none.PutHead(none.Head())
}
