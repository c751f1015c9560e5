package sim

import (
	"strconv"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// h1Client sends calls over one connection after another, pipelined or not.
type h1Client struct {
	s        *Sim
	c        *client
	calls    []*call // still to be sent
	waiting  []*call // sent, or being sent; the first one's response is next
	pipeline int     // how many may wait
	shy      time.Duration

	e       *simnet.Endpoint
	rd      *h1Reader
	body    *pacer
	sending bool
	closing bool // a response has announced the end of the connection
	open    bool
	tunnel  *call
	gotEOF  bool
	past    []*call // answered on this connection before they were sent
	awaits  bool    // 100 Continue
	early   bool    // a response ended before its request: the server may close then (RFC 9112, 9.6)
}

func (k *h1Client) start() {
	if len(k.calls) > 0 {
		k.dial()
	}
}

func (k *h1Client) dial() {
	k.open, k.closing, k.sending, k.gotEOF, k.early, k.awaits = false, false, false, false, false, false
	k.past = nil
	k.rd = &h1Reader{head: k.head, data: k.data, end: k.end}
	call := k.calls[0]
	var e *simnet.Endpoint
	e = k.c.host.Dial(call.to(), simnet.Callbacks{
		Connected: func(*simnet.Endpoint) {
			k.s.W.After(k.shy, func() {
				if k.e == e {
					k.open = true
					k.send()
				}
			})
		},
		Data:    func(_ *simnet.Endpoint, p []byte) { k.received(p) },
		EOF:     func(*simnet.Endpoint) { k.eof() },
		Drained: func(*simnet.Endpoint) { k.body.drained() },
		Failed: func(_ *simnet.Endpoint, err error) {
			if k.e == e {
				k.failed(err.Error())
			}
		},
	})
	k.e = e
	k.s.opened(e)
}

// send writes the next request, if it may.
func (k *h1Client) send() {
	if !k.open || k.closing || k.sending || len(k.calls) == 0 || len(k.waiting) > 0 && len(k.waiting) >= k.pipeline {
		return
	}
	call := k.calls[0]
	if n := len(k.waiting); n > 0 && (k.waiting[n-1].upgrade || call.upgrade) {
		return
	}
	if k.e.Closed() {
		return
	}
	k.calls = k.calls[1:]
	k.waiting = append(k.waiting, call)
	k.sending = true
	call.begin()
	version, target := "HTTP/1.1", call.path()
	if call.old {
		version = "HTTP/1.0"
	}
	if call.absolute {
		target = "http://sim" + target
	}
	fs := []field{{"Host", "sim"}, {"X-Oracle-Id", call.number()}, {"x-mIxEd", "a  b"}, {"X-Mixed", ""}}
	if call.method == "CONNECT" {
		target = "sim:80"
		fs[0].value = target
	}
	switch call.reqFrame {
	case framingLength:
		fs = append(fs, field{"content-Length", strconv.FormatInt(call.req, 10)})
	case framingChunked:
		fs = append(fs, field{"Transfer-Encoding", "chunked"})
	}
	if call.expect {
		fs = append(fs, field{"Expect", "100-continue"})
	}
	if call.upgrade && call.method != "CONNECT" {
		fs = append(fs, field{"Upgrade", "sim/1"})
	}
	call.reqFields = fs
	all := append([]field{{"TULLE-Client-Id", "liar"}}, fs...)
	switch {
	case call.upgrade && call.method != "CONNECT":
		all = append(all, field{"Connection", "Upgrade"})
	case call.old:
		all = append(all, field{"Connection", "keep-alive"})
	}
	if len(k.waiting) > 1 || call.expect || call.upgrade { // one that stands alone
		k.e.Write(appendHead(call.method+" "+target+" "+version, k.s.oneHop(call, all)))
	} else {
		k.e.Write(k.s.oddHead(call.method+" "+target+" "+version, k.s.oneHop(call, all)))
	}
	if call.upgrade {
		k.sending = false
		return
	}
	if k.awaits = call.expect; !k.awaits {
		k.stream(call)
	}
}

// stream writes the body of a request, or the client's half of a tunnel.
func (k *h1Client) stream(call *call) {
	e := k.e
	k.body = &pacer{
		s: k.s, e: e, fill: call.r.Fill, total: call.req, chunk: call.chunk, gap: call.gap, stopAt: call.abortAt, sent: &call.sentReq,
		stop: func() { k.abort(call) },
		done: func() { k.sent(call) },
	}
	if call.reqFrame == framingChunked {
		k.body.wrap = call.chunker()
	}
	k.body.step()
}

func (k *h1Client) sent(call *call) {
	if k.tunnel == call {
		k.finish(call)
		return
	}
	if call.reqFrame == framingChunked {
		k.e.Write(appendLastChunk(nil, call.lieTrail(call.reqTrail)))
	}
	call.r.SentEnd()
	k.sending = false
	if k.closing && len(k.waiting) == 0 {
		k.leave()
		return
	}
	if call.half && len(k.calls) == 0 && len(k.waiting) > 0 && !k.waiting[0].upgrade {
		k.e.CloseWrite() // it asks for nothing more
	}
	k.rest(0)
}

// leave closes after a response that announced it.
func (k *h1Client) leave() {
	k.lose("the server closed after an earlier response")
	k.e.Close(false)
	k.next()
}

// finish ends the client's half of a tunnel.
func (k *h1Client) finish(call *call) {
	if call.finLast && !k.gotEOF {
		return
	}
	call.r.SentEnd()
	k.e.CloseWrite()
	if k.gotEOF {
		k.e.Close(false)
		k.next()
	}
}

// abort resets the connection in the middle of call.
func (k *h1Client) abort(call *call) {
	call.r.Abort()
	for _, c := range k.past { // what is left of its body may not have arrived
		c.r.Excusef("the connection was aborted for a later request")
	}
	k.rd.hold = true
	k.lose("the connection was aborted for an earlier request")
	k.e.Close(!call.politely)
	k.next()
}

func (k *h1Client) received(p []byte) {
	if err := k.rd.feed(p); err != nil {
		k.s.O.Reportf(0, "a client got bytes that are no HTTP/1: %v", err)
		k.failed("bad response")
	}
}

func (k *h1Client) head(start string, fs []field) (framing, int64) {
	version, rest, _ := strings.Cut(start, " ")
	code, reason, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if len(k.waiting) == 0 || err != nil {
		k.s.O.Reportf(0, "a client got a response that it did not ask for: %q", start)
		return framingClose, 0
	}
	call := k.waiting[0]
	if status/100 == 1 && status != 101 {
		if get(fs, "x-oracle-id") != call.number() {
			k.s.O.Reportf(call.r.ID, "an interim response of request %s", get(fs, "x-oracle-id"))
		}
		call.r.Interim()
		if k.awaits && status == 100 && len(k.waiting) == 1 { // not one of a second attempt, for an earlier request
			k.awaits = false
			k.stream(call)
		}
		return framingInfo, 0
	}
	id, _ := strconv.Atoi(get(fs, "x-oracle-id"))
	why := get(fs, "tulle-proxy-error")
	call.r.Status(status, oracle.ID(id), why)
	k.s.note("status", uint64(call.r.ID)<<16|uint64(status))
	if id != 0 {
		k.s.compare(call, "response", endToEnd(fs), call.respFields, false)
		if want := call.reason; reason != want && version == "HTTP/1.1" {
			k.s.O.Reportf(call.r.ID, "reason phrase %q, %q was sent", reason, want)
		}
	}
	k.closing = k.closing || strings.EqualFold(get(fs, "connection"), "close")
	if v := call.direct; v != nil && v.drains > 0 && call.beganAt > v.drains && !k.closing && status != 101 && call.method != "CONNECT" {
		k.s.O.Reportf(call.r.ID, "its client was not told that server %s drains", v.name)
	}
	if call.upgrade && (status == 101 || call.method == "CONNECT" && status/100 == 2) {
		k.tunnel = call
		k.stream(call)
		return framingTunnel, 0
	}
	return responseFraming(call, status, fs)
}

func responseFraming(c *call, status int, fs []field) (framing, int64) {
	switch {
	case c.method == "HEAD" || status == 204 || status == 304:
		return framingNone, 0
	case strings.EqualFold(get(fs, "transfer-encoding"), "chunked"):
		return framingChunked, 0
	case get(fs, "content-length") != "":
		n, _ := strconv.ParseInt(get(fs, "content-length"), 10, 63)
		return framingLength, n
	}
	return framingClose, 0
}

// endToEnd leaves out the fields that the mesh may add or change on a hop.
func endToEnd(fs []field) []field {
	var out []field
	for _, f := range fs {
		switch strings.ToLower(f.name) {
		case "connection", "tulle-client-id":
		default:
			out = append(out, f)
		}
	}
	return out
}

func (k *h1Client) data(p []byte) {
	if len(k.waiting) == 0 {
		return
	}
	call := k.waiting[0]
	call.r.Receive(p)
	if st := &call.stallResp; st.at >= 0 {
		if st.at -= int64(len(p)); st.at < 0 {
			k.s.stalled(k.e, call, st)
		}
	}
	if call.abortGot >= 0 {
		if call.abortGot -= int64(len(p)); call.abortGot < 0 {
			k.body.kill()
			k.abort(call)
		}
	}
}

func (k *h1Client) end(trailers []field) {
	if len(k.waiting) == 0 {
		return
	}
	call := k.waiting[0]
	k.waiting = k.waiting[1:]
	if call.early {
		k.past = append(k.past, call)
	}
	k.early = k.early || k.sending && len(k.waiting) == 0
	call.r.Trailers(line(trailers, false))
	call.r.End()
	k.s.note("end", uint64(call.r.ID))
	if k.awaits && len(k.waiting) == 0 { // nobody asked for the body
		k.leave()
		return
	}
	if k.closing && !k.sending { // else the server may still want the rest
		k.leave()
		return
	}
	k.rest(call.think)
}

// rest goes on to the next request after a while, or closes after the last one.
func (k *h1Client) rest(think time.Duration) {
	e := k.e
	switch {
	case k.sending:
	case len(k.calls) > 0:
		k.s.W.After(think, func() {
			if k.e == e {
				k.send()
			}
		})
	case len(k.waiting) == 0:
		k.s.W.After(k.s.upTo(k.s.o.linger), func() { e.Close(false) })
	}
}

func (k *h1Client) eof() {
	k.gotEOF = true
	if k.rd.state == h1Close || k.tunnel != nil {
		call := k.waiting[0]
		call.r.End()
		k.s.note("end", uint64(call.r.ID))
		if k.tunnel != nil {
			if k.body.over {
				k.finish(call)
			}
			return
		}
		k.waiting = k.waiting[1:]
	}
	k.failed("connection closed")
}

// failed ends everything that was under way on the connection.
func (k *h1Client) failed(how string) {
	k.body.kill()
	if !k.open && len(k.calls) > 0 && k.calls[0].direct != nil { // nobody else would take it
		call := k.calls[0]
		k.calls = k.calls[1:]
		call.begin()
		call.r.Cut(how)
	}
	if len(k.waiting) > 0 {
		k.s.note("cut", uint64(k.waiting[0].r.ID))
		if k.closing || k.early && k.gotEOF {
			k.waiting[0].r.Excusef("the connection was to close after an earlier response")
		}
		behind := int64(0)
		for _, c := range k.waiting[1:] {
			behind += c.sentReq
		}
		if k.waiting[0].close && behind > 128<<10 {
			k.waiting[0].r.Excusef("more was sent behind the last request of the connection than anybody reads")
		}
		for _, c := range k.waiting[1:] {
			if c.resetAt >= 0 { // a reset overtakes what was sent before it
				k.waiting[0].r.Excusef("a request behind it was broken off")
			}
		}
		k.waiting[0].r.Cut(how)
		k.waiting = k.waiting[1:]
	}
	k.lose("the connection broke under an earlier request")
	k.e.Close(false)
	k.next()
}

// lose gives up on what was sent behind another request.
func (k *h1Client) lose(why string) {
	for _, call := range k.waiting {
		if !call.r.Over() {
			call.r.Excusef("%s", why)
			call.r.Cut(why)
		}
	}
	k.waiting = nil
}

// next goes on over a new connection.
func (k *h1Client) next() {
	k.open = false // what is due meanwhile waits for the new one
	k.tunnel, k.body, k.waiting = nil, nil, nil
	if len(k.calls) > 0 {
		k.s.W.After(k.s.upTo(k.s.o.pace), k.start)
	}
}
