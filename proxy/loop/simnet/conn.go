package simnet

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

// pipe is one direction of a connection. buf[head:] holds, in this order, what
// has arrived and not been read, what is in flight, and what waits to be sent.
type pipe struct {
	from, to *end
	buf      []byte
	head     int
	arrived  int
	flying   int
	last     mono.Time // when the last packet arrives: they stay in order
	fin      bool      // the sender has closed
	finSent  bool
	eof      bool // the FIN has arrived
	opening  bool // a window update is on its way
	dead     bool // reset: nothing arrives any more
}

func (p *pipe) queued() int { return len(p.buf) - p.head - p.arrived - p.flying }

// room is what a write may take: sent bytes occupy the buffer until they arrive.
func (p *pipe) room() int { return p.from.w.cfg.SendBuffer - p.queued() - p.flying }

func (p *pipe) write(b []byte) int {
	n := min(len(b), max(p.room(), 0))
	if n > 0 {
		n = p.from.w.cutShort(n, &p.from.w.stats.PartialWrites)
		p.buf = append(p.buf, b[:n]...)
		if tap := p.from.w.tap; tap != nil {
			tap(p.from.local, p.from.remote, b[:n])
		}
		p.pump()
	}
	return n
}

// pump sends what the receiver's window admits.
func (p *pipe) pump() {
	w := p.from.w
	if p.from.connecting || p.dead {
		return
	}
	for p.queued() > 0 {
		window := w.cfg.ReceiveBuffer - p.arrived - p.flying
		if window <= 0 {
			w.stats.WindowStalls++
			return
		}
		n := min(p.queued(), window, w.cfg.Segment)
		if n > 1 && w.chance(w.cfg.Partial) {
			n = 1 + w.rng.IntN(n)
		}
		p.flying += n
		p.send(event{kind: kindSegment, n: n})
	}
	if p.fin && !p.finSent {
		p.finSent = true
		p.send(event{kind: kindFIN})
	}
}

// send schedules a packet behind those before it.
func (p *pipe) send(e event) {
	e.end = p.to
	e.at = max(p.last+1, p.from.w.now.Add(p.from.w.delay(p.from.host, p.to.host)))
	p.last = e.at
	p.from.w.push(e)
}

func (p *pipe) arrive(n int) {
	w := p.from.w
	if p.dead || p.to.host.off {
		return
	}
	w.note(kindSegment, p.to.id, n)
	w.stats.Bytes += uint64(n)
	p.flying -= n
	p.arrived += n
	if p.to.closed {
		p.to.sendRST() // RFC 9293, 3.10.7.1: no such connection
		return
	}
	p.to.changed()
	if p.from.app == nil || len(p.from.app.queue) > 0 {
		p.from.changed() // room to write
	}
}

func (p *pipe) arriveFIN() {
	if p.dead || p.to.host.off {
		return
	}
	p.from.w.note(kindFIN, p.to.id, 0)
	p.eof = true
	p.to.changed()
}

func (p *pipe) read(b []byte) int {
	n := min(len(b), p.arrived)
	n = p.from.w.cutShort(n, &p.from.w.stats.PartialReads)
	copy(b, p.buf[p.head:p.head+n])
	p.head += n
	p.arrived -= n
	if p.head == len(p.buf) {
		p.buf, p.head = p.buf[:0], 0
	} else if p.head > 64<<10 && p.head > len(p.buf)/2 {
		p.buf = append(p.buf[:0], p.buf[p.head:]...)
		p.head = 0
	}
	if p.queued() > 0 && !p.opening && !p.dead {
		p.opening = true
		w := p.from.w
		w.push(event{at: w.now.Add(w.delay(p.to.host, p.from.host)), kind: kindWindow, end: p.from})
	}
	return n
}

func (p *pipe) opened() {
	p.opening = false
	p.pump()
}

// kill forgets what was not received.
func (p *pipe) kill() {
	p.dead = true
	p.buf = p.buf[:p.head+p.arrived]
	p.flying = 0
}

// end is one end of a connection, as a kernel sees it.
type end struct {
	w             *World
	id            uint64
	host          *Host
	local, remote netip.AddrPort
	goal          netip.AddrPort // where the dialler wanted to go
	peer          *end           // nil until the SYN has arrived
	in, out       *pipe
	place         int // in World.conns, from 1

	connecting bool
	dialled    mono.Time
	hopeless   bool // connecting will time out
	// offer: the listener that gets the accepted end with the handshake's last packet.
	offer   *Listener
	offered loop.Accepted
	err     error // stays
	closed  bool

	member membership
	poller *Poller
	app    *Endpoint // or of a callback-driven endpoint

	wantIn, wantOut bool
}

