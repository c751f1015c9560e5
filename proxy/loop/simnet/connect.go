package simnet

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// synRetry is when a connect tries again that found the backlog full.
const synRetry = time.Second

// connect begins to connect e; an error at once is possible. redirectable
// connections may be taken by the host's outgoing redirect.
func (h *Host) connect(e *end, to netip.AddrPort, redirectable bool) error {
	w := h.w
	if !to.Addr().IsValid() || to.Addr().IsMulticast() || to.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return syscall.ENETUNREACH
	}
	w.stats.Connects++
	e.connecting = true
	e.goal, e.remote = to, to
	from := h.ip
	if to.Addr().IsLoopback() {
		from = to.Addr()
	}
	if redirectable && !to.Addr().IsLoopback() && h.out.applies(to.Port()) {
		e.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), h.out.port)
	}
	e.local = netip.AddrPortFrom(from, h.ephemeral())
	w.conns = append(w.conns, e)
	e.place = len(w.conns)
	e.dialled = w.now
	outcome := Normal
	if w.onDial != nil {
		outcome = w.onDial(h.ip, to)
	}
	target := w.target(e)
	switch {
	case outcome == Lost:
		e.lost()
	case outcome == Refused:
		w.push(event{at: w.now.Add(2 * w.delay(h, h)), kind: kindSYNACK, end: e, err: syscall.ECONNREFUSED})
	case outcome == Unreachable, target == nil:
		w.push(event{at: w.now.Add(w.delay(h, h)), kind: kindSYNACK, end: e, err: syscall.EHOSTUNREACH})
	default:
		w.push(event{at: w.now.Add(w.delay(h, target)), kind: kindSYN, end: e})
	}
	return nil
}

// target is the host that e connects to.
func (w *World) target(e *end) *Host {
	if e.host.local(e.remote.Addr()) {
		return e.host
	}
	return w.find(e.remote.Addr())
}

func (e *end) arriveSYN() {
	w, h := e.w, e.w.target(e)
	if e.closed || !e.connecting {
		return
	}
	if h == nil || h.off || e.host.off {
		e.lost()
		return
	}
	w.note(kindSYN, e.id, 0)
	local := e.remote
	if h != e.host && h.in.applies(local.Port()) {
		local = netip.AddrPortFrom(h.ip, h.in.port)
	}
	back := w.now.Add(w.delay(h, e.host))
	l := h.listening(local)
	switch {
	case l == nil:
		w.push(event{at: back, kind: kindSYNACK, end: e, err: syscall.ECONNREFUSED})
		return
	case l.full():
		w.stats.BacklogFull++
		w.push(event{at: w.now.Add(synRetry), kind: kindSYN, end: e})
		e.lost()
		return
	}
	p := w.newEnd(h)
	p.local, p.remote, p.peer = local, e.local, e
	e.peer = p
	e.out.to, p.in = p, e.out
	p.out.to, e.in = e, p.out
	e.in.last = back
	w.push(event{at: back, kind: kindSYNACK, end: e})
	a := loop.Accepted{Remote: e.local, Local: local}
	if e.goal != local {
		a.OriginalDst = e.goal
	}
	p.offer, p.offered = l, a
	l.half++
}

// arriveACK ends the handshake: only now is there something to accept.
func (e *end) arriveACK() {
	l := e.offer
	if l == nil {
		return
	}
	e.withdraw()
	switch {
	case e.closed || e.err != nil || e.host.off:
	case l.closed:
		e.close(true)
	default:
		l.offer(e, e.offered)
	}
}

// lost has the kernel give up in the end.
func (e *end) lost() {
	if !e.hopeless {
		e.hopeless = true
		e.w.push(event{at: e.dialled.Add(e.w.cfg.ConnectTimeout), kind: kindSYNACK, end: e, err: syscall.ETIMEDOUT})
	}
}

func (e *end) arriveSYNACK(err error) {
	if e.closed || !e.connecting || e.host.off {
		if err == nil && e.closed && e.peer != nil {
			e.sendRST() // the dialler has given up meanwhile
		}
		return
	}
	e.w.note(kindSYNACK, e.id, 0)
	e.connecting = false
	e.err = err
	switch err {
	case syscall.ECONNREFUSED:
		e.w.stats.Refused++
	case syscall.EHOSTUNREACH:
		e.w.stats.Unreachable++
	case syscall.ETIMEDOUT:
		e.w.stats.ConnectTimeouts++
	}
	if err != nil {
		e.w.forget(e)
	}
	if err == nil {
		e.out.send(event{kind: kindACK})
	}
	e.out.pump()
	e.changed()
}

// withdraw takes an end back whose handshake has ended, or never will.
func (e *end) withdraw() {
	if e.offer != nil {
		e.offer.half--
		e.offer = nil
	}
}

// forget takes a dialling end off the list of open connections.
func (w *World) forget(e *end) {
	if e.place == 0 {
		return
	}
	last := w.conns[len(w.conns)-1]
	w.conns[e.place-1] = last
	last.place = e.place
	w.conns[len(w.conns)-1] = nil
	w.conns = w.conns[:len(w.conns)-1]
	e.place = 0
}
