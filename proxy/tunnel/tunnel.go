// Package tunnel joins two connections into one stream of bytes each way, each
// with its own half-close; a reset on one side resets the other.
package tunnel

import (
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// Counter hears how many bytes a side carried.
type Counter interface {
	Read(n int)
	Write(n int)
}

// Tunnel is a joined pair.
type Tunnel struct {
	ends [2]end
	done func(err error)
	over bool
}

// end is one side; it implements wire.User.
type end struct {
	t     *Tunnel
	c     *wire.Conn
	other *end
	count Counter
	eof   bool // this side's peer has ended its direction
}

// Params of a tunnel. A is the side that was accepted, B the one that was dialled.
type Params struct {
	A, B           *wire.Conn
	CountA, CountB Counter
	// EarlyA and EarlyB are bytes that came from A and B already.
	EarlyA, EarlyB []byte
	// EndedA and EndedB say that the side had half-closed already.
	EndedA, EndedB bool
	// Done hears the end once: nil when both directions ended cleanly.
	Done func(err error)
}

// Join makes p a tunnel.
func Join(p Params) *Tunnel {
	t := &Tunnel{done: p.Done}
	a, b := &t.ends[0], &t.ends[1]
	*a = end{t: t, c: p.A, other: b, count: p.CountA}
	*b = end{t: t, c: p.B, other: a, count: p.CountB}
	p.A.SetUser(a)
	p.B.SetUser(b)
	p.A.Resume()
	p.B.Resume()
	if len(p.EarlyA) > 0 {
		a.Received(p.EarlyA)
	}
	if len(p.EarlyB) > 0 {
		b.Received(p.EarlyB)
	}
	if p.EndedA {
		a.EOF()
	}
	if p.EndedB {
		b.EOF()
	}
	return t
}

// Received implements wire.User: bytes go straight to the other end.
func (e *end) Received(p []byte) {
	e.count.Read(len(p))
	o := e.other
	o.count.Write(len(p))
	o.c.Send(p)
	if o.c.Buffered() > o.c.High() {
		e.c.Pause()
	}
}

// EOF implements wire.User: one direction has ended.
func (e *end) EOF() {
	e.eof = true
	if e.other.eof {
		e.t.close(nil)
		return
	}
	e.other.c.CloseWrite()
}

// Flushed implements wire.User: the other end may send on.
func (e *end) Flushed(left int) {
	if left < e.c.Low() {
		e.other.c.Resume()
	}
}

// Failed implements wire.User: a reset is passed on as a reset (R3.6, R5.4).
func (e *end) Failed(err error) {
	if e.t.over {
		return
	}
	e.t.over = true
	e.other.c.Abort()
	e.t.done(err)
}

func (t *Tunnel) close(err error) {
	if t.over {
		return
	}
	t.over = true
	t.ends[0].c.Close()
	t.ends[1].c.Close()
	t.done(err)
}

// Abort resets both ends.
func (t *Tunnel) Abort(err error) {
	if t.over {
		return
	}
	t.over = true
	t.ends[0].c.Abort()
	t.ends[1].c.Abort()
	t.done(err)
}
