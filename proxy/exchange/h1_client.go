package exchange

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// stale is how long a pooled connection may have rested before it is probed
// for an end that the poller has not told yet.
const stale = 100 * time.Millisecond

// H1Owner is the pool that an HTTP/1 client connection belongs to.
type H1Owner interface {
	// Idle says that the connection may carry another request.
	Idle(c *H1Client)
	// Gone says that the connection is closed, or will be and takes nothing new.
	Gone(c *H1Client)
}

// H1Client is the client side of an HTTP/1 connection.
type H1Client struct {
	// immutable
	p     *ClientParams
	owner H1Owner
	c     *wire.Conn
	prsr  *h1.Parser

	// owned by the worker
	x         *Exchange
	used      int       // requests that it carried
	IdleSince mono.Time // while in a pool
	gone      bool
	looping   bool

	// the request in hand
	framing    head.Framing
	headOnly   bool
	before     uint64 // bytes that the connection had taken before it
	reqDone    bool
	upgrade    bool
	bodyOut    int
	bodyLeft   int64 // of a body with a declared length
	unconsumed int
	length     int64 // of the response's body, -1 unknown
	got        int64
	respDone   bool
	respClose  bool
	respWhole  bool // all of the response was given to the exchange
	tunnel     bool
}

// NewH1Client makes c an HTTP/1 client connection of owner.
func NewH1Client(p *ClientParams, owner H1Owner, c *wire.Conn) *H1Client {
	k := &H1Client{p: p, owner: owner, c: c, prsr: h1.NewParser(h1.Client, p.Limits, p.Env.Wire.Pool())}
	c.SetUser(k)
	return k
}

// Assign puts the connection at the exchange's service.
func (k *H1Client) Assign(x *Exchange) {
	k.x = x
	k.used++
	k.reqDone, k.respDone, k.respClose, k.respWhole, k.upgrade = false, false, false, false, false
	k.got, k.unconsumed, k.bodyOut = 0, 0, 0
	k.before = k.c.Wrote()
	x.Opened(k)
}

// Usable reports whether a pooled connection can be expected to stand at time now.
func (k *H1Client) Usable(now mono.Time) bool {
	if k.gone || k.c.Closed() {
		return false
	}
	if now.Sub(k.IdleSince) > stale {
		k.c.Probe()
	}
	return !k.gone
}

// Close closes an idle connection.
func (k *H1Client) Close() {
	k.gone = true
	k.prsr.Close()
	k.c.Close()
}

// Head implements Stream.
func (k *H1Client) Head(h *head.Head, end bool) {
	k.headOnly = string(h.Method) == "HEAD"
	k.upgrade = h.Upgrade != nil
	k.framing, k.bodyLeft = h.Framing, h.Length
	var extra []head.Field
	if h.Version == 20 {
		extra = k.fromH2(h, end)
	}
	conn := h1.ConnNone
	switch {
	case k.upgrade:
		conn = h1.ConnUpgrade
	case h.Version == 10:
		conn = h1.ConnKeepAlive
	}
	k.prsr.NextMessage(h1.Expect{Head: k.headOnly, Connect: h.IsConnect(), Upgrade: k.upgrade})
	k.c.End(h1.AppendRequest(k.c.Begin(h.Size()+128), h, conn, extra))
	if end {
		if k.framing == head.FramingChunked { // an empty body has an end too
			k.chunk(nil, true)
		}
		k.reqDone = true
	}
}

// fromH2 frames a request that came over HTTP/2.
func (k *H1Client) fromH2(h *head.Head, end bool) []head.Field {
	switch {
	case h.Length >= 0:
		k.framing = head.FramingLength
	case end:
		k.framing = head.FramingNone
	default:
		k.framing = head.FramingChunked
		return []head.Field{{Name: []byte("transfer-encoding"), Value: []byte("chunked")}}
	}
	return nil
}

