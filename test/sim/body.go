package sim

import (
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// pacer writes a patterned body to a connection: the next piece when the last
// one has left, and a pause in between where the script wants one.
type pacer struct {
	s    *Sim
	e    *simnet.Endpoint
	fill func(p []byte, off int64)
	// wrap frames a piece; nil leaves it bare.
	wrap  func(b, p []byte) []byte
	total int64
	chunk int
	gap   time.Duration
	// stop is called instead of going on once stopAt bytes were written; stopAt is
	// negative for never.
	stopAt int64
	stop   func()
	done   func()
	// sent, if there is one, is told how far it came.
	sent *int64

	off     int64
	waiting bool // for the connection to drain
	over    bool
	buf     []byte
}

// step writes the next piece.
func (p *pacer) step() {
	p.waiting = false
	if p.over || p.e.Closed() {
		return
	}
	end := p.total
	if p.stopAt >= 0 {
		end = min(end, p.stopAt)
	}
	n := min(int64(p.chunk), end-p.off)
	if n > 0 {
		b := make([]byte, n)
		p.fill(b, p.off)
		p.off += n
		if p.sent != nil {
			*p.sent = p.off
		}
		if p.wrap != nil {
			b = p.wrap(p.buf[:0], b)
			p.buf = b
		}
		p.e.Write(b)
	}
	switch {
	case p.off == end && p.stopAt >= 0:
		p.over = true
		p.stop()
	case p.off == end:
		p.over = true
		p.done()
	default:
		p.waiting = true
	}
}

// drained is told that all that was written has left.
func (p *pacer) drained() {
	if p == nil || !p.waiting {
		return
	}
	if p.gap == 0 {
		p.step()
		return
	}
	p.waiting = false
	p.s.W.After(p.s.upTo(p.gap), p.step)
}

// kill ends the writing.
func (p *pacer) kill() {
	if p != nil {
		p.over = true
	}
}
