package sim

import (
	"strconv"

	"golang.org/x/net/http2"

	"github.com/tulle-mesh/tulle/test/oracle"
)

// h2Server serves one HTTP/2 connection of a proxy.
type h2Server struct {
	*appConn
	w    *h2Wire
	last uint32 // the last stream that is served
	away bool   // GOAWAY was sent: later streams are ignored
}

// served is a stream that an h2Server works on.
type served struct {
	a     *oracle.Attempt
	began bool
	body  func() // of a tunnel whose server waits for the client's end
}

func newH2Server(c *appConn) *h2Server {
	k := &h2Server{appConn: c}
	c.do = k
	k.w = newH2Wire(c.s, c.e, k, false)
	c.v.h2 = append(c.v.h2, k)
	return k
}

func (k *h2Server) received(p []byte) { k.w.received(p) }
func (k *h2Server) drained()          { k.w.drained() }
func (k *h2Server) goAway(uint32)     {}

func (k *h2Server) broken(string) {
	k.e.Close(true)
	k.failed()
}

func (k *h2Server) head(st *h2Stream, id uint32, fs []field, end bool) {
	if st != nil { // trailers
		x := st.user.(*served)
		x.a.Trailers(line(fs, true))
		k.end(st)
		return
	}
	if k.away || id <= k.last {
		return
	}
	if get(fs, "x-oracle-id") == rude {
		k.last = id // it is refused, or never ends
		return
	}
	if get(fs, "x-oracle-id") == hog {
		k.last = id
		k.feed(id)
		return
	}
	call := k.s.find(get(fs, "x-oracle-id"))
	if call == nil {
		k.s.O.Reportf(0, "server %s got a request that nobody sent: %v", k.v.name, fs)
		return
	}
	k.last = id
	if k.w.acked && len(k.w.streams) >= int(k.w.limit) {
		k.s.O.Reportf(call.r.ID, "server %s got more than the %d streams that it allows", k.v.name, k.w.limit)
	}
	x := &served{a: k.s.arrive(call, k.v)}
	st = k.w.open(id, call)
	st.user, st.gotEnd = x, end
	st.fill = x.a.Fill
	k.checkHead(call, fs)
	switch {
	case call.refuse > 0 && call.refuseAt == 0:
		k.refuse(st)
		return
	case k.v.bad == badRefuse:
		call.r.Excusef("the application refuses everything")
		k.refuse(st)
		return
	case k.v.bad == badReset:
		k.breakOff(st)
		return
	case call.early, call.upgrade:
		k.later(st)
	case call.expect:
		k.w.sendHead(st.id, []field{{":status", "100"}, {"x-oracle-id", call.number()}}, false)
		k.w.flush()
	}
	if end {
		k.end(st)
	}
}

// refuse tells the peer that the stream was not processed.
func (k *h2Server) refuse(st *h2Stream) {
	st.call.refuse--
	k.s.Kinds.add(KindRefuse)
	if st.call.direct != nil { // there is no proxy that would go elsewhere (R7.1)
		st.call.r.Excusef("refused, and its client has no proxy")
	}
	if k.s.shaken() > 0 || k.s.o.script.Has(KindStale) { // of three attempts this is one (R7.1)
		st.call.r.Excusef("refused, and what else is tried may fail too")
	}
	st.user.(*served).a.Refuse()
	k.w.rst(st, uint32(http2.ErrCodeRefusedStream))
}

func (k *h2Server) checkHead(call *call, fs []field) {
	if call.upgrade {
		if get(fs, ":method") != "CONNECT" || get(fs, ":authority") != "sim:80" || get(fs, ":path") != "" {
			k.s.O.Reportf(call.r.ID, "server %s got %v", k.v.name, fs)
		}
	} else if len(fs) < 4 || get(fs, ":method") != call.method || get(fs, ":path") != call.path() || get(fs, ":authority") != "sim" || get(fs, ":scheme") != "http" {
		k.s.O.Reportf(call.r.ID, "server %s got %v", k.v.name, fs[:min(len(fs), 4)])
	}
	var got []field
	for _, f := range endToEnd(fs) {
		if f.name[0] != ':' {
			got = append(got, f)
		}
	}
	k.s.compare(call, "request", got, call.reqFields, true)
	k.s.clientID(call, k.v, fs)
}

func (k *h2Server) data(st *h2Stream, p []byte, end bool) {
	x := st.user.(*served)
	x.a.Receive(p)
	if st.call.refuse > 0 && x.a.Received() >= st.call.refuseAt {
		k.refuse(st)
		return
	}
	k.w.hold(st, &st.call.stallReq, len(p))
	if end {
		k.end(st)
	}
}

