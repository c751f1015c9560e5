package simnet

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

// Turner is the worker that a World drives: a *loop.Worker.
type Turner interface {
	Turn(now mono.Time, ready []loop.Ready)
	NextDeadline() mono.Time
}

// source is a socket or a listener of a poller.
type source interface {
	membership() *membership
	ready() (r loop.Ready, again bool)
	close(reset bool)
}

// membership of a source in a poller.
type membership struct {
	token  loop.Token
	place  int // in Poller.members, from 1
	listed bool
	told   bool // Err or Hup has been reported since the last Want
}

// Poller implements loop.Poller for one worker on one host.
type Poller struct {
	w        *World
	host     *Host
	id       uint64
	worker   Turner
	members  []source
	listed   []source // may be ready
	buf      []loop.Ready
	woken    bool
	closed   bool
	due      bool      // a turn is scheduled
	deadline mono.Time // of the worker's next timer, 0: none

	failAccepts int
	failWith    error
}

// NewPoller returns a poller whose sockets are on h. World.Drive gives it a
// worker; without one Wait runs the world.
func (h *Host) NewPoller() *Poller {
	h.w.ids++
	return &Poller{w: h.w, host: h, id: h.w.ids}
}

// Drive has the world turn worker, which waits with p, from now on.
func (w *World) Drive(p *Poller, worker Turner) {
	p.worker = worker
	w.driven = append(w.driven, p)
	p.Wake()
}

// Sockets is the number of sockets and listeners that the poller has open.
func (p *Poller) Sockets() int { return len(p.members) }

// Now implements loop.Poller.
func (p *Poller) Now() mono.Time { return p.w.now }

// Wake implements loop.Poller; in a simulation it is called on the one
// goroutine that there is.
func (p *Poller) Wake() {
	p.woken = true
	p.soon()
}

// soon schedules a turn after the delay that a scheduler takes.
func (p *Poller) soon() {
	if p.due || p.worker == nil {
		return
	}
	p.due = true
	p.w.push(event{at: p.w.now.Add(1 + p.w.upTo(p.w.cfg.TurnDelay)), kind: kindTurn, poller: p})
}

// turnSoon is the turn that soon has scheduled, if it is still of use.
func (p *Poller) turnSoon() {
	p.due = false
	if p.woken || len(p.listed) > 0 {
		p.turn()
	}
}

// turn is the World's part of loop.Worker.Run.
func (p *Poller) turn() {
	if p.worker == nil {
		return
	}
	w := p.w
	w.stats.Turns++
	p.woken = false
	p.deadline = 0
	p.buf = p.collect(p.buf[:0])
	w.note(kindTurn, p.id, len(p.buf))
	p.worker.Turn(w.now, p.buf)
	if p.worker != nil { // else killed in its own turn
		at := p.worker.NextDeadline()
		if at != 0 && at <= w.now {
			p.woken = true
		} else if at != 0 {
			p.deadline = at.Add(w.upTo(w.cfg.TurnDelay))
		}
		if p.woken || len(p.listed) > 0 {
			p.soon()
		}
	}
	w.schedule()
}

// schedule finds whose timer is due first.
func (w *World) schedule() {
	w.next = nil
	for _, p := range w.driven {
		if p.deadline != 0 && (w.next == nil || p.deadline < w.next.deadline) {
			w.next = p
		}
	}
}

// list has s looked at by the next turn.
func (p *Poller) list(s source) {
	m := s.membership()
	if m.listed || m.place == 0 {
		return
	}
	m.listed = true
	p.listed = append(p.listed, s)
	p.soon()
}

// collect appends what is ready, in any order; the weather holds some back and
// makes some up.
func (p *Poller) collect(dst []loop.Ready) []loop.Ready {
	p.w.rng.Shuffle(len(p.listed), func(i, j int) { p.listed[i], p.listed[j] = p.listed[j], p.listed[i] })
	n := len(dst)
	keep := p.listed[:0]
	for _, s := range p.listed {
		if p.w.chance(p.w.cfg.Withhold) {
			p.w.stats.WithheldReady++
			keep = append(keep, s)
			continue
		}
		r, again := s.ready()
		s.membership().told = r.Err || r.Hup
		if r.In || r.Out || r.Err || r.Hup {
			dst = append(dst, r)
		}
		if s.membership().listed = again; again {
			keep = append(keep, s)
		}
	}
	clear(p.listed[len(keep):])
	p.listed = keep
	if len(dst) > n && len(p.members) > 0 && p.w.chance(p.w.cfg.Spurious) {
		dst = p.spurious(dst)
	}
	return dst
}

