package proxy

import (
	"errors"
	"net/netip"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// acceptsPerTurn bounds how many connections one listener accepts in one turn.
const acceptsPerTurn = 64

// door is a listener of one worker.
type door struct {
	s *shard
	l loop.Listener
	// open takes an accepted connection; dst is where its client wanted to go.
	open func(sock loop.Socket, info wire.Info, dst netip.AddrPort)
	// redirected doors need an original destination (R1.2).
	redirected bool
	self       netip.AddrPort
	failing    bool // accept errors are told on change
}

func (s *shard) listen(addr netip.AddrPort, redirected bool, open func(loop.Socket, wire.Info, netip.AddrPort)) error {
	d := &door{s: s, open: open, redirected: redirected}
	opts := loop.ListenOptions{ReusePort: s.p.cfg.Workers > 1, OriginalDst: redirected}
	l, err := s.w.Poller().Listen(addr, opts, s.w.Register(d))
	if err != nil {
		return err
	}
	d.l, d.self = l, l.Addr()
	s.doors = append(s.doors, d)
	return nil
}

// Ready implements loop.Handler. Errors never end the loop (R1.1).
func (d *door) Ready(loop.Ready) {
	for range acceptsPerTurn {
		sock, a, err := d.l.Accept()
		switch {
		case errors.Is(err, loop.ErrAgain):
			d.failing = false
			return
		case err != nil:
			d.s.acceptFailed(d, err)
			return
		}
		d.accept(sock, a)
	}
}

func (d *door) accept(sock loop.Socket, a loop.Accepted) {
	s := d.s
	if s.wire.Open() >= s.maxConns {
		s.refused(metrics.RefusedConnections)
		sock.Close(true)
		return
	}
	if d.redirected && (!a.OriginalDst.IsValid() || a.OriginalDst == d.self) {
		s.refused(metrics.RefusedLoop) // a loop, or not redirected at all
		sock.Close(true)
		return
	}
	dst := a.OriginalDst
	if !d.redirected {
		dst = a.Local
	}
	d.open(sock, wire.Info{Remote: a.Remote, Local: a.Local}, dst)
}