func (k *h2Server) end(st *h2Stream) {
	x := st.user.(*served)
	if st.call.falseLength != 0 {
		k.s.O.Reportf(st.call.r.ID, "its body is not as long as its head said, but ended cleanly")
	}
	x.a.End()
	switch {
	case x.body != nil:
		x.body()
	case !st.call.early && !st.call.upgrade:
		k.later(st)
	}
	k.settled(st)
}

func (k *h2Server) later(st *h2Stream) {
	x := st.user.(*served)
	k.s.W.After(st.call.delay, func() {
		if !k.gone && !x.began && !x.a.Over() {
			x.began = true
			k.respond(st, x)
		}
	})
}

func (k *h2Server) respond(st *h2Stream, x *served) {
	call := st.call
	if call.resetAt == 0 {
		k.breakOff(st)
		return
	}
	for range call.info {
		k.w.sendHead(st.id, []field{{":status", "103"}, {"x-oracle-id", call.number()}}, false)
	}
	status, length, trailers := call.status, call.resp, call.respTrail
	if k.v.bad == badStatus {
		call.r.Excusef("the application answers 503")
		status, length, trailers = 503, 0, nil
		if call.grpc {
			status, trailers = 200, []field{{"grpc-status", "14"}}
		}
	}
	fs := []field{{"x-oracle-id", call.number()}, {"x-thing", "one"}, {"x-thing", "two"}}
	if call.grpc {
		fs = append(fs, field{"content-type", "application/grpc"})
	}
	if call.respFrame == framingLength && (length > 0 || call.method != "HEAD" && status != 204 && status != 304 && !call.grpc) {
		fs = append(fs, field{"content-length", strconv.FormatInt(length, 10)})
	}
	bare := call.grpc && length == 0 && call.resetAt < 0 // trailers-only
	if bare {
		fs = append(fs, trailers...)
		trailers = nil
	}
	call.respFields = fs
	x.a.Answer(status, length, line(trailers, true))
	all := call.lie(append([]field{{":status", strconv.Itoa(status)}}, fs...))
	tunnel := call.upgrade && status == call.status
	if call.upgrade && !tunnel {
		x.a.NoTunnel()
	}
	end := length == 0 && len(trailers) == 0 && (bare || call.chunk%200 != 0) && !tunnel
	k.w.sendHead(st.id, all, end)
	if end {
		st.sentEnd = true
		k.sent(st, x)
		k.w.flush()
		return
	}
	if status == call.status {
		st.stopAt = call.resetAt
	}
	st.stop, st.sent = func() { k.breakOff(st) }, &call.sentResp
	if len(trailers) > 0 {
		trailers = call.lieTrail(trailers)
	}
	x.body = func() {
		x.body = nil
		k.w.sendBody(st, length, trailers, func() { k.sent(st, x) })
	}
	if tunnel && call.eofFirst && !st.gotEnd {
		k.w.flush()
		return
	}
	x.body()
}

func (k *h2Server) sent(st *h2Stream, x *served) {
	x.a.SentEnd()
	k.settled(st)
}

func (k *h2Server) settled(st *h2Stream) {
	k.w.settled(st)
	k.done()
}

// done closes a connection that was told to end and has.
func (k *h2Server) done() {
	if k.away && len(k.w.streams) == 0 && !k.gone && !k.w.dead {
		k.w.flush()
		k.w.dead = true
		k.e.CloseWrite() // the rest when the peer has gone: a RST now would overtake what was sent
	}
}

// breakOff resets a stream in the middle of its response.
func (k *h2Server) breakOff(st *h2Stream) {
	x := st.user.(*served)
	k.s.broke(st.call, k.v)
	st.call.broken, st.call.brokenCode = true, st.call.code
	x.a.Reset()
	k.w.rst(st, st.call.code)
	k.done()
}

// leave sends GOAWAY: streams after the last one are not served.
func (k *h2Server) leave() {
	if k.gone || k.away {
		return
	}
	k.away = true
	must(k.w.fr.WriteGoAway(k.last, http2.ErrCodeNo, nil))
	k.w.flush()
	k.s.W.After(k.s.o.goAwayWait, k.done)
}

func (k *h2Server) reset(st *h2Stream, code uint32) {
	x := st.user.(*served)
	if !x.a.Over() && st.call.r.Over() && st.call.sentCode != 0 && code != st.call.sentCode && !k.s.disturbed {
		k.s.O.Reportf(st.call.r.ID, "the client's reset had code %d, the server got %d", st.call.sentCode, code)
	}
	x.a.Cut()
	k.done()
}

func (k *h2Server) eof() {
	k.e.Close(false)
	k.failed()
}

func (k *h2Server) failed() {
	k.gone, k.w.dead = true, true
	for _, st := range k.w.streams {
		st.user.(*served).a.Cut()
	}
	k.w.streams = nil
}
