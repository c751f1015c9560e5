package slab

import "github.com/tulle-mesh/tulle/proxy/head"

// Heads that a Pool keeps for reuse: how many, and of how many fields.
const (
	keepHeads  = 8
	keepFields = 256
)

// Head lends an empty head for the time of one event, so that connections need
// none of their own. Its owner calls PutHead when done.
func (p *Pool) Head() *head.Head {
	if p == nil || len(p.heads) == 0 {
		return &head.Head{Fields: make([]head.Field, 0, 16), Length: -1}
	}
	h := p.heads[len(p.heads)-1]
	p.heads = p.heads[:len(p.heads)-1]
	return h
}

// PutHead takes back a head that Head lent. PutHead(nil) does nothing.
func (p *Pool) PutHead(h *head.Head) {
	if p == nil || h == nil || len(p.heads) == keepHeads || cap(h.Fields) > keepFields {
		return
	}
	clear(h.Fields) // or it keeps the bytes alive that it referred to
	h.Reset()
	p.heads = append(p.heads, h)
}