// Data implements Stream.
func (k *H1Client) Data(p []byte, end bool) {
	switch {
	case k.tunnel:
		before := k.bodyOut + len(p)
		k.c.Send(p)
		k.bodyOut = min(before, k.c.Buffered())
		k.credit(before - k.bodyOut)
	case k.framing == head.FramingChunked:
		k.chunk(p, end)
	case !k.fits(len(p), end):
		k.broken("the request's body is not what its head declared")
		return
	default:
		k.bodyOut += len(p)
		k.c.Append(p)
	}
	if end {
		k.requestEnd()
	}
}

// fits reports whether n more bytes, and perhaps the end, agree with what the
// request's head declared: more would be read as another request.
func (k *H1Client) fits(n int, end bool) bool {
	if k.framing != head.FramingLength {
		return n == 0
	}
	k.bodyLeft -= int64(n)
	return k.bodyLeft == 0 || k.bodyLeft > 0 && !end
}

func (k *H1Client) chunk(p []byte, end bool) {
	k.bodyOut += len(p)
	b := k.c.Begin(len(p) + 32)
	if len(p) > 0 {
		b = h1.AppendChunk(b, p)
	}
	if end {
		b = h1.AppendLastChunk(b, nil)
	}
	k.c.End(b)
}

// Trailers implements Stream.
func (k *H1Client) Trailers(f []head.Field) {
	if k.framing == head.FramingChunked {
		k.c.End(h1.AppendLastChunk(k.c.Begin(256), f))
	}
	k.requestEnd()
}

func (k *H1Client) requestEnd() {
	k.reqDone = true
	if k.tunnel {
		k.c.CloseWrite()
		k.tunnelEnd()
		return
	}
	if k.respDone { // the reset of another request would overtake what still leaves
		k.respClose = true
		k.done()
	}
}

// Reset implements Stream: the request is given up.
func (k *H1Client) Reset(h2.ErrCode) {
	k.x = nil
	k.leave(true)
}

// Consume implements Stream.
func (k *H1Client) Consume(n int) {
	k.unconsumed -= n
	if k.unconsumed < k.c.Low() && !k.gone {
		k.c.Resume()
	}
}

// Detach implements Stream.
func (k *H1Client) Detach() {
	k.x = nil
	if !k.respWhole || !k.reqDone {
		k.leave(true)
	}
}

// Received implements wire.User.
func (k *H1Client) Received(p []byte) {
	if k.tunnel {
		k.tunnelled(p, false)
		return
	}
	if k.x == nil && k.respDone || k.used == 0 { // bytes that nothing asked for
		k.leave(true)
		return
	}
	k.prsr.Feed(p)
	k.loop()
	if !k.gone {
		k.prsr.Stash()
	}
}

func (k *H1Client) loop() {
	k.looping = true
	for !k.gone && !k.tunnel {
		ev, ok := k.prsr.Next()
		if !ok {
			break
		}
		k.event(&ev)
	}
	k.looping = false
	switch {
	case k.gone:
		k.prsr.Close()
	case k.respDone && k.reqDone && !k.tunnel:
		k.done()
	}
}

func (k *H1Client) event(ev *h1.Event) {
	x := k.x
	switch ev.Kind {
	case h1.EventInfo:
		if x != nil {
			x.ResponseInfo(ev.Head)
		}
	case h1.EventHead:
		k.head(ev.Head)
	case h1.EventData:
		k.got += int64(len(ev.Data))
		if x == nil {
			return
		}
		k.unconsumed += len(ev.Data)
		k.respWhole = k.got == k.length
		x.ResponseData(ev.Data, k.respWhole)
		if k.unconsumed > k.c.High() && !k.gone {
			k.c.Pause()
		}
	case h1.EventTrailers:
		k.length = k.got
		k.respDone, k.respWhole = true, true
		if x != nil {
			x.ResponseTrailers(ev.Head)
		}
	case h1.EventEnd:
		k.respDone, k.respWhole = true, true
		if x != nil && k.got != k.length {
			x.ResponseData(nil, true)
		}
	case h1.EventTunnel:
		k.startTunnel(ev.Head)
	case h1.EventError:
		k.broken("bad response: " + ev.Err.Reason)
	}
}

