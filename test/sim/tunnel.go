package sim

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// hello is what a tunnel's client says first: four bytes that no protocol
// begins with, and the request's number.
const helloLen = 8

const helloMagic = 0x00737901

// banner is what a server that speaks first says.
const banner = "+sim ready to serve\r\n"

// tunnelClient is the client of a raw tunnel.
type tunnelClient struct {
	s      *Sim
	call   *call
	e      *simnet.Endpoint
	body   *pacer
	banner string
	sent   bool
	gotEOF bool
}

func (k *tunnelClient) start() {
	call := k.call
	call.begin()
	k.e = call.c.host.Dial(call.to(), simnet.Callbacks{
		Connected: func(*simnet.Endpoint) {
			switch call.port {
			case portBanner:
			case portTLS:
				k.greet()
			default:
				k.speak()
			}
		},
		Data:    func(_ *simnet.Endpoint, p []byte) { k.received(p) },
		EOF:     func(*simnet.Endpoint) { k.eof() },
		Drained: func(*simnet.Endpoint) { k.body.drained() },
		Failed: func(_ *simnet.Endpoint, err error) {
			k.body.kill()
			call.r.Cut(err.Error())
			k.s.note("cut", uint64(call.r.ID))
		},
	})
	k.s.opened(k.e)
}

// greet sends a ClientHello of the application's own, in two pieces.
func (k *tunnelClient) greet() {
	hello := of(k.s, k.s.certs.hellos...)
	n := k.s.rng.IntN(len(hello))
	k.e.Write(hello[:n])
	k.s.W.After(k.s.upTo(of(k.s, 10*time.Microsecond, 20*time.Millisecond)), func() {
		if !k.e.Closed() {
			k.e.Write(hello[n:])
			k.speak()
		}
	})
}

func (k *tunnelClient) speak() {
	var b [helloLen]byte
	binary.BigEndian.PutUint32(b[:], helloMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(k.call.r.ID))
	k.e.Write(b[:])
	k.body = &pacer{
		s: k.s, e: k.e, fill: k.call.r.Fill, total: k.call.req, chunk: k.call.chunk, gap: k.call.gap,
		sent: &k.call.sentReq, stopAt: k.call.abortAt, stop: k.abort, done: k.wrote,
	}
	k.body.step()
}

func (k *tunnelClient) wrote() {
	if k.call.finLast && !k.gotEOF {
		return
	}
	k.sent = true
	k.call.r.SentEnd()
	k.e.CloseWrite()
	if k.gotEOF {
		k.e.Close(false)
	}
}

func (k *tunnelClient) abort() {
	k.body.kill()
	k.call.r.Abort()
	k.e.Close(true)
}

func (k *tunnelClient) received(p []byte) {
	call := k.call
	if n := len(banner) - len(k.banner); call.port == portBanner && n > 0 {
		n = min(n, len(p))
		k.banner += string(p[:n])
		p = p[n:]
		if k.banner != banner[:len(k.banner)] {
			k.s.O.Reportf(call.r.ID, "banner %q, %q was sent", k.banner, banner)
		}
		if k.banner == banner {
			k.speak()
		}
	}
	call.r.Receive(p)
	if st := &call.stallResp; st.at >= 0 {
		if st.at -= int64(len(p)); st.at < 0 {
			k.s.stalled(k.e, call, st)
		}
	}
	if call.abortGot >= 0 {
		if call.abortGot -= int64(len(p)); call.abortGot < 0 {
			k.abort()
		}
	}
}

func (k *tunnelClient) eof() {
	k.gotEOF = true
	k.call.r.End()
	k.s.note("end", uint64(k.call.r.ID))
	switch {
	case k.sent:
		k.e.Close(false)
	case k.body == nil: // the banner never came
		k.e.Close(false)
	case k.body.over:
		k.wrote()
	}
}

// tunnelServer is the server of a raw tunnel. One that speaks first may meet a
// ClientHello of the mesh: the network held that back for longer than a proxy
// waits for a silent client (R2.5); the peer tries again.
type tunnelServer struct {
	*appConn
	port   uint16
	buf    []byte
	call   *call
	a      *oracle.Attempt
	body   *pacer
	sent   bool
	gotEOF bool
	// helloSeen: the application's ClientHello is taken off.
	helloSeen bool
}

func newTunnelServer(c *appConn, port uint16) {
	c.do = &tunnelServer{appConn: c, port: port}
	if port == portBanner {
		c.e.Write([]byte(banner))
	}
}

func (k *tunnelServer) drained() { k.body.drained() }

func (k *tunnelServer) received(p []byte) {
	if k.call == nil {
		k.buf = append(k.buf, p...)
		if !k.greeted() || len(k.buf) < helloLen {
			return
		}
		if k.buf[0] == 0x16 && k.call == nil && k.port == portBanner {
			k.shut(true)
			return
		}
		id := binary.BigEndian.Uint32(k.buf[4:])
		if binary.BigEndian.Uint32(k.buf) != helloMagic || id == 0 || int(id) > len(k.s.calls) {
			k.s.O.Reportf(0, "server %s got a tunnel that nobody opened: %x", k.v.name, k.buf[:helloLen])
			k.shut(true)
			return
		}
		p = k.buf[helloLen:]
		k.call = k.s.calls[id-1]
		k.a = k.s.arrive(k.call, k.v)
		if k.v.bad == badReset {
			k.breakOff()
			return
		}
		if !k.call.eofFirst {
			k.s.W.After(k.call.delay, k.respond)
		}
	}
	k.a.Receive(p)
	if st := &k.call.stallReq; st.at >= 0 {
		if st.at -= int64(len(p)); st.at < 0 {
			k.s.stalled(k.e, k.call, st)
		}
	}
}

// greeted takes the ClientHello off that an application's TLS begins with; it is
// false until it is there.
func (k *tunnelServer) greeted() bool {
	if k.port != portTLS || k.helloSeen {
		return true
	}
	for _, h := range k.s.certs.hellos {
		switch n := min(len(h), len(k.buf)); {
		case !bytes.Equal(h[:n], k.buf[:n]):
		case n < len(h):
			return false
		default:
			k.buf, k.helloSeen = k.buf[n:], true
			return true
		}
	}
	k.s.O.Reportf(0, "server %s got a ClientHello that nobody sent", k.v.name)
	k.shut(true)
	return false
}

func (k *tunnelServer) respond() {
	if k.gone || k.body != nil {
		return
	}
	k.body = &pacer{
		s: k.s, e: k.e, fill: k.a.Fill, total: k.call.resp, chunk: k.call.chunk, gap: k.call.gap,
		sent: &k.call.sentResp, stopAt: k.call.resetAt, stop: k.breakOff,
		done: func() {
			k.sent = true
			k.a.SentEnd()
			k.e.CloseWrite()
			k.settle()
		},
	}
	k.body.step()
}

func (k *tunnelServer) breakOff() {
	k.s.broke(k.call, k.v)
	k.a.Reset()
	k.shut(true)
}

func (k *tunnelServer) shut(reset bool) {
	if !k.gone {
		k.gone = true
		k.body.kill()
		k.e.Close(reset)
	}
}

func (k *tunnelServer) settle() {
	if k.sent && k.gotEOF {
		k.shut(false)
	}
}

func (k *tunnelServer) eof() {
	k.gotEOF = true
	if k.a == nil {
		k.shut(false)
		return
	}
	k.a.End()
	if k.call.eofFirst {
		k.respond()
	}
	k.settle()
}

func (k *tunnelServer) failed() {
	k.body.kill()
	if k.a != nil {
		k.a.Cut()
	}
}
