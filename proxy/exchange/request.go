package exchange

import (
	"time"

	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// Failure is why an attempt failed.
type Failure struct {
	Code h2.ErrCode
	// Unprocessed: the request certainly was not acted upon (rule R7.1).
	Unprocessed bool
	// Refused: the server itself said so, of this very request (REFUSED_STREAM).
	Refused bool
	// PassOn: the downstream gets the upstream's reset for an answer (R4.3).
	PassOn bool
	// Reset: the upstream reset the stream, with Code; its connection lives.
	Reset bool
	// Replace: a pooled connection was dead before a byte was written (rule R3.5).
	Replace bool
	Connect bool // no connection, or no handshake
	Timeout bool
	// TimedOut is what took too long, where that was not to connect.
	TimedOut metrics.Timeout
	// Final: no other attempt would fare better.
	Final bool
	// Status and GRPC are set when a response is what failed (rule R7.2).
	Status int
	GRPC   int
	// Err is the cause where there is one; Reason is what people read.
	Err    error
	Reason string
}

func (x *Exchange) open() {
	x.Attempts++
	x.flags.opening = true
	x.dir.Open(x)
}

// Opened gives the exchange its upstream; the request starts to flow.
func (x *Exchange) Opened(up Stream) {
	x.flags.opening = false
	x.up = up
	x.pos.drained = 0
	if x.tryLimit > 0 {
		w := x.env.Wire.W
		w.Arm(&x.try, w.Now().Add(x.tryLimit), x, timerAttempt)
	}
	whole := x.flags.reqEnd && !x.flags.hasTail
	up.Head(&x.Req, whole && len(x.body) == 0)
	if x.up != up { // the upstream failed at once
		return
	}
	if len(x.body) > 0 {
		up.Data(x.body, whole)
	}
	if x.up != up {
		return
	}
	if x.flags.hasTail {
		up.Trailers(x.tail.Fields)
	}
	if len(x.body) > maxReplay {
		x.dropReplay()
	}
}

// OpenFailed says that no upstream could be had.
func (x *Exchange) OpenFailed(f Failure) {
	x.flags.opening = false
	x.UpFailed(f)
}

// RequestData takes body bytes of the request, or a tunnel's.
func (x *Exchange) RequestData(p []byte, end bool) {
	if x.flags.finished {
		return
	}
	x.moved()
	x.pos.received += int64(len(p))
	x.flags.reqEnd = x.flags.reqEnd || end
	if x.flags.discard {
		x.consume(x.pos.received)
		x.settle()
		return
	}
	if x.flags.keep {
		if x.up != nil && (len(x.body)+len(p) > maxReplay || x.env.Wire.Pool().Level() > slab.LevelNormal) {
			x.dropReplay()
		} else {
			x.body = x.env.Wire.Pool().Append(x.body, p...)
		}
	}
	if x.up != nil {
		x.up.Data(p, end)
	}
	x.settle()
}

// RequestTrailers ends the request with trailers, without what only proxies may
// write (rule R5.5): a server may merge them into the head.
func (x *Exchange) RequestTrailers(h *head.Head) {
	if x.flags.finished {
		return
	}
	hop.Strip(h)
	x.flags.reqEnd = true
	if x.flags.keep {
		x.tailBuf = h.CopyTo(&x.tail, x.env.Wire.Pool().Get(h.Size()))
		x.flags.hasTail = true
	}
	if x.up != nil {
		x.up.Trailers(h.Fields)
	}
	x.settle()
}

// DownReset says that the downstream broke the request off.
func (x *Exchange) DownReset(code h2.ErrCode) {
	if x.flags.finished {
		return
	}
	x.dropUp(code)
	x.finish(Cancelled)
}

// UpDrained says that n bytes of the request left toward the upstream.
func (x *Exchange) UpDrained(n int) {
	x.pos.drained += int64(n)
	x.consume(x.pos.drained)
}

// consume gives the downstream credit up to position pos of the body.
func (x *Exchange) consume(pos int64) {
	if n := min(pos, x.pos.received) - x.pos.consumed; n > 0 {
		x.pos.consumed += n
		x.down.Consume(int(n))
	}
}

func (x *Exchange) dropReplay() {
	x.flags.keep = false
	x.env.Wire.Pool().Put(x.body)
	x.body = nil
}

// UpFailed says that the attempt in flight failed. The upstream is gone.
func (x *Exchange) UpFailed(f Failure) {
	if x.flags.finished {
		return
	}
	x.up = nil
	x.env.Wire.W.Cancel(&x.try)
	if x.flags.respEnd && !x.flags.tunnel { // the response is whole; only the request's rest has no taker
		x.discard()
		return
	}
	if x.flags.respHead {
		x.dir.Failed(x, &f)
		if f.Reset || !x.endCall(f.answer()) {
			x.cut(f.Code)
		}
		return
	}
	if x.again(&f) {
		return
	}
	x.dir.Failed(x, &f)
	if f.PassOn {
		x.cut(f.Code)
		return
	}
	x.Answer(f.answer())
}

// again tries the next attempt, if one may be made.
func (x *Exchange) again(f *Failure) bool {
	if !x.flags.keep {
		return false
	}
	wait, ok := x.dir.Again(x, f)
	if !ok {
		return false
	}
	if wait <= 0 {
		x.open()
		return true
	}
	x.backoff(wait)
	return true
}

func (x *Exchange) backoff(d time.Duration) {
	x.flags.waiting = true
	w := x.env.Wire.W
	w.Arm(&x.wait, w.Now().Add(d), x, timerWait)
}

// discard lets the rest of the request's body go nowhere.
func (x *Exchange) discard() {
	x.flags.discard = true
	x.dropReplay()
	x.consume(x.pos.received)
	x.settle()
}
