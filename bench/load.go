//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// proto is what load and origin speak.
type proto string

const (
	protoHTTP1 proto = "http1"
	protoGRPC  proto = "grpc"
	protoTCP   proto = "tcp"
)

// loadOrders tell the load generator what to do.
type loadOrders struct {
	Proto   proto         `json:"proto"`
	Addr    string        `json:"addr"`
	Conns   int           `json:"conns"`
	Streams int           `json:"streams"` // outstanding per connection
	Rate    float64       `json:"rate"`    // per second; 0 sends when an answer is there
	Warm    time.Duration `json:"warm"`
	Time    time.Duration `json:"time"`
	Body    int           `json:"body"` // of a response
	PIDs    []int         `json:"pids"` // whose CPU is counted
}

// loadReport is what came of it. Latencies are microseconds; at a constant rate they count from
// when a request was due, not from when it was sent.
type loadReport struct {
	Requests   int     `json:"requests"`
	Seconds    float64 `json:"seconds"`
	Errors     int     `json:"errors"`
	Error      string  `json:"error"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	Max        float64 `json:"max"`
	ProxyCPU   float64 `json:"proxy_cpu"` // microseconds per request
	Slices     float64 `json:"slices"`    // times that a proxy's thread was put on a processor, per request
	OwnCPU     float64 `json:"own_cpu"`   // of the generator, microseconds per request
	Resident   int     `json:"resident"`  // KiB
	Anonymous  int     `json:"anonymous"` // KiB
	Unanswered int     `json:"unanswered"`
}

// codec writes requests and finds the ends of responses.
type codec interface {
	// begin writes what comes before the first request.
	begin(c *loadConn)
	request(c *loadConn, due int64)
	// responses calls c.done for each response that is whole and returns the rest.
	responses(c *loadConn, b []byte) (rest []byte, err error)
}

// loadConn is one connection of the generator.
type loadConn struct {
	stream

	g     *generator
	codec codec
}

// generator is one thread that keeps connections busy.
type generator struct {
	orders    *loadOrders
	poll      *poller
	conns     map[int]*loadConn
	free      []*loadConn // at a constant rate: with room for a request
	backlog   []int64     // requests that are due and found no room
	buf       []byte
	samples   []int32 // microseconds * 10
	measuring bool
	answered  int
	asked     int
	errors    int
	firstErr  error
	serial    uint64
}

func loadCommand(r io.Reader, w io.Writer) error {
	var o loadOrders
	if err := receive(r, &o); err != nil {
		return err
	}
	dedicate()
	g := &generator{
		orders: &o, conns: map[int]*loadConn{}, buf: make([]byte, 256<<10),
		samples: make([]int32, 0, 1<<21), serial: uint64(os.Getpid()) << 24,
	}
	if err := g.connect(); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(g.run())
}

func (g *generator) connect() (err error) {
	if g.poll, err = newPoller(); err != nil {
		return err
	}
	for i := range g.orders.Conns {
		fd, err := dial(g.orders.Addr)
		if err != nil {
			return err
		}
		c := &loadConn{stream: stream{fd: fd, poll: g.poll}, g: g, codec: newCodec(g.orders)}
		g.conns[fd] = c
		if err := g.poll.add(fd); err != nil {
			return err
		}
		c.codec.begin(c)
		for range g.orders.Streams {
			g.free = append(g.free, c)
		}
		if i%32 == 31 {
			time.Sleep(time.Millisecond) // the accept queue is not what is measured
		}
	}
	return nil
}

func newCodec(o *loadOrders) codec {
	switch o.Proto {
	case protoHTTP1:
		return &http1Codec{body: o.Body, need: -1}
	case protoGRPC:
		return newGRPCCodec(o.Body)
	case protoTCP:
		return &tcpCodec{}
	}
	panic("BUG: a protocol without a codec: " + o.Proto)
}

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

// run loads, measures and reports.
func (g *generator) run() loadReport {
	begin := now()
	from := begin + int64(g.orders.Warm)
	until := from + int64(g.orders.Time)
	if g.orders.Rate == 0 {
		for len(g.free) > 0 {
			g.send(begin)
		}
	}
	schedule := pace{from: begin, rate: g.orders.Rate}
	var before usage
	var start int64
	var base int
	for {
		t := now()
		if !g.measuring && t >= from {
			g.measuring = true
			before, start, base = g.usage(), now(), g.answered
		}
		if t >= until {
			break
		}
		limit := until
		if !g.measuring {
			limit = from
		}
		g.turn(g.due(&schedule, t, limit))
	}
	return g.report(before, start, base)
}

// pace is the schedule of a constant rate.
type pace struct {
	from int64
	rate float64
	sent int
}

func (p *pace) next() int64 { return p.from + int64(float64(p.sent)*1e9/p.rate) }

// due sends what is due and says how long to wait for events.
func (g *generator) due(p *pace, t, limit int64) time.Duration {
	if p.rate == 0 {
		return time.Duration(limit - t)
	}
	for at := p.next(); at <= t; at = p.next() {
		if len(g.free) > 0 {
			g.send(at)
		} else {
			g.backlog = append(g.backlog, at)
		}
		p.sent++
	}
	return time.Duration(max(min(p.next(), limit)-now(), 0))
}

func (g *generator) send(due int64) {
	c := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	c.ask(due)
	c.flush()
}

func (c *loadConn) ask(due int64) {
	c.g.serial++
	c.g.asked++
	c.codec.request(c, due)
}

func (g *generator) turn(wait time.Duration) {
	ready := g.poll.wait(0)
	if len(ready) == 0 && wait > 0 {
		ready = g.poll.wait(wait)
	}
	for i := range ready {
		if c := g.conns[int(ready[i].Fd)]; c != nil {
			g.handle(c, ready[i].Events)
		}
	}
}

func (g *generator) handle(c *loadConn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	if events&^unix.EPOLLOUT != 0 {
		if b := c.read(g.buf); c.failed == nil {
			rest, err := c.codec.responses(c, b)
			c.keep(rest)
			c.flush()
			c.failed = err
		}
	}
	if c.failed != nil {
		g.fail(c.failed)
		unix.Close(c.fd)
		delete(g.conns, c.fd)
	}
}

func (g *generator) fail(err error) {
	g.errors++
	if g.firstErr == nil {
		g.firstErr = err
	}
}

// done counts an answer and asks for the next one.
func (c *loadConn) done(due int64) {
	g, t := c.g, now()
	g.answered++
	if g.measuring && len(g.samples) < cap(g.samples) {
		g.samples = append(g.samples, int32(min((t-due)/100, 1<<31-1)))
	}
	switch {
	case g.orders.Rate == 0:
		c.ask(t)
	case len(g.backlog) > 0:
		at := g.backlog[0]
		g.backlog = g.backlog[1:]
		c.ask(at)
	default:
		g.free = append(g.free, c)
	}
}

func (g *generator) usage() usage {
	u := processes(g.orders.PIDs)
	u.own = ownCPU()
	return u
}

func (g *generator) report(before usage, start int64, base int) loadReport {
	after, end := g.usage(), now()
	n := g.answered - base
	r := loadReport{
		Requests: n, Seconds: float64(end-start) / 1e9, Errors: g.errors, Resident: after.resident, Anonymous: after.anonymous,
		Unanswered: g.asked - g.answered + len(g.backlog),
	}
	if g.firstErr != nil {
		r.Error = g.firstErr.Error()
	}
	if n == 0 {
		r.Errors++
		r.Error = fmt.Sprintf("no answers at all (%s)", r.Error)
		return r
	}
	each := func(d time.Duration) float64 { return float64(d) / 1e3 / float64(n) }
	r.ProxyCPU, r.OwnCPU = each(after.cpu-before.cpu), each(after.own-before.own)
	r.Slices = float64(after.slices-before.slices) / float64(n)
	slices.Sort(g.samples)
	r.P50, r.P99, r.Max = quantile(g.samples, 0.5), quantile(g.samples, 0.99), quantile(g.samples, 1)
	return r
}

// quantile of sorted tenths of microseconds, in microseconds.
func quantile(sorted []int32, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]) / 10
}