func (p *Poller) spurious(dst []loop.Ready) []loop.Ready {
	e, ok := p.members[p.w.rng.IntN(len(p.members))].(*end)
	if !ok || e.member.listed || !e.wantIn || e.connecting {
		return dst
	}
	p.w.stats.SpuriousReady++
	return append(dst, loop.Ready{Token: e.member.token, In: true})
}

// Wait implements loop.Poller for tests of sockets without a worker: it runs
// the world until there is something to report.
func (p *Poller) Wait(dst []loop.Ready, deadline mono.Time) []loop.Ready {
	n := len(dst)
	p.w.Run(p.w.now.Add(time.Microsecond)) // no wait takes no time
	for {
		dst = p.collect(dst)
		woken := p.woken
		p.woken = false
		if len(dst) > n || woken || p.closed || deadline != 0 && p.w.now >= deadline {
			return dst
		}
		switch {
		case len(p.listed) > 0:
			p.w.Run(p.w.now.Add(time.Microsecond))
		case deadline == 0:
			if !p.w.step(1<<63 - 1) {
				return dst // nothing will ever happen
			}
		case !p.w.step(deadline):
			p.w.now = deadline
		}
	}
}

func (p *Poller) join(s source, t loop.Token) {
	p.members = append(p.members, s)
	*s.membership() = membership{token: t, place: len(p.members)}
	p.list(s)
}

func (p *Poller) leave(s source) {
	m := s.membership()
	if m.place == 0 {
		return
	}
	last := p.members[len(p.members)-1]
	p.members[m.place-1] = last
	last.membership().place = m.place
	p.members[len(p.members)-1] = nil
	p.members = p.members[:len(p.members)-1]
	m.place = 0 // a listed one answers that it is closed
}

// Listen implements loop.Poller.
func (p *Poller) Listen(addr netip.AddrPort, opts loop.ListenOptions, t loop.Token) (loop.Listener, error) {
	l := &Listener{opts: opts, poller: p}
	if err := p.host.bind(l, addr); err != nil {
		return nil, err
	}
	p.join(l, t)
	return l, nil
}

// Dial implements loop.Poller.
func (p *Poller) Dial(addr netip.AddrPort, _ loop.DialOptions, t loop.Token) (loop.Socket, error) {
	e := p.w.newEnd(p.host)
	if err := p.host.connect(e, addr, false); err != nil {
		return nil, fmt.Errorf("connect %s: %w", addr, err)
	}
	e.poller, e.wantOut = p, true
	p.join(e, t)
	return &Socket{e}, nil
}

// Attach implements loop.Poller.
func (p *Poller) Attach(s loop.Socket, t loop.Token) {
	e := s.(*Socket).e
	switch {
	case e.closed:
	case e.poller == nil:
		e.poller, e.wantIn = p, true
		p.join(e, t)
	case e.poller != p:
		panic("BUG: socket attached to a second poller")
	default:
		e.member.token = t
	}
}

// Close implements loop.Poller. It is also what happens to a process that is
// killed: its worker turns no more, and the kernel closes what it had open.
func (p *Poller) Close() error {
	p.closed = true
	p.worker, p.deadline = nil, 0
	p.w.driven = slices.DeleteFunc(p.w.driven, func(o *Poller) bool { return o == p })
	p.w.schedule()
	for len(p.members) > 0 {
		p.members[len(p.members)-1].close(false)
	}
	p.listed = nil
	return nil
}

func (l *Listener) close(bool) { l.Close() }

// Socket implements loop.Socket.
type Socket struct{ e *end }

// Read implements loop.Socket.
func (s *Socket) Read(p []byte) (int, error) { return s.e.read(p) }

// Write implements loop.Socket.
func (s *Socket) Write(p []byte) (int, error) { return s.e.write(p) }

// CloseWrite implements loop.Socket.
func (s *Socket) CloseWrite() error { return s.e.closeWrite() }

// Close implements loop.Socket.
func (s *Socket) Close(reset bool) { s.e.close(reset) }

// Want implements loop.Socket.
func (s *Socket) Want(in, out bool) {
	e := s.e
	if e.closed || e.wantIn == in && e.wantOut == out {
		return
	}
	e.wantIn, e.wantOut, e.member.told = in, out, false
	e.changed()
}

// ConnectError implements loop.Connecting.
func (s *Socket) ConnectError() error {
	if s.e.connecting {
		return loop.ErrAgain
	}
	return s.e.err
}

// ID numbers the socket in the world's trace.
func (s *Socket) ID() uint64 { return s.e.id }

// Addrs implements loop.Addresser.
func (s *Socket) Addrs() (local, remote netip.AddrPort) { return s.e.local, s.e.remote }
