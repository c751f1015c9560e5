package transport

import (
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// H1Pool keeps HTTP/1 connections to one address: a request at a time each,
// the one used last first.
type H1Pool struct {
	p       *Params
	remote  Remote
	idle    []*exchange.H1Client
	waiting queue
	dialing int
	open    int
	closed  bool
	timer   loop.Timer
	timed   bool
}

// NewH1Pool returns an empty pool.
func NewH1Pool(p *Params, r Remote) *H1Pool {
	return &H1Pool{p: p, remote: r, waiting: queue{count: p.Queues}}
}

// Open finds x a connection, or has it wait for one.
func (o *H1Pool) Open(x *exchange.Exchange) {
	now := o.p.Env.Wire.Now()
	for n := len(o.idle); n > 0; n = len(o.idle) {
		k := o.idle[n-1]
		o.idle = o.idle[:n-1]
		if k.Usable(now) {
			k.Assign(x)
			return
		}
	}
	if o.waiting.len()-o.dialing >= o.p.MaxWaiting {
		x.OpenFailed(o.p.queueFull())
		return
	}
	o.waiting.push(x)
	o.more()
}

// Cancel takes x out of the queue.
func (o *H1Pool) Cancel(x *exchange.Exchange) { o.waiting.remove(x) }

// Waiting is the number of exchanges in the queue.
func (o *H1Pool) Waiting() int { return o.waiting.len() }

// Conns is the number of open connections.
func (o *H1Pool) Conns() int { return o.open }

func (o *H1Pool) dial() {
	o.dialing++
	dial(o.p, &o.remote, quiet{}, o.dialed)
}

func (o *H1Pool) dialed(c *wire.Conn, err error) {
	o.dialing--
	if err != nil {
		if o.waiting.len() > 0 {
			// Each attempt fails one exchange; the others may still find a
			// connection of their own.
			o.waiting.pop().OpenFailed(connectFailure(err))
		}
		o.more()
		return
	}
	o.open++
	k := exchange.NewH1Client(o.p.Client, o, c)
	k.IdleSince = o.p.Env.Wire.Now()
	o.Idle(k)
}

// Idle implements exchange.H1Owner.
func (o *H1Pool) Idle(k *exchange.H1Client) {
	switch {
	case o.waiting.len() > 0:
		k.Assign(o.waiting.pop())
	case o.closed:
		o.open--
		k.Close()
	default:
		o.idle = append(o.idle, k)
		o.arm()
	}
}

// Gone implements exchange.H1Owner.
func (o *H1Pool) Gone(k *exchange.H1Client) {
	o.open--
	for i, c := range o.idle {
		if c == k {
			o.idle = append(o.idle[:i], o.idle[i+1:]...)
			break
		}
	}
	o.more()
}

// more dials when exchanges wait for whom no connection is on its way.
func (o *H1Pool) more() {
	if o.waiting.len() > o.dialing && o.open+o.dialing < o.p.MaxConns {
		o.dial()
	}
}

// Close lets connections go as they become idle; who waits is still served.
func (o *H1Pool) Close() {
	o.closed = true
	for _, k := range o.idle {
		o.open--
		k.Close()
	}
	o.idle = nil
	o.p.Env.Wire.W.Cancel(&o.timer)
}

func (o *H1Pool) arm() {
	if !o.timed && len(o.idle) > 0 {
		o.timed = true
		o.p.Env.Wire.W.Arm(&o.timer, o.idle[0].IdleSince.Add(o.p.Idle), o, 0)
	}
}

// Expired implements loop.TimerHandler: the connections at the bottom have been
// idle for longest.
func (o *H1Pool) Expired(*loop.Timer, uint8) {
	o.timed = false
	o.expire(o.p.Env.Wire.Now())
	o.arm()
}

func (o *H1Pool) expire(now mono.Time) {
	n := 0
	for n < len(o.idle) && now.Sub(o.idle[n].IdleSince) >= o.p.Idle {
		o.open--
		o.idle[n].Close()
		n++
	}
	o.idle = append(o.idle[:0], o.idle[n:]...)
}
