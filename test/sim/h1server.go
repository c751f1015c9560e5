package sim

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// appConn is a connection that an application has accepted.
type appConn struct {
	s  *Sim
	v  *server
	e  *simnet.Endpoint
	do interface {
		received(p []byte)
		eof()
		failed()
		drained()
	}
	gone bool
}

// listen opens the server's application ports.
func (v *server) listen() {
	open := func(port uint16, f func(c *appConn)) {
		l, err := v.host.Listen(netip.AddrPortFrom(v.host.IP(), port), func(e *simnet.Endpoint, _ loop.Accepted) simnet.Callbacks {
			c := &appConn{s: v.s, v: v, e: e}
			v.conns = append(v.conns, c)
			v.s.opened(e)
			f(c)
			return simnet.Callbacks{
				Data:    func(_ *simnet.Endpoint, p []byte) { c.do.received(p) },
				EOF:     func(*simnet.Endpoint) { c.do.eof() },
				Drained: func(*simnet.Endpoint) { c.do.drained() },
				Failed:  func(*simnet.Endpoint, error) { c.gone = true; c.do.failed() },
			}
		})
		must(err)
		v.listeners = append(v.listeners, l)
	}
	open(portHTTP, func(c *appConn) { c.do = &httpDetect{c: c} })
	for _, port := range ports[1:] {
		open(port, func(c *appConn) { newTunnelServer(c, port) })
	}
}

// crash kills the applications: nobody listens, connections break.
func (v *server) crash(reset bool) {
	v.down = true
	for _, l := range v.listeners {
		must(l.Close())
	}
	v.listeners = nil
	for _, c := range v.conns {
		if !c.gone {
			c.gone = true
			c.e.Close(reset)
			c.do.failed()
		}
	}
	v.conns = nil
}

func (v *server) restart() {
	v.down = false
	v.listen()
}

// httpDetect tells HTTP/1 from HTTP/2 by the preface.
type httpDetect struct {
	c   *appConn
	buf []byte
}

func (d *httpDetect) received(p []byte) {
	d.buf = append(d.buf, p...)
	n := min(len(d.buf), len(h2Preface))
	switch {
	case string(d.buf[:n]) != h2Preface[:n]:
		newH1Server(d.c)
	case n == len(h2Preface):
		newH2Server(d.c)
	default:
		return
	}
	d.c.do.received(d.buf)
}
func (d *httpDetect) eof()     { d.c.gone = true; d.c.e.Close(false) }
func (d *httpDetect) failed()  {}
func (d *httpDetect) drained() {}

// h1Server serves one HTTP/1 connection of a proxy, a request at a time.
type h1Server struct {
	*appConn
	rd       *h1Reader
	call     *call
	a        *oracle.Attempt
	body     *pacer
	gotAll   bool
	began    bool // the response was begun
	sentAll  bool
	closing  bool
	tunnel   bool
	gotEOF   bool
	requests int
	rude     bool // the request in hand
}

func newH1Server(c *appConn) *h1Server {
	k := &h1Server{appConn: c}
	k.rd = &h1Reader{head: k.head, data: k.data, end: k.end}
	c.do = k
	return k
}

func (k *h1Server) drained() { k.body.drained() }

func (k *h1Server) received(p []byte) {
	if err := k.rd.feed(p); err != nil {
		k.s.O.Reportf(0, "server %s got bytes that are no HTTP/1: %v", k.v.name, err)
		k.shut(true)
	}
}

func (k *h1Server) head(start string, fs []field) (framing, int64) {
	k.requests++
	part := strings.Split(start, " ")
	if get(fs, "x-oracle-id") == rude {
		return k.bear(fs)
	}
	call := k.s.find(get(fs, "x-oracle-id"))
	if call == nil || len(part) != 3 {
		k.s.O.Reportf(0, "server %s got a request that nobody sent: %q %v", k.v.name, start, fs)
		k.shut(true)
		return framingTunnel, 0
	}
	k.call, k.gotAll, k.began, k.sentAll = call, false, false, false
	k.a = k.s.arrive(call, k.v)
	k.checkHead(part, fs)
	switch {
	case k.v.bad == badReset:
		k.breakOff()
		return framingTunnel, 0
	case call.upgrade:
		k.tunnel = true
		k.later()
		return framingTunnel, 0
	case call.early:
		k.later()
	case call.expect:
		k.e.Write(appendHead("HTTP/1.1 100 Continue", []field{{"X-Oracle-Id", call.number()}}))
	}
	switch {
	case strings.EqualFold(get(fs, "transfer-encoding"), "chunked"):
		return framingChunked, 0
	case get(fs, "content-length") != "":
		n, _ := strconv.ParseInt(get(fs, "content-length"), 10, 63)
		return framingLength, n
	}
	return framingNone, 0
}

