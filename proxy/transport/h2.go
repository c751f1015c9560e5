package transport

import (
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// sweepEvery is how often a pool looks for connections that are idle or old.
const sweepEvery = 5 * time.Second

// expiryMargin is how long before its certificate's end a hop is drained.
const expiryMargin = time.Minute

// maxDials is how many connections a pool makes at once: enough for two thousand
// requests that come together, and no herd of handshakes for one endpoint.
const maxDials = 8

// expectedStreams is how many streams a connection is expected to take while no
// peer has said: what our own offer (R4.1).
const expectedStreams = 250

// H2Pool keeps HTTP/2 connections to one endpoint and identity (R5.3): one as
// long as it has room for streams, more when the peer's limit is reached (R4.4),
// as many at once as those who wait need.
type H2Pool struct {
	p       *Params
	remote  Remote
	conns   []h2Entry
	waiting queue
	dialing int
	streams int // that a new connection is expected to take
	closed  bool
	timer   loop.Timer
	timed   bool
}

type h2Entry struct {
	k      *exchange.H2Client
	made   mono.Time
	retire mono.Time // 0: never
}

// NewH2Pool returns an empty pool.
func NewH2Pool(p *Params, r Remote) *H2Pool {
	return &H2Pool{p: p, remote: r, waiting: queue{count: p.Queues}, streams: expectedStreams}
}

// Open finds x a stream, or has it wait for a connection.
func (o *H2Pool) Open(x *exchange.Exchange) {
	if o.waiting.len() == 0 {
		for i := range o.conns {
			if k := o.conns[i].k; k.CanOpen() {
				k.Assign(x)
				return
			}
		}
	}
	if o.waiting.len()-o.coming() >= o.p.MaxWaiting {
		x.OpenFailed(o.p.queueFull())
		return
	}
	o.waiting.push(x)
	o.grow()
}

// coming is for how many of those who wait there will soon be room: on connections
// that are being made, and on new ones whose peer has not said its limit yet.
func (o *H2Pool) coming() int {
	n := o.dialing * o.streams
	now := o.p.Env.Wire.Now()
	for i := range o.conns {
		e := &o.conns[i]
		if _, known := e.k.Limit(); !known && now.Sub(e.made) < o.p.Connect {
			n += max(o.streams-e.k.Streams(), 0)
		}
	}
	return n
}

// grow dials while exchanges wait for whom no room is on its way.
func (o *H2Pool) grow() {
	if o.waiting.len() == 0 {
		return
	}
	for o.dialing < maxDials && len(o.conns)+o.dialing < o.p.MaxConns && o.waiting.len() > o.coming() {
		o.dialing++
		dial(o.p, &o.remote, quiet{}, o.dialed)
	}
}

// Cancel takes x out of the queue.
func (o *H2Pool) Cancel(x *exchange.Exchange) { o.waiting.remove(x) }

// Waiting is the number of exchanges in the queue.
func (o *H2Pool) Waiting() int { return o.waiting.len() }

// Conns is the number of connections that take new streams.
func (o *H2Pool) Conns() int { return len(o.conns) }

func (o *H2Pool) dialed(c *wire.Conn, err error) {
	o.dialing--
	if err != nil { // the others may still find room on another that is being made
		o.waiting.fail(o.waiting.len()-o.coming(), err)
		return
	}
	k := exchange.NewH2Client(o.p.Client, o.p.H2, o, c)
	o.conns = append(o.conns, h2Entry{k: k, made: o.p.Env.Wire.Now(), retire: o.retireAt(c)})
	o.arm()
	o.serve(k)
	if o.closed {
		k.Retire()
	}
}

// retireAt is when a new connection is to be drained: at its maximum age, and
// before the earlier end of its two certificates.
func (o *H2Pool) retireAt(c *wire.Conn) mono.Time {
	now := o.p.Env.Wire.Now()
	var at mono.Time
	if age := o.p.MaxAge; age > 0 {
		at = now.Add(age - time.Duration(o.p.Env.Wire.W.Rand().Int64N(int64(age)/10+1)))
	}
	if s := c.Session(); s != nil {
		left := o.p.WallLeft(s.NotAfter())
		end := now.Add(max(left-min(expiryMargin, left/10), 0))
		if at == 0 || end < at {
			at = end
		}
	}
	return at
}

// serve gives k to those who wait.
func (o *H2Pool) serve(k *exchange.H2Client) {
	for o.waiting.len() > 0 && k.CanOpen() {
		k.Assign(o.waiting.pop())
	}
	o.grow()
}

// Room implements exchange.H2Owner.
func (o *H2Pool) Room(k *exchange.H2Client) {
	if n, known := k.Limit(); known {
		o.streams = max(n, 1)
	}
	if o.waiting.len() > 0 {
		o.serve(k)
	}
}

// Gone implements exchange.H2Owner.
func (o *H2Pool) Gone(k *exchange.H2Client) {
	for i := range o.conns {
		if o.conns[i].k == k {
			o.conns = append(o.conns[:i], o.conns[i+1:]...)
			break
		}
	}
	o.grow()
}

// Close retires all connections; what is in flight finishes.
func (o *H2Pool) Close() {
	o.closed = true
	for len(o.conns) > 0 {
		o.conns[0].k.Retire()
	}
}

func (o *H2Pool) arm() {
	if !o.timed && len(o.conns) > 0 {
		o.timed = true
		w := o.p.Env.Wire.W
		w.Arm(&o.timer, w.Now().Add(sweepEvery), o, 0)
	}
}

// Expired implements loop.TimerHandler: it retires what is idle or old.
func (o *H2Pool) Expired(*loop.Timer, uint8) {
	o.timed = false
	now := o.p.Env.Wire.Now()
	for _, e := range slices.Backward(o.conns) {
		old := e.retire > 0 && now >= e.retire
		idle := e.k.Streams() == 0 && now.Sub(e.k.IdleSince) >= o.p.Idle
		if old || idle {
			e.k.Retire() // takes itself out through Gone
		}
	}
	o.grow() // a peer may never say its limit
	o.arm()
}