func (w *World) newEnd(h *Host) *end {
	w.ids++
	e := &end{w: w, id: w.ids, host: h}
	e.out = &pipe{from: e}
	e.in = &pipe{to: e}
	return e
}

// changed lets the owner see what is new.
func (e *end) changed() {
	switch {
	case e.closed:
	case e.app != nil:
		e.app.wake()
	case e.poller != nil:
		if r, _ := e.ready(); r.In || r.Out || r.Err || r.Hup {
			e.poller.list(e)
		}
	}
}

func (e *end) membership() *membership { return &e.member }

func (e *end) over() bool { return e.err != nil || e.in.eof && e.out.fin }

func (e *end) ready() (r loop.Ready, again bool) {
	if e.closed || e.connecting {
		return loop.Ready{}, false
	}
	over := e.over()
	in := e.wantIn && (e.in.arrived > 0 || e.in.eof || e.err != nil)
	if over && !in && e.member.told {
		return loop.Ready{}, false
	}
	r = loop.Ready{
		Token: e.member.token,
		In:    in,
		Out:   e.wantOut && (over || 3*e.out.room() >= e.w.cfg.SendBuffer),
		Err:   e.err != nil,
		Hup:   over && e.err == nil,
	}
	return r, r.In || r.Out && !over
}

func (e *end) read(b []byte) (int, error) {
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case len(b) == 0:
		return 0, nil
	case e.in.arrived > 0:
		n := e.in.read(b)
		e.w.note(kindRead, e.id, n)
		return n, nil
	case e.err != nil:
		return 0, e.err
	case e.in.eof:
		return 0, io.EOF
	}
	return 0, loop.ErrAgain
}

func (e *end) write(b []byte) (int, error) {
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case e.err != nil:
		return 0, e.err
	case e.out.fin:
		return 0, syscall.EPIPE
	case len(b) == 0:
		return 0, nil
	case e.connecting:
		return 0, loop.ErrAgain
	}
	n := e.out.write(b)
	if n == 0 {
		return 0, loop.ErrAgain
	}
	e.w.note(kindWrite, e.id, n)
	return n, nil
}

func (e *end) closeWrite() error {
	if e.closed || e.connecting || e.err != nil {
		return syscall.ENOTCONN
	}
	if !e.out.fin {
		e.w.stats.HalfCloses++
		e.out.fin = true
		e.out.pump()
		e.changed()
	}
	return nil
}

func (e *end) close(reset bool) {
	if e.closed {
		return
	}
	e.w.note(kindClose, e.id, 0)
	e.closed = true
	if e.poller != nil {
		e.poller.leave(e)
	}
	e.w.forget(e)
	switch {
	case e.connecting || e.err != nil || e.peer == nil:
	case reset || e.in.arrived > 0:
		e.sendRST()
	case !e.out.fin:
		e.out.fin = true
		e.out.pump()
	}
}

// sendRST tells the peer that the connection is gone. It may overtake what is
// in flight, and what was not sent never is.
func (e *end) sendRST() {
	w := e.w
	e.out.kill()
	w.push(event{at: w.now.Add(w.delay(e.host, e.peer.host)), kind: kindRST, end: e.peer, err: syscall.ECONNRESET})
}

func (e *end) arriveRST(err error) {
	e.withdraw()
	e.in.dead = true
	e.in.kill()
	e.out.kill()
	if e.closed || e.err != nil || e.host.off {
		return
	}
	e.w.note(kindRST, e.id, 0)
	e.w.stats.Resets++
	e.connecting = false
	e.err = err
	e.changed()
}

// delay draws how long a packet takes.
func (w *World) delay(from, to *Host) time.Duration {
	if from == to {
		return w.cfg.LocalDelay + w.upTo(w.cfg.LocalDelay)
	}
	d := w.cfg.Delay + from.extra + to.extra + w.upTo(w.cfg.Jitter)
	if w.chance(w.cfg.Late) {
		w.stats.LatePackets++
		d += w.upTo(20 * (w.cfg.Delay + w.cfg.Jitter))
	}
	return d + w.partitioned(from, to)
}