// checkHead holds R3.1: what went in came out.
func (k *h1Server) checkHead(part []string, fs []field) {
	call := k.call
	target := call.path()
	if call.absolute {
		target = "http://sim" + target
	}
	if call.method == "CONNECT" {
		target = "sim:80"
	}
	version := "HTTP/1.1"
	if call.old {
		version = "HTTP/1.0"
	}
	if want := call.method + " " + target + " " + version; strings.Join(part, " ") != want {
		k.s.O.Reportf(call.r.ID, "server %s got %q, %q was sent", k.v.name, strings.Join(part, " "), want)
	}
	k.s.compare(call, "request", endToEnd(fs), call.reqFields, false)
	k.s.clientID(call, k.v, fs)
}

func (k *h1Server) data(p []byte) {
	if k.a == nil {
		return
	}
	k.a.Receive(p)
	if st := &k.call.stallReq; st.at >= 0 {
		if st.at -= int64(len(p)); st.at < 0 {
			k.s.stalled(k.e, k.call, st)
		}
	}
}

func (k *h1Server) end(trailers []field) {
	if k.rude {
		k.gotAll, k.sentAll, k.rude = true, true, false
		k.e.Write(appendHead("HTTP/1.1 404 Rude", []field{{"content-length", "0"}}))
		k.rd.hold = false
		return
	}
	k.gotAll = true
	k.rd.hold = true
	if k.a == nil {
		return
	}
	k.a.Trailers(line(trailers, false))
	k.a.End()
	if !k.call.early {
		k.later()
	}
	k.rest()
}

// later begins the response after the call's delay.
func (k *h1Server) later() {
	a := k.a
	k.s.W.After(k.call.delay, func() {
		if k.a == a && !k.gone && !k.began && !a.Over() {
			k.respond()
		}
	})
}

func (k *h1Server) respond() {
	k.began = true
	call := k.call
	if call.resetAt == 0 {
		k.breakOff()
		return
	}
	for range call.info {
		k.e.Write(appendHead("HTTP/1.1 103 Early", []field{{"X-Oracle-Id", call.number()}, {"LINK", "x"}}))
	}
	status := call.status
	if k.v.bad == badStatus {
		status = 503
		call.r.Excusef("the application answers 503")
	}
	fs := []field{{"x-OrAcLe-id", call.number()}, {"X-Thing", "one"}, {"x-thing", "two"}}
	frame := call.respFrame
	if status != call.status {
		frame = framingLength
	}
	length := call.resp
	if status != call.status {
		length = 0
	}
	switch {
	case call.upgrade && status == 101:
		fs = append(fs, field{"Upgrade", "sim/1"})
	case call.upgrade, status == 204, status == 304:
	case frame == framingLength:
		fs = append(fs, field{"Content-length", strconv.FormatInt(max(length, 0), 10)})
	case frame == framingChunked:
		fs = append(fs, field{"Transfer-Encoding", "chunked"})
	}
	call.respFields = fs
	all := fs
	switch {
	case call.upgrade && status == 101:
		all = append(all, field{"Connection", "upgrade"})
	case frame == framingClose || call.close:
		k.closing = true
		all = append(all, field{"Connection", "close"})
	case call.old:
		all = append(all, field{"Connection", "keep-alive"})
	}
	call.reason = "Fine"
	start := fmt.Sprintf("HTTP/1.1 %d Fine", status)
	if !k.s.o.plain && k.s.one(4) { // servers exist that leave the space out too
		call.reason, start = "", start[:len("HTTP/1.1 200")+k.s.rng.IntN(2)]
	}
	k.e.Write(k.s.oddHead(start, k.s.oneHop(call, call.lie(all))))
	if status != call.status {
		k.a.Answer(status, 0, "")
		if call.upgrade {
			k.a.NoTunnel()
		}
		k.sentHead()
		return
	}
	k.a.Answer(status, k.length(), line(call.respTrail, false))
	if call.upgrade && call.eofFirst && !k.gotEOF {
		return
	}
	k.stream()
}

