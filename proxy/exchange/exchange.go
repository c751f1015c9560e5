// Package exchange carries one request from the stream it came in on to the
// stream it goes out on, and the response back: open, pump, retry, answer. It
// knows neither HTTP/1 nor HTTP/2: adapters in this package turn both engines'
// events into the same calls, so that any pairing is the ordinary case.
//
// A Director decides where an exchange goes and whether it may be tried again;
// outbound and inbound each have one.
package exchange

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// maxReplay is how much of a request's body is kept for another attempt, in
// bytes (rules R7.1, R7.2).
const maxReplay = 64 << 10

// Stream is one side of an exchange as the exchange sees it.
type Stream interface { //nolint:interfacebloat // what a message is made of, once
	// Head sends a request's or a final response's head; end says that nothing follows.
	Head(h *head.Head, end bool)
	// Data sends body bytes, or a tunnel's; it copies p and never refuses. The
	// exchange bounds what is queued by giving credit to the source as bytes leave.
	Data(p []byte, end bool)
	// Trailers ends the message with trailers.
	Trailers(f []head.Field)
	// Reset cuts the message short in a way that the peer can tell from an end.
	Reset(code h2.ErrCode)
	// Consume tells the stream that n of the bytes it brought were passed on.
	Consume(n int)
	// Detach says that the exchange is over and makes no more calls.
	Detach()
}

// Down is the stream that the request came in on.
type Down interface {
	Stream
	// Info sends an interim response.
	Info(h *head.Head)
}

// Director decides what becomes of an exchange. Its calls come from the worker.
type Director interface { //nolint:interfacebloat // the life of a request, in order
	// Open finds an upstream and calls Opened or OpenFailed, now or later.
	Open(x *Exchange)
	// Cancel takes back an Open that has not been answered.
	Cancel(x *Exchange)
	// Again is told of a failed attempt and says whether another may be made, and
	// after what wait. It is not asked once the body could not be sent again.
	Again(x *Exchange, f *Failure) (wait time.Duration, ok bool)
	// Failed is told of a failed attempt after which none is made.
	Failed(x *Exchange, f *Failure)
	// Response sees the final response's head before it is passed on.
	Response(x *Exchange, h *head.Head)
	// First is called at the first byte of the response's body, or its end.
	First(x *Exchange)
	// Finished is the last call: the exchange is over.
	Finished(x *Exchange, r Result)
	// Where names the exchange in errors: "outbound service web.shop:80".
	Where(x *Exchange) string
}

// Result is how an exchange ended.
type Result uint8

// Results.
const (
	Complete  Result = iota // a whole response was passed on
	Cut                     // the upstream broke off after its head
	Cancelled               // the downstream went away
	Answered                // the proxy answered itself
)

// Attempt is what the Director keeps of the attempt in flight.
type Attempt struct {
	Endpoint *balance.Endpoint
	Flight   balance.Flight
	// Tried are the endpoints that earlier attempts failed on.
	Tried [3]*balance.Endpoint
	// Same asks for the same endpoint once more: a pooled connection was dead (R3.5).
	Same     bool
	Replaced bool
	Route    string
	Target   any
	Owner    any // whoever has the exchange in a queue
	HTTP     *metrics.HTTP
	Counted  bool
}

// Env is what all exchanges of a worker share.
type Env struct {
	Wire *wire.Env
	// MaxInFlight bounds requests in flight (R1.5), InFlight counts them.
	MaxInFlight int
	InFlight    int
	// Refuse says how a new request is to be answered instead of being sent on
	// (R1.5, R1.6); nil never does.
	Refuse func() (Answer, bool)

	free, dead []*Exchange
	reaping    bool
}

