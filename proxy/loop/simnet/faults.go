package simnet

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// Outcome of a connect, as a script decides it.
type Outcome uint8

// Outcomes. Lost connects end by a timeout alone.
const (
	Normal Outcome = iota
	Refused
	Unreachable
	Lost
)

// OnDial has f decide over every connect; nil ends that.
func (w *World) OnDial(f func(from netip.Addr, to netip.AddrPort) Outcome) { w.onDial = f }

type cut struct {
	a, b  *Host
	until mono.Time
}

// Partition holds all packets between two hosts back for d, as if they were
// lost and sent again afterwards.
func (w *World) Partition(a, b *Host, d time.Duration) {
	w.cuts = append(w.cuts, cut{a, b, w.now.Add(d)})
}

// partitioned is how long a packet sent now is held back.
func (w *World) partitioned(from, to *Host) (held time.Duration) {
	keep := w.cuts[:0]
	for _, c := range w.cuts {
		if c.until <= w.now {
			continue
		}
		keep = append(keep, c)
		if c.a == from && c.b == to || c.a == to && c.b == from {
			held = max(held, c.until.Sub(w.now))
		}
	}
	w.cuts = keep
	if held > 0 {
		w.stats.Partitioned++
	}
	return held
}

// Slow adds d to every packet from and to h; 0 ends that.
func (h *Host) Slow(d time.Duration) { h.extra = d }

// ResetWhere resets, as a box on the way does, both ends of every connection
// whose dialling and original destination addresses match, and returns how many.
func (w *World) ResetWhere(match func(from, to netip.AddrPort) bool) (n int) {
	for _, e := range w.conns {
		if e.peer == nil || e.connecting || !match(e.local, e.goal) {
			continue
		}
		n++
		e.cut()
	}
	return n
}

// ResetAny resets one random connection; false when there is none.
func (w *World) ResetAny() bool {
	open := make([]*end, 0, len(w.conns))
	for _, e := range w.conns {
		if e.peer != nil && !e.connecting {
			open = append(open, e)
		}
	}
	if len(open) == 0 {
		return false
	}
	open[w.script.IntN(len(open))].cut()
	return true
}

func (e *end) cut() {
	w := e.w
	for _, x := range [...]*end{e, e.peer} {
		w.push(event{at: w.now.Add(w.delay(e.host, e.peer.host)), kind: kindRST, end: x, err: syscall.ECONNRESET})
	}
}

// keepAliveLimit is when a peer is given up that answers nothing any more: ten
// keep-alive probes of 10 s.
const keepAliveLimit = 100 * time.Second

// Off takes the host from the net without a word: what was connected to it
// learns of that from keep-alive alone, and connects to it are lost.
func (h *Host) Off() {
	w := h.w
	h.off = true
	for _, e := range w.conns {
		if e.peer == nil {
			continue
		}
		for _, x := range [...]*end{e, e.peer} {
			if x.host != h && x.peer.host == h {
				w.push(event{at: w.now.Add(keepAliveLimit), kind: kindRST, end: x, err: syscall.ETIMEDOUT})
			}
		}
	}
}

// FailAccepts makes the next n accepts of p's listeners fail with err (EMFILE).
func (p *Poller) FailAccepts(n int, err error) { p.failAccepts, p.failWith = n, err }