func (k *h1Server) stream() {
	call := k.call
	k.body = &pacer{
		s: k.s, e: k.e, fill: k.a.Fill, total: k.length(), chunk: call.chunk, gap: call.gap, stopAt: call.resetAt, sent: &call.sentResp,
		stop: k.breakOff, done: k.sent,
	}
	if call.respFrame == framingChunked && !call.upgrade {
		k.body.wrap = call.chunker()
	}
	k.body.step()
}

// length is that of the body that is really sent.
func (k *h1Server) length() int64 {
	if k.call.method == "HEAD" {
		return 0
	}
	return k.call.resp
}

func (k *h1Server) sent() {
	if call := k.call; call.respFrame == framingChunked && !call.upgrade && call.method != "HEAD" {
		k.e.Write(appendLastChunk(nil, call.lieTrail(call.respTrail)))
	}
	k.sentHead()
}

// sentHead notes that the response is whole.
func (k *h1Server) sentHead() {
	k.sentAll = true
	k.a.SentEnd()
	if k.tunnel {
		k.e.CloseWrite()
		if k.gotEOF {
			k.shut(false)
		}
		return
	}
	if k.closing && !k.gotAll {
		k.turnAway()
		return
	}
	k.rest()
}

// turnAway ends a connection whose request was answered before it was whole: the
// rest is thrown away for a while: the reset that comes then must not overtake
// the answer (RFC 9112, section 9.6), however slowly its reader takes it.
func (k *h1Server) turnAway() {
	k.a.Enough()
	k.a = nil
	k.e.CloseWrite()
	const most = time.Second
	each := 2*time.Millisecond + 10*k.s.o.weather.LocalDelay + k.s.upTo(5*time.Millisecond)
	var lingered time.Duration
	var look func()
	look = func() {
		if lingered += each; !k.e.Taken() && lingered < most && !k.gone {
			k.s.W.After(each, look)
			return
		}
		k.shut(false)
	}
	k.s.W.After(each, look)
}

// rest waits for the next request once this one is done with.
func (k *h1Server) rest() {
	if !k.gotAll || !k.sentAll {
		return
	}
	last := k.length()
	k.a, k.call, k.body = nil, nil, nil
	if k.closing {
		k.shut(false)
		return
	}
	n := k.requests
	if d := k.v.idleClose; d > 0 {
		k.s.W.After(d, func() {
			if !k.gone && k.requests == n && k.rd.idle() {
				k.s.idleClosed(k.v, last)
				k.shut(false)
			}
		})
	}
	k.rd.hold = false
	k.received(nil)
}

// breakOff resets the connection in the middle of a response.
func (k *h1Server) breakOff() {
	k.s.broke(k.call, k.v)
	k.a.Reset()
	k.a = nil
	k.shut(!k.call.politely || !k.began)
}

func (k *h1Server) shut(reset bool) {
	if k.gone {
		return
	}
	k.gone = true
	k.body.kill()
	k.e.Close(reset)
}

func (k *h1Server) eof() {
	k.gotEOF = true
	switch {
	case k.tunnel && k.a != nil:
		k.a.End()
		if k.sentAll {
			k.shut(false)
		} else if k.began && k.call.eofFirst && k.body == nil {
			k.stream()
		}
	case k.a != nil:
		k.a.Cut()
		k.shut(true)
	default:
		k.shut(false)
	}
}

func (k *h1Server) failed() {
	k.body.kill()
	if k.a != nil {
		k.a.Cut()
		k.a = nil
	}
}

// bear takes a request of a rude client, which may only be whole when it has no body.
func (k *h1Server) bear(fs []field) (framing, int64) {
	k.rude, k.a, k.call = true, nil, nil
	if get(fs, "transfer-encoding") == "" {
		return framingNone, 0
	}
	return framingTunnel, 0
}