// Exchange is one request and its response.
type Exchange struct {
	env  *Env
	dir  Director
	down Down
	up   Stream

	// Req is the request's head; it is kept until the response's head is there.
	Req head.Head
	Att Attempt
	// Attempts counts the upstreams that were tried.
	Attempts int
	Started  mono.Time
	// Status and GRPCStatus are the response's; GRPCStatus is -1 while unknown.
	Status, GRPCStatus int
	// Local is set when the downstream may see the proxy's own errors (§8).
	Local bool
	GRPC  bool
	// Peer is set when the downstream is another proxy of the mesh.
	Peer bool

	buf        []byte // behind Req
	body       []byte // body bytes kept
	tail       head.Head
	tailBuf    []byte
	pos        position
	deadline   loop.Timer
	try        loop.Timer
	idle       loop.Timer
	tryLimit   time.Duration
	idleLimit  time.Duration
	wait       loop.Timer
	flags      flags
	idempotent bool
	connect    bool
	upgrading  bool
}

// position counts a request body's bytes.
type position struct {
	received int64 // from the downstream
	drained  int64 // that left toward this attempt's upstream
	consumed int64 // told to the downstream
}

type flags struct {
	opening  bool // the Director is looking for an upstream
	waiting  bool // a backoff runs
	keep     bool // body holds all that was received
	hasTail  bool // the request ended with trailers
	reqEnd   bool
	discard  bool // nobody wants the rest of the request's body
	respHead bool
	respEnd  bool
	first    bool
	tunnel   bool
	call     bool // gRPC over HTTP/2
	finished bool
	result   Result
}

const (
	timerDeadline uint8 = iota
	timerWait
	timerAttempt
	timerQuiet
)

// Begin starts an exchange for a request whose head is h (copied); end says
// that it has no body. It may answer at once.
func (e *Env) Begin(down Down, dir Director, h *head.Head, end bool) *Exchange {
	x := e.get()
	x.down, x.dir = down, dir
	x.buf = h.CopyTo(&x.Req, e.Wire.Pool().Get(h.Size()))
	x.Started = e.Wire.Now()
	x.GRPC = h.IsGRPC()
	x.idempotent = idempotent(h.Method)
	x.connect = h.IsConnect() && h.Upgrade == nil
	x.upgrading = h.Upgrade != nil
	x.flags = flags{keep: true, reqEnd: end, call: x.GRPC && h.Version == 20}
	x.GRPCStatus = -1
	e.InFlight++
	return x
}

