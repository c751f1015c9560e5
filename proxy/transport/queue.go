// Package transport dials endpoints and keeps pools of connections to them:
// one pool per endpoint, identity and protocol. Exchanges wait here, bounded,
// for a connection that is being made.
package transport

import (
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// Params are what the pools of one direction have in common.
type Params struct {
	Env *exchange.Env
	// Connect bounds connecting, Handshake the TLS handshake (R7.4).
	Connect, Handshake time.Duration
	// Idle is how long an unused connection is kept (R3.5).
	Idle time.Duration
	// MaxAge of an HTTP/2 connection; each gets up to a tenth less (R4.4). 0 is none.
	MaxAge time.Duration
	// UserTimeout is TCP_USER_TIMEOUT of HTTP/2 hops (R1.1).
	UserTimeout time.Duration
	// MaxConns bounds the connections of a pool, MaxWaiting those in its queue for
	// whom no connection is on its way.
	MaxConns, MaxWaiting int
	// Queues counts who waits in all pools.
	Queues *Queues
	Client *exchange.ClientParams
	H2     h2.Config
	// Wall is the wall clock that certificates expire by.
	Wall func() time.Time
}

// WallLeft is the time until at on the wall clock.
func (p *Params) WallLeft(at time.Time) time.Duration { return at.Sub(p.Wall()) }

// Queues counts exchanges that wait for a connection, and those that found the
// queue full.
type Queues struct {
	Waiting int
	Full    uint64
}

// Remote is whom a pool connects to.
type Remote struct {
	Addr netip.AddrPort
	// Session makes the TLS session of a new connection; nil is plaintext.
	Session func() *mtls.Session
}

// queueFull is the Failure of an exchange that found no place in a queue: it
// says nothing of the endpoint (R8.1).
func (p *Params) queueFull() exchange.Failure {
	p.Queues.Full++
	return exchange.Failure{
		Code: h2.ErrCodeRefusedStream, Unprocessed: true, Status: 503,
		Reason: "more than " + strconv.Itoa(p.MaxWaiting) + " requests wait for a connection",
	}
}

// queue holds the exchanges that wait for a connection, in order.
type queue struct {
	x     []*exchange.Exchange
	head  int
	count *Queues
}

func (q *queue) push(x *exchange.Exchange) {
	if q.head > len(q.x)/2 { // also of a queue that is never empty
		n := copy(q.x, q.x[q.head:])
		clear(q.x[n:])
		q.x, q.head = q.x[:n], 0
	}
	q.x = append(q.x, x)
	q.count.Waiting++
}

func (q *queue) len() int { return len(q.x) - q.head }

func (q *queue) pop() *exchange.Exchange {
	x := q.x[q.head]
	q.x[q.head] = nil
	q.head++
	q.count.Waiting--
	return x
}

func (q *queue) remove(x *exchange.Exchange) {
	for i := q.head; i < len(q.x); i++ {
		if q.x[i] == x {
			q.x = append(q.x[:i], q.x[i+1:]...)
			q.count.Waiting--
			return
		}
	}
}

// fail tells the n who have waited longest that there is no connection. Each may
// come back at once.
func (q *queue) fail(n int, err error) {
	for ; n > 0 && q.len() > 0; n-- {
		x := q.pop()
		x.OpenFailed(connectFailure(err))
	}
}

// connectFailure is the Failure of a connection that could not be made: nothing
// was sent, so the request was not processed (R7.1).
func connectFailure(err error) exchange.Failure {
	timeout := errors.Is(err, wire.ErrConnectTimeout) || errors.Is(err, wire.ErrHandshakeTimeout)
	return exchange.Failure{
		Code: h2.ErrCodeRefusedStream, Unprocessed: true, Connect: true,
		Timeout: timeout, Err: err, Reason: err.Error(),
	}
}

// dial makes a connection, secure when the remote has a Session.
func dial(p *Params, r *Remote, user wire.User, ready func(*wire.Conn, error)) {
	var c *wire.Conn
	params := wire.DialParams{User: user, Timeout: p.Connect}
	if r.Session != nil {
		params.UserTimeout = p.UserTimeout
	}
	params.Ready = func(err error) {
		if err != nil || r.Session == nil {
			ready(c, err)
			return
		}
		c.Secure(r.Session(), nil, p.Handshake, func(err error) { ready(c, err) })
	}
	c = wire.Dial(p.Env.Wire, r.Addr, params)
}

// quiet is the user of a connection that is being made.
type quiet struct{}

func (quiet) Received([]byte) {}
func (quiet) EOF()            {}
func (quiet) Failed(error)    {}
func (quiet) Flushed(int)     {}

// Dial makes a connection for a tunnel; ready hears the outcome once.
func Dial(p *Params, r *Remote, ready func(*wire.Conn, error)) {
	dial(p, r, quiet{}, ready)
}
