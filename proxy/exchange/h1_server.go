package exchange

import (
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// h1Server is the server side of an HTTP/1 connection: one request at a time.
type h1Server struct {
	// immutable
	p    *ServerParams
	c    *wire.Conn
	prsr *h1.Parser

	// owned by the worker
	x       *Exchange
	timer   loop.Timer
	timing  uint8
	looping bool
	eof     bool // the client half-closed
	gone    bool
	// pipelined is since when a request waits behind the one in hand; 0: none does.
	pipelined mono.Time

	// the request in hand
	version    uint8
	headOnly   bool
	reqClose   bool // the client closes after this request
	upgrading  bool
	noBody     bool
	reqDone    bool
	unconsumed int

	// its response
	framing  head.Framing
	respHead bool
	respDone bool
	closing  bool // close once the response has left
	thrown   int  // bytes of a request's body that had no taker
	tunnel   bool
	bodyOut  int // body bytes in the connection's buffer
}

const (
	timerNone uint8 = iota
	timerHeader
	timerIdle
)

// maxThrown is how much of a request's body is read for nobody, in bytes, to
// keep a connection that a client may have sent another request on.
const maxThrown = 256 << 10

// ServeH1 makes c an HTTP/1 server connection; early is what was read already.
func ServeH1(p *ServerParams, c *wire.Conn, early []byte) {
	s := &h1Server{p: p, c: c, prsr: h1.NewParser(h1.Server, p.Limits, p.Env.Wire.Pool())}
	s.fresh()
	c.SetUser(s)
	s.time(timerHeader)
	if len(early) > 0 {
		s.Received(early)
	}
}

func (s *h1Server) fresh() {
	s.reqDone, s.respHead, s.respDone, s.upgrading = false, false, false, false
	s.unconsumed = 0
}

// Received implements wire.User.
func (s *h1Server) Received(p []byte) {
	if s.tunnel {
		s.tunnelled(p, false)
		return
	}
	if s.timing == timerIdle {
		s.time(timerHeader)
	}
	s.prsr.Feed(p)
	s.loop()
	if s.gone {
		return
	}
	s.pipelined = 0
	switch n := s.prsr.Stash(); {
	case n > 0 && s.reqDone:
		s.pipelined = s.p.Env.Wire.Now()
		s.c.Pause() // a pipelined request waits its turn
	case n > 0 && s.timing == timerIdle:
		s.time(timerHeader) // it began behind another
	}
}

// loop handles events until the parser wants more, or the response to the
// request in hand is awaited.
func (s *h1Server) loop() {
	s.looping = true
	for !s.gone && !s.tunnel {
		ev, ok := s.prsr.Next()
		if !ok {
			break
		}
		s.event(&ev)
	}
	s.looping = false
	if s.gone {
		s.prsr.Close()
	}
}

func (s *h1Server) event(ev *h1.Event) {
	switch ev.Kind {
	case h1.EventHead:
		s.head(ev.Head)
	case h1.EventData:
		if s.x == nil {
			if s.thrown += len(ev.Data); s.thrown > maxThrown {
				s.close(false)
			}
			return
		}
		s.unconsumed += len(ev.Data)
		s.x.RequestData(ev.Data, false)
		if s.unconsumed > s.c.High() && !s.gone {
			s.c.Pause()
		}
	case h1.EventTrailers:
		s.reqDone = true
		if s.x != nil {
			s.x.RequestTrailers(ev.Head)
		}
	case h1.EventEnd:
		s.requestEnd()
	case h1.EventError:
		s.bad(ev.Err)
	case h1.EventInfo, h1.EventTunnel:
		panic("BUG: a response's event from a request parser")
	}
}

func (s *h1Server) head(h *head.Head) {
	s.time(timerNone)
	s.version = h.Version
	s.headOnly = string(h.Method) == "HEAD"
	s.reqClose = h.Close
	if h.Upgrade != nil && (h.Framing == head.FramingChunked || h.Length > 0) {
		dropUpgrade(h)
	}
	s.upgrading = h.Upgrade != nil || h.IsConnect()
	s.noBody = h.Framing == head.FramingNone || h.Framing == head.FramingLength && h.Length == 0
	dir, local := s.p.Front.Request(h)
	x := s.p.Env.Begin(s, dir, h, h.Framing == head.FramingNone && !s.upgrading)
	x.Local = local
	s.x = x
	x.Go()
}

// dropUpgrade makes an Upgrade request with a body an ordinary request: a server
// may always ignore Upgrade (RFC 9110, section 7.8).
func dropUpgrade(h *head.Head) {
	h.Upgrade = nil
	for i := range h.Fields {
		if head.EqualFold(h.Fields[i].Name, "upgrade") {
			h.Fields = append(h.Fields[:i], h.Fields[i+1:]...)
			return
		}
	}
}

func (s *h1Server) requestEnd() {
	if !s.reqDone {
		s.reqDone = true
		if s.x != nil && !s.upgrading {
			s.x.RequestData(nil, true)
		}
	}
	s.next()
}

// bad answers a request that breaks the protocol (§8) and closes.
func (s *h1Server) bad(e *h1.Error) {
	if e.Status == 408 {
		s.p.Front.TimedOut(metrics.TimeoutHeader)
	} else {
		s.p.Front.Refused(refusal(e.Status), e.Reason)
	}
	x := s.x
	if x != nil { // within a body
		s.x = nil
		x.DownReset(h2.ErrCodeCancel)
	}
	if e.Status == 0 || s.respHead { // a second answer would be taken for another request's
		s.close(e.Truncated || x != nil)
		return
	}
	h := head.Head{Version: 11, Status: e.Status, Reason: []byte(head.UsualReason(e.Status))}
	h.Add([]byte("content-length"), []byte("0"))
	s.c.End(h1.AppendResponse(s.c.Begin(128), &h, h1.ConnClose, nil))
	s.close(false)
}

// EOF implements wire.User.
func (s *h1Server) EOF() {
	if s.tunnel {
		s.tunnelled(nil, true)
		return
	}
	s.eof = true
	if s.x == nil && s.respDone {
		s.close(false)
		return
	}
	if s.reqDone {
		s.reqClose = true // finish the response, then close
		return
	}
	if ev, ok := s.prsr.EOF(); ok && ev.Kind == h1.EventError {
		s.bad(ev.Err)
		return
	}
	s.close(false)
}

// Failed implements wire.User.
func (s *h1Server) Failed(error) {
	s.drop(h2.ErrCodeCancel)
}

// drop forgets a connection that is closed.
func (s *h1Server) drop(code h2.ErrCode) {
	if s.gone {
		return
	}
	s.gone = true
	s.time(timerNone)
	if x := s.x; x != nil {
		s.x = nil
		x.DownReset(code)
	}
	if !s.looping {
		s.prsr.Close()
	}
	s.p.Front.Closed()
}

func (s *h1Server) close(reset bool) {
	if s.gone {
		return
	}
	if reset {
		s.c.Abort()
	} else {
		s.c.Close()
	}
	s.drop(h2.ErrCodeCancel)
}

// Flushed implements wire.User.
func (s *h1Server) Flushed(left int) {
	if n := s.bodyOut - left; n > 0 {
		s.bodyOut -= n
		if s.x != nil {
			s.x.DownDrained(n)
		}
	}
}

// Head implements Stream: the final response's head.
func (s *h1Server) Head(h *head.Head, end bool) {
	s.respHead = true
	if s.upgrading && (h.Status == 101 || s.x.connect && h.Status/100 == 2) && s.x.Tunnel() {
		s.c.End(h1.AppendResponse(s.c.Begin(h.Size()+64), h, connOf(h), nil))
		s.startTunnel()
		return
	}
	s.frame(h, end)
	s.closing = s.closing || s.reqClose || s.p.Front.Draining() || s.framing == head.FramingClose || h.Close && h.Framing == head.FramingClose
	// The rest of the body will have no taker, and closing unsaid would break
	// what a client sends behind it (RFC 9112, section 9.6).
	s.closing = s.closing || s.unread() && (h.Close || s.x.Discarding())
	conn := h1.ConnNone
	switch {
	case s.closing:
		conn = h1.ConnClose
	case s.version == 10:
		conn = h1.ConnKeepAlive
	}
	s.c.End(h1.AppendResponse(s.c.Begin(h.Size()+64), h, conn, nil))
	if end {
		if s.framing == head.FramingChunked { // an empty body has an end too
			s.chunk(nil, true)
		}
		s.responseEnd()
	}
}

// connOf is the Connection field of a response that switches protocols.
func connOf(h *head.Head) h1.ConnField {
	if h.Status == 101 {
		return h1.ConnUpgrade
	}
	return h1.ConnNone
}

// frame decides how the response's end is told on this connection.
func (s *h1Server) frame(h *head.Head, end bool) {
	s.framing = h.Framing
	if s.headOnly || h.Status == 204 || h.Status == 304 {
		s.framing = head.FramingNone
		return
	}
	if h.Version < 20 {
		return
	}
	switch { // from HTTP/2
	case h.Length >= 0:
		s.framing = head.FramingLength
	case end:
		s.framing = head.FramingLength
		h.Add([]byte("content-length"), []byte("0"))
	case s.version == 11:
		s.framing = head.FramingChunked
		h.Add([]byte("transfer-encoding"), []byte("chunked"))
	default:
		s.framing = head.FramingClose
	}
}

// Info implements Down.
func (s *h1Server) Info(h *head.Head) {
	if s.version >= 11 {
		s.c.End(h1.AppendResponse(s.c.Begin(h.Size()+64), h, h1.ConnNone, nil))
	}
}

// Data implements Stream.
func (s *h1Server) Data(p []byte, end bool) {
	switch {
	case s.tunnel:
		before := s.bodyOut + len(p)
		s.c.Send(p)
		s.bodyOut = min(before, s.c.Buffered())
		s.credit(before - s.bodyOut)
		if end {
			s.c.CloseWrite()
			s.respDone = true
			s.tunnelEnd()
		}
		return
	case s.framing == head.FramingChunked:
		s.chunk(p, end)
	case s.framing != head.FramingNone && len(p) > 0:
		s.bodyOut += len(p)
		s.c.Append(p)
	default:
		s.credit(len(p))
	}
	if end {
		s.responseEnd()
	}
}

func (s *h1Server) chunk(p []byte, end bool) {
	s.bodyOut += len(p)
	b := s.c.Begin(len(p) + 32)
	if len(p) > 0 {
		b = h1.AppendChunk(b, p)
	}
	if end {
		b = h1.AppendLastChunk(b, nil)
	}
	s.c.End(b)
}

// credit gives the exchange credit for bytes that left at once.
func (s *h1Server) credit(n int) {
	if n > 0 && s.x != nil {
		s.x.DownDrained(n)
	}
}

// Trailers implements Stream.
func (s *h1Server) Trailers(f []head.Field) {
	if s.framing == head.FramingChunked {
		s.c.End(h1.AppendLastChunk(s.c.Begin(256), f))
	}
	s.responseEnd()
}

// Reset implements Stream: the response was cut short (rule R3.6).
func (s *h1Server) Reset(h2.ErrCode) {
	s.x = nil
	s.close(s.tunnel || s.framing == head.FramingClose || !s.respHead)
}

// Consume implements Stream.
func (s *h1Server) Consume(n int) {
	s.unconsumed -= n
	if s.unconsumed < s.c.Low() && (!s.reqDone || s.tunnel) && !s.gone {
		s.c.Resume()
	}
}

// unread reports whether there is a body that has not been read to its end.
func (s *h1Server) unread() bool { return !s.reqDone && !s.noBody }

// Detach implements Stream. A client that still sends what has no taker any more
// gets its response, and the end where it was told so (RFC 9112, section 9.6).
// Else the rest is read, within bounds: it may have sent another request behind it.
func (s *h1Server) Detach() {
	s.x = nil
	if !s.respDone || !s.unread() || s.tunnel || s.gone {
		return
	}
	if s.closing {
		s.close(false)
		return
	}
	s.thrown = 0
	s.time(timerHeader)
	s.c.Resume()
}

func (s *h1Server) responseEnd() {
	s.respDone = true
	if s.unread() && s.x != nil && s.x.Discarding() {
		s.closing = true
		x := s.x
		s.x = nil
		x.flags.reqEnd = true
		s.close(false)
		return
	}
	s.next()
}

// next goes on to the next request once request and response have both ended.
func (s *h1Server) next() {
	if !s.reqDone || !s.respDone || s.gone {
		return
	}
	s.x = nil
	if s.closing || s.reqClose || s.eof && s.prsr.Idle() {
		s.close(false)
		return
	}
	s.fresh()
	s.prsr.NextMessage(h1.Expect{})
	s.time(timerIdle)
	if !s.looping && !s.prsr.Idle() {
		s.p.Env.Wire.W.Soon(s)
		return
	}
	s.c.Resume()
}

// Run implements loop.Task: it takes up a pipelined request.
func (s *h1Server) Run() {
	if s.gone || s.tunnel || s.reqDone {
		return
	}
	s.time(timerHeader)
	s.prsr.Feed(nil)
	s.loop()
	if s.gone {
		return
	}
	s.pipelined = 0
	if s.prsr.Stash() == 0 || !s.reqDone {
		s.c.Resume()
	} else {
		s.pipelined = s.p.Env.Wire.Now()
	}
	if s.eof && !s.reqDone {
		s.EOF()
	}
}

func (s *h1Server) time(kind uint8) {
	w := s.p.Env.Wire.W
	if s.timing == kind {
		return
	}
	s.timing = kind
	switch kind {
	case timerHeader:
		w.Arm(&s.timer, w.Now().Add(s.p.HeaderTimeout), s, kind)
	case timerIdle:
		w.Arm(&s.timer, w.Now().Add(s.p.IdleTimeout), s, kind)
	default:
		w.Cancel(&s.timer)
	}
}

// Expired implements loop.TimerHandler.
func (s *h1Server) Expired(_ *loop.Timer, kind uint8) {
	s.timing = timerNone
	if kind == timerHeader && !s.prsr.Idle() {
		s.bad(&h1.Error{Status: 408, Reason: "header timeout"})
		return
	}
	s.close(false)
}