// Go sends the exchange on its way; it follows Begin once the owner has noted
// the exchange.
func (x *Exchange) Go() {
	if x.env.Refuse != nil {
		if a, refused := x.env.Refuse(); refused {
			x.Answer(a)
			return
		}
	}
	x.open()
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

func (e *Env) get() *Exchange {
	if n := len(e.free); n > 0 {
		x := e.free[n-1]
		e.free = e.free[:n-1]
		return x
	}
	return &Exchange{env: e}
}

// Env is the worker's environment.
func (x *Exchange) Env() *Env { return x.env }

// Tunnel reports whether the exchange has become a tunnel of bytes.
func (x *Exchange) Tunnel() bool { return x.flags.tunnel }

// Discarding reports whether the rest of the request's body goes nowhere.
func (x *Exchange) Discarding() bool { return x.flags.discard }

// Answered reports whether the proxy answered itself.
func (x *Exchange) Answered() bool { return x.flags.result == Answered }

// Idempotent reports whether the method may be repeated (RFC 9110, section 9.2.2).
func (x *Exchange) Idempotent() bool { return x.idempotent }

// Finished reports whether the exchange is over.
func (x *Exchange) Finished() bool { return x.flags.finished }

// SetDeadline ends the exchange at the given time unless it is over by then.
func (x *Exchange) SetDeadline(at mono.Time) {
	x.env.Wire.W.Arm(&x.deadline, at, x, timerDeadline)
}

// Expired implements loop.TimerHandler.
func (x *Exchange) Expired(_ *loop.Timer, kind uint8) {
	if x.flags.finished {
		return
	}
	switch kind {
	case timerWait:
		x.flags.waiting = false
		x.open()
	case timerAttempt:
		x.tryTimedOut()
	case timerQuiet:
		x.timedOut(metrics.TimeoutIdle, "idle timeout")
	default:
		x.timedOut(metrics.TimeoutRequest, "request timeout")
	}
}

// Limits sets what the policy asks for (rule R7.4): try bounds each attempt up
// to its response's head, idle the time in which nothing moves. 0 is none.
func (x *Exchange) Limits(try, idle time.Duration) {
	x.tryLimit, x.idleLimit = try, idle
	x.moved()
}

// moved notes that bytes moved.
func (x *Exchange) moved() {
	if x.idleLimit > 0 {
		w := x.env.Wire.W
		w.Arm(&x.idle, w.Now().Add(x.idleLimit), x, timerQuiet)
	}
}

// tryTimedOut gives up an attempt that has had no response.
func (x *Exchange) tryTimedOut() {
	if x.flags.respHead {
		return
	}
	x.dropUp(h2.ErrCodeCancel)
	x.UpFailed(Failure{Timeout: true, TimedOut: metrics.TimeoutTry, Code: h2.ErrCodeCancel, Reason: "no response in time"})
}

func (x *Exchange) timedOut(kind metrics.Timeout, reason string) {
	f := Failure{Timeout: true, TimedOut: kind, Code: h2.ErrCodeCancel, Reason: reason}
	x.dropUp(h2.ErrCodeCancel) // while the Director knows where it waits
	x.dir.Failed(x, &f)
	switch a := f.answer(); {
	case !x.flags.respHead:
		x.Answer(a)
	case !x.endCall(a):
		x.cut(h2.ErrCodeCancel)
	}
}

// dropUp resets the upstream, or takes back the search for one.
func (x *Exchange) dropUp(code h2.ErrCode) {
	x.env.Wire.W.Cancel(&x.try)
	if x.flags.opening {
		x.flags.opening = false
		x.dir.Cancel(x)
	}
	if up := x.up; up != nil {
		x.up = nil
		up.Reset(code)
		up.Detach()
	}
}

// Break ends a tunnel both ways.
func (x *Exchange) Break(code h2.ErrCode) {
	if x.flags.finished {
		return
	}
	x.dropUp(code)
	x.cut(code)
}

// cut breaks the response off.
func (x *Exchange) cut(code h2.ErrCode) {
	x.down.Reset(code)
	x.finish(Cut)
}

// settle finishes the exchange when both directions have ended.
func (x *Exchange) settle() {
	if x.flags.respEnd && (x.flags.reqEnd || x.flags.discard) && !x.flags.finished {
		x.finish(x.flags.result)
	}
}

func (x *Exchange) finish(r Result) {
	if x.flags.finished {
		return
	}
	x.flags.finished = true
	w := x.env.Wire.W
	w.Cancel(&x.deadline)
	w.Cancel(&x.wait)
	w.Cancel(&x.try)
	w.Cancel(&x.idle)
	if x.flags.opening {
		x.flags.opening = false
		x.dir.Cancel(x)
	}
	x.dir.Finished(x, r)
	if up := x.up; up != nil {
		x.up = nil
		up.Detach()
	}
	x.down.Detach()
	x.env.InFlight--
	x.env.reap(x)
}

// freeRequest gives back what only another attempt would need.
func (x *Exchange) freeRequest() {
	p := x.env.Wire.Pool()
	p.Put(x.buf)
	p.Put(x.body)
	p.Put(x.tailBuf)
	x.buf, x.body, x.tailBuf = nil, nil, nil
	x.Req.Reset()
	x.tail.Reset()
	x.flags.keep = false
}

// reap puts x aside until the turn is over: callers further up may still hold it.
func (e *Env) reap(x *Exchange) {
	e.dead = append(e.dead, x)
	if !e.reaping {
		e.reaping = true
		e.Wire.W.Soon(e)
	}
}

// Run implements loop.Task: it frees the exchanges that ended.
func (e *Env) Run() {
	e.reaping = false
	for i, x := range e.dead {
		x.freeRequest()
		fields, tail := x.Req.Fields[:0], x.tail.Fields[:0]
		*x = Exchange{env: e}
		x.Req.Fields, x.tail.Fields = fields, tail
		if len(e.free) < 1024 {
			e.free = append(e.free, x)
		}
		e.dead[i] = nil
	}
	e.dead = e.dead[:0]
}