func (k *H1Client) head(h *head.Head) {
	k.respClose = h.Close
	k.length = h.Length
	none := h.Framing == head.FramingNone || h.Framing == head.FramingLength && h.Length == 0 || k.headOnly
	if none {
		k.length = 0
	} else if h.Framing != head.FramingLength {
		k.length = -1
	}
	k.respWhole = none
	if k.x != nil {
		k.x.ResponseHead(h, none)
	}
}

// broken ends the exchange because of what the server did.
func (k *H1Client) broken(reason string) {
	x := k.x
	k.x = nil
	k.leave(true)
	if x != nil {
		x.UpFailed(Failure{Code: h2.ErrCodeInternal, Reason: reason})
	}
}

// EOF implements wire.User.
func (k *H1Client) EOF() {
	if k.tunnel {
		k.tunnelled(nil, true)
		return
	}
	if k.x == nil {
		k.leave(false)
		return
	}
	ev, ok := k.prsr.EOF()
	if ok && ev.Kind == h1.EventEnd {
		k.respClose = true
		k.event(&ev)
		if k.x != nil && !k.reqDone { // the rest of the request has no taker
			k.failed("connection closed by the server")
			return
		}
		k.done()
		return
	}
	k.failed("connection closed by the server")
}

// Failed implements wire.User.
func (k *H1Client) Failed(err error) { k.failed(err.Error()) }

func (k *H1Client) failed(reason string) {
	x := k.x
	k.x = nil
	written := k.c.Wrote() > k.before // perhaps in part: the server may have acted on it
	k.leave(true)
	if x != nil {
		x.UpFailed(Failure{Code: h2.ErrCodeInternal, Unprocessed: !written, Replace: !written && k.used > 1, Reason: reason})
	}
}

// Flushed implements wire.User.
func (k *H1Client) Flushed(left int) {
	if n := k.bodyOut - left; n > 0 {
		k.bodyOut -= n
		k.credit(n)
	}
}

func (k *H1Client) credit(n int) {
	if n > 0 && k.x != nil {
		k.x.UpDrained(n)
	}
}

// done gives the connection back after request and response have ended.
func (k *H1Client) done() {
	if k.gone || k.looping {
		return
	}
	if x := k.x; x != nil { // it has all that it wanted: the connection may be another's in a moment
		x.up = nil
		k.x = nil
	}
	if k.respClose || k.prsr.Stash() > 0 || k.bodyOut > 0 && !k.reqDone {
		k.leave(false)
		return
	}
	k.c.Resume()
	k.IdleSince = k.p.Env.Wire.Now()
	k.owner.Idle(k)
}

// leave closes the connection and takes it out of its pool.
func (k *H1Client) leave(reset bool) {
	if k.gone {
		return
	}
	k.gone = true
	if reset && !k.c.Closed() {
		k.c.Abort()
	} else {
		k.c.Close()
	}
	if !k.looping {
		k.prsr.Close()
	}
	k.owner.Gone(k)
}

// startTunnel turns the connection into a tunnel of bytes, early bytes included.
func (k *H1Client) startTunnel(h *head.Head) {
	k.tunnel = true
	k.reqDone, k.respDone = false, false
	k.c.Resume()
	x := k.x
	if x == nil {
		return
	}
	x.ResponseHead(h, false)
	if early := k.prsr.Rest(); len(early) > 0 && !k.gone {
		k.tunnelled(early, false)
	}
}

// tunnelled takes bytes, or the end, of the server's half.
func (k *H1Client) tunnelled(p []byte, end bool) {
	x := k.x
	if x == nil {
		return
	}
	k.unconsumed += len(p)
	if end {
		k.respDone, k.respWhole = true, true
	}
	x.ResponseData(p, end)
	if k.gone {
		return
	}
	if k.unconsumed > k.c.High() {
		k.c.Pause()
	}
	k.tunnelEnd()
}

func (k *H1Client) tunnelEnd() {
	if k.reqDone && k.respDone {
		k.x = nil
		k.leave(false)
	}
}
