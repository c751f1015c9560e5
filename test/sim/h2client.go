package sim

import (
	"strconv"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// h2Client sends calls over one HTTP/2 connection, several at a time.
type h2Client struct {
	s      *Sim
	c      *client
	calls  []*call
	w      *h2Wire
	nextID uint32
	away   bool // the peer has said GOAWAY
	closed bool
	past   []*call // answered on this connection before they were sent
}

func newH2Client(s *Sim, c *client, calls []*call) *h2Client {
	return &h2Client{s: s, c: c, calls: calls}
}

func (k *h2Client) start() {
	if len(k.calls) == 0 {
		return
	}
	k.nextID, k.away, k.closed, k.past = 1, false, false, nil
	first := k.calls[0]
	var w *h2Wire
	e := k.c.host.Dial(first.to(), simnet.Callbacks{
		Data:    func(_ *simnet.Endpoint, p []byte) { w.received(p) },
		EOF:     func(*simnet.Endpoint) { k.lost(w, "connection closed") },
		Drained: func(*simnet.Endpoint) { w.drained() },
		Failed:  func(_ *simnet.Endpoint, err error) { k.lost(w, err.Error()) },
	})
	w = newH2Wire(k.s, e, k, true)
	k.w = w
	for range 1 + k.s.rng.IntN(4) { // not only one after the other
		k.send()
	}
}

// send opens a stream for the next call.
func (k *h2Client) send() {
	if k.closed || k.away || len(k.calls) == 0 || len(k.w.streams) >= k.w.maxStreams {
		k.maybeClose()
		return
	}
	call := k.calls[0]
	k.calls = k.calls[1:]
	call.begin()
	st := k.w.open(k.nextID, call)
	k.nextID += 2
	fs := []field{{"x-oracle-id", call.number()}, {"x-mixed", "a  b"}, {"x-mixed", ""}, {"cookie", "secret=" + marker}}
	if call.grpc {
		fs = append(fs, field{"content-type", "application/grpc"}, field{"te", "trailers"})
	}
	if call.patience > 0 {
		fs = append(fs, field{"grpc-timeout", strconv.Itoa(int(call.patience/time.Microsecond)) + "u"})
	}
	if call.reqFrame == framingLength && call.req > 0 || call.falseLength != 0 {
		fs = append(fs, field{"content-length", strconv.FormatInt(call.req+call.falseLength, 10)})
	}
	if call.expect {
		fs = append(fs, field{"expect", "100-continue"})
	}
	call.reqFields = fs
	all := append([]field{{":method", call.method}, {":scheme", "http"}, {":authority", "sim"}, {":path", call.path()}, {"tulle-client-id", "liar"}}, fs...)
	if call.upgrade {
		all = append([]field{{":method", "CONNECT"}, {":authority", "sim:80"}, {"tulle-client-id", "liar"}}, fs...)
	}
	none := call.req == 0 && len(call.reqTrail) == 0 && call.abortAt < 0 && !call.upgrade
	k.w.sendHead(st.id, all, none)
	if none {
		st.sentEnd = true
		call.r.SentEnd()
		k.w.flush()
		return
	}
	st.fill, st.stopAt, st.sent = call.r.Fill, call.abortAt, &call.sentReq
	st.stop = func() { k.abort(st) }
	st.body = func() {
		st.body = nil
		k.w.sendBody(st, call.req, call.lieTrail(call.reqTrail), func() {
			call.r.SentEnd()
			k.s.W.After(call.think, k.maybeClose) // the response may be long there
		})
	}
	if call.expect || call.upgrade {
		k.w.flush()
		return
	}
	if call.deaf > 0 {
		e := k.w.e
		e.Pause()
		k.s.W.After(call.deaf, e.Resume)
	}
	st.body()
}

func (k *h2Client) abort(st *h2Stream) {
	st.call.r.Abort()
	st.call.sentCode = st.call.code
	k.w.rst(st, st.call.code)
	k.later()
}

// later goes on with the next call after a while.
func (k *h2Client) later() { k.s.W.After(k.s.upTo(time.Millisecond), k.send) }

func (k *h2Client) head(st *h2Stream, _ uint32, fs []field, end bool) {
	if st == nil {
		return
	}
	call := st.call
	status, _ := strconv.Atoi(get(fs, ":status"))
	if why := get(fs, "grpc-message"); status == 0 && call.grpc && (strings.HasPrefix(why, "outbound ") || strings.HasPrefix(why, "inbound ")) {
		call.r.Cut("ended by the mesh: " + why) // R4.7
		if st.body != nil {
			k.w.rst(st, 0)
		}
		k.w.settled(st)
		k.later()
		return
	}
	if status == 0 { // trailers
		call.r.Trailers(line(fs, true))
		if !end {
			k.s.O.Reportf(call.r.ID, "trailers do not end the stream")
		}
		k.end(st)
		return
	}
	if status/100 == 1 {
		if get(fs, "x-oracle-id") != call.number() {
			k.s.O.Reportf(call.r.ID, "an interim response of request %s", get(fs, "x-oracle-id"))
		}
		call.r.Interim()
		if status == 100 && st.body != nil {
			st.body()
		}
		return
	}
	id, _ := strconv.Atoi(get(fs, "x-oracle-id"))
	why := get(fs, "tulle-proxy-error")
	call.r.Status(status, oracle.ID(id), why)
	k.s.note("status", uint64(call.r.ID)<<16|uint64(status))
	if id != 0 {
		k.s.compare(call, "response", endToEnd(fs[1:]), call.respFields, true)
	}
	if end {
		k.end(st)
	} else if call.upgrade && status == 200 && st.body != nil {
		st.body()
	}
}

func (k *h2Client) data(st *h2Stream, p []byte, end bool) {
	call := st.call
	call.r.Receive(p)
	k.w.hold(st, &call.stallResp, len(p))
	if call.abortGot >= 0 {
		if call.abortGot -= int64(len(p)); call.abortGot < 0 && !end {
			k.abort(st)
			return
		}
	}
	if end {
		k.end(st)
	}
}

func (k *h2Client) end(st *h2Stream) {
	if st.body != nil { // nobody asked for it
		k.w.rst(st, 0)
	}
	if st.call.early || st.call.upgrade {
		k.past = append(k.past, st.call)
	}
	st.call.r.End()
	k.s.note("end", uint64(st.call.r.ID))
	k.s.inTime(st.call)
	k.w.settled(st)
	k.s.W.After(st.call.think, k.send)
}

func (k *h2Client) reset(st *h2Stream, code uint32) {
	call := st.call
	if st.gotEnd && code == 0 && !call.upgrade { // the rest of the request has no taker (RFC 9113, 8.1)
		k.later()
		return
	}
	call.r.Cut("stream reset " + strconv.Itoa(int(code)))
	call.gotReset(code)
	k.s.note("reset", uint64(call.r.ID)<<8|uint64(code))
	k.later()
}

func (k *h2Client) goAway(last uint32) {
	k.away = true
	for _, st := range append([]*h2Stream(nil), k.w.streams...) {
		if st.id > last {
			k.w.forget(st)
			st.call.r.Excusef("above the last stream of a GOAWAY")
			st.call.r.Cut("GOAWAY")
		}
	}
	k.maybeClose()
}

func (k *h2Client) broken(what string) { k.w.e.Close(true); k.lost(k.w, what) }

// maybeClose closes a connection that is done with.
func (k *h2Client) maybeClose() {
	if k.closed || len(k.w.streams) > 0 || len(k.calls) > 0 && !k.away {
		return
	}
	w := k.w
	k.s.W.After(k.s.upTo(k.s.o.linger), func() {
		if !k.closed && k.w == w && len(w.streams) == 0 {
			for _, c := range k.past { // credit that comes late makes a RST of the close
				c.r.Excusef("its client closed before its body had arrived")
			}
			k.lost(w, "closed")
		}
	})
}

// lost ends what was under way and goes on over a new connection.
func (k *h2Client) lost(w *h2Wire, how string) {
	if w.dead {
		return
	}
	w.dead, k.closed = true, true
	w.e.Close(false)
	for _, st := range w.streams {
		if !st.call.r.Over() {
			st.call.r.Cut(how)
			k.s.note("cut", uint64(st.call.r.ID))
		}
	}
	w.streams = nil
	if len(k.calls) > 0 {
		k.s.W.After(k.s.upTo(k.s.o.pace), k.start)
	}
}

// inTime holds that a gRPC deadline is kept (R4.7). It counts from when the proxy has the call's head, which
// through small buffers may wait for long behind what the client sends besides.
func (s *Sim) inTime(c *call) {
	if b := s.o.weather.ReceiveBuffer; b > 0 && b < 16<<10 {
		return
	}
	if c.patience == 0 || c.direct != nil || s.o.script.Has(KindStall) || s.o.script.Has(KindDelay) || s.o.script.Has(KindOrder) {
		return
	}
	if d := s.now() - c.beganAt; d > c.patience+20*time.Millisecond+s.grace {
		s.O.Reportf(c.r.ID, "its deadline was %v, it took %v", c.patience, d)
	}
}

// gotReset compares the code of a reset with the one that was sent (R4.3).
func (c *call) gotReset(code uint32) {
	if c.broken && c.brokenCode != code && strings.HasPrefix(c.name(), c.method) && !c.s.disturbed {
		c.s.O.Reportf(c.r.ID, "the server's reset had code %d, the client got %d", c.brokenCode, code)
	}
}
