package discover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Client keeps a discovery stream up and a Sink fed.
type Client struct {
	cfg  Config
	sink Sink

	missed codes.Code // of the last attempt, once told; Run's own

	mu       sync.Mutex // guards below; never held while the Sink or the network is called
	subs     map[mesh.Target]*sub
	inbound  *sub // subject 0; it is never subscribed to
	bySubj   map[uint64]*sub
	lastSubj uint64
	session  uint64 // counts streams, up or not
	out      outbox
	stats    Stats
	up       bool
	hello    Hello
	failures map[failureKey]*Failure

	failed chan struct{} // holds a token when a failure was noted
}

// New returns a Client that does nothing before Run.
func New(cfg Config, sink Sink) *Client {
	c := &Client{
		cfg: cfg.withDefaults(), sink: sink,
		subs: make(map[mesh.Target]*sub), inbound: &sub{},
		failures: make(map[failureKey]*Failure), failed: make(chan struct{}, 1),
	}
	c.out.wake = make(chan struct{}, 1)
	return c
}

// Subscribe asks for a target from now on. A target that is subscribed to already stays as it is.
func (c *Client) Subscribe(t mesh.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs[t] != nil {
		return
	}
	s := &sub{target: t}
	c.subs[t] = s
	c.attach(s)
}

// attach gives s a subject on the present stream, if there is one. mu is held.
func (c *Client) attach(s *sub) {
	if c.bySubj == nil {
		return // the next stream begins with it
	}
	c.lastSubj++
	s.begin(c.lastSubj)
	c.bySubj[s.subject] = s
	c.out.push(s, todoSubscribe)
}

// Unsubscribe ends a subscription; what is under way of it is dropped.
func (c *Client) Unsubscribe(t mesh.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subs[t]
	if s == nil {
		return
	}
	delete(c.subs, t)
	c.detach(s)
}

func (c *Client) detach(s *sub) {
	if c.bySubj[s.subject] == s {
		delete(c.bySubj, s.subject)
		c.out.drop(s)
	}
	s.stop()
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Up reports whether the stream is up, and the hello of the server on it or the one before.
func (c *Client) Up() (bool, Hello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up, c.hello
}

// Run keeps the stream up until ctx ends, which it returns as nil.
func (c *Client) Run(ctx context.Context) error {
	defer c.close()
	pause := newPause(c.cfg)
	for ctx.Err() == nil {
		conn, err := c.connect()
		if err != nil {
			return err
		}
		was, err := c.stream(ctx, conn)
		conn.Close()
		if ctx.Err() != nil {
			break
		}
		d := pause.next(was)
		c.log(was, err, d)
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return nil
}

// Times of a connection.
const (
	connectTime = 5 * time.Second // for TCP and TLS together
	// A server that vanished without a word is noticed within aliveAfter + aliveTime, even by a proxy that waits for
	// nothing but its inbound policy: no digest is due to it.
	aliveAfter = 20 * time.Second
	aliveTime  = 10 * time.Second
)

// connect makes a connection for one stream. The next stream gets another: gRPC's own backoff, and what it remembers of
// names and failures, would delay a proxy whose control plane has just come back.
func (c *Client) connect() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(c.cfg.Server, append([]grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(c.cfg.MaxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTime}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveAfter, Timeout: aliveTime}),
	}, c.cfg.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("discovery at %s: %w", c.cfg.Server, err)
	}
	return conn, nil
}

// log tells of a stream's end, and of attempts that fail; those that fail as the one before did are
// silent.
func (c *Client) log(was bool, err error, d time.Duration) {
	if was {
		c.missed = codes.OK
		c.cfg.Log.Info("discovery stream ended, what it told stays in force",
			zap.String(logkey.Addr, c.cfg.Server), zap.Error(err), zap.Duration(logkey.Duration, d))
		return
	}
	level := zap.DebugLevel
	if code := status.Code(err); code != c.missed {
		c.missed, level = code, zap.WarnLevel
	}
	c.cfg.Log.Log(level, "discovery unreachable", zap.String(logkey.Addr, c.cfg.Server), zap.Error(err))
}

// close stops every timer.
func (c *Client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.subs {
		s.stop()
	}
	c.inbound.stop()
}

// stream runs one stream to its end; was says whether it came up.
func (c *Client) stream(ctx context.Context, conn *grpc.ClientConn) (was bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := pb.NewDiscoveryClient(conn).Sync(ctx)
	if err != nil {
		return false, err
	}
	c.begin()
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		if err := c.send(ctx, stream); err != nil && !errors.Is(err, io.EOF) {
			cancel(err) // after io.EOF, Recv has the cause
		}
	})
	defer wg.Wait()
	defer cancel(nil)
	was, err = c.receive(ctx, stream, cancel)
	c.end()
	if was {
		c.sink.Connected(false)
	}
	if cause := context.Cause(ctx); cause != nil && status.Code(err) == codes.Canceled {
		err = cause
	}
	return was, err
}

// begin gives every subscription a subject on the new stream.
func (c *Client) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bySubj = make(map[uint64]*sub)
	c.lastSubj = 0
	c.session++
	c.out.reset()
	c.inbound.begin(0)
	c.bySubj[0] = c.inbound
	for _, s := range c.subs {
		c.attach(s)
	}
}

func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bySubj, c.up = nil, false
	c.out.reset()
	for _, s := range c.subs {
		s.stop()
	}
}

var errSilent = errors.New("no digest for twice the announced interval")

// receive hands on what the server says. The stream is dead when a server that promised digests
// sends nothing at all for twice the interval.
func (c *Client) receive(ctx context.Context, stream pb.Discovery_SyncClient, cancel context.CancelCauseFunc) (was bool, err error) {
	first, err := stream.Recv()
	if err != nil {
		return false, err
	}
	h := first.GetHello()
	if h == nil {
		return false, errors.New("the server began without a hello")
	}
	c.helloed(h)
	limit := 2*h.GetDigestInterval().AsDuration() + time.Second
	silence := time.AfterFunc(limit, func() { c.silent(cancel) })
	defer silence.Stop()
	if h.GetDigestInterval() == nil {
		silence.Stop()
		limit = 1<<63 - 1
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return true, errors.New("the server ended it")
		case err != nil:
			return true, err
		case ctx.Err() != nil:
			return true, ctx.Err()
		}
		silence.Reset(limit)
		c.handle(m)
	}
}

// silent ends a stream on which digests were due. Without an acknowledged target there are none.
func (c *Client) silent(cancel context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.bySubj {
		if s.subject != 0 && s.heard != 0 {
			cancel(errSilent)
			return
		}
	}
}

// pause is the wait between streams.
type pause struct {
	cfg Config
	now time.Duration
}

func newPause(cfg Config) *pause { return &pause{cfg: cfg, now: cfg.BackoffMin} }

func (p *pause) next(was bool) time.Duration {
	if was {
		p.now = p.cfg.BackoffMin
		return spread(p.cfg.Spread)
	}
	d := p.now/2 + rand.N(p.now)
	p.now = min(2*p.now, p.cfg.BackoffMax)
	return d
}

// spread draws a wait of at most d.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
