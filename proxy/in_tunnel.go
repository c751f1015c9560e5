package proxy

import (
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/transport"
	"github.com/tulle-mesh/tulle/proxy/tunnel"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// inDial is the connecting to the application for a connection that is bytes,
// or that may be.
type inDial struct {
	i    *inbound
	n    *sniffer
	over bool
}

// connect implements side: the policy first, then the application. Inside
// tulle/tcp the client is told how connecting went (R5.4).
func (i *inbound) connect(n *sniffer) {
	i.s.relieve()
	if i.s.p.shedding.Load() {
		i.s.refused(metrics.RefusedMemory)
		i.refuse(n, shedReason)
		return
	}
	if d := i.decide(); !d.Allow {
		i.refuse(n, "denied by "+d.Policy+": "+d.Reason)
		return
	}
	i.dial = &inDial{i: i, n: n}
	transport.Dial(&i.s.appParams, &transport.Remote{Addr: i.a.addr}, i.dial.dialed)
}

func (d *inDial) dialed(up *wire.Conn, err error) {
	i := d.i
	switch {
	case d.over || i.dial != d:
		if err == nil {
			up.Close()
		}
	case err != nil:
		i.refuse(d.n, "application "+i.a.addr.String()+": "+err.Error())
	default:
		if i.tcp && !i.told {
			i.told = true
			i.c.Append(hop.AppendResult(nil, ""))
		}
		d.n.connected(up, nil)
	}
}

// refuse ends a connection that gets no tunnel. Inside tulle/tcp the reason
// goes to the peer, which knows then that nothing was processed.
func (i *inbound) refuse(n *sniffer, reason string) {
	if !i.tcp || i.told {
		n.notConnected(reason)
		return
	}
	i.told = true
	i.c.Append(hop.AppendResult(nil, "inbound: "+reason))
	n.drop()
	i.c.Close()
	i.end(reason)
}

// tunnel implements side: the client and the application are joined.
func (i *inbound) tunnel(n *sniffer, up *wire.Conn) {
	s := i.s
	m := s.store.TCP(i.labels(), s.now())
	m.Open(s.now())
	s.tunnels++
	i.dial = nil
	over := false
	t := tunnel.Join(tunnel.Params{
		A: i.c, B: up, CountA: m, CountB: nothing{},
		EarlyA: n.buf, EarlyB: n.upBuf, EndedA: n.eof, EndedB: n.upEOF,
		Done: func(err error) {
			over = true
			s.tunnels--
			m.Close(errno(err), s.now())
			i.end("")
		},
	})
	if !over {
		i.tun = func() { t.Abort(errDenied) }
		i.recheck() // the policy may have changed since connect asked it
	}
}
