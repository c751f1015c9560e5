// Package traffic is the sample shop's generator: an open loop that sends requests when they are
// due, whether or not earlier ones were answered, and never repeats one. What it saw it tells as
// JSON lines, one per request, and as a summary per service.
package traffic

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// Edge is one kind of traffic.
type Edge struct {
	// Service is the one that is called: shop.Web, Cart, Payments or Feed.
	Service string
	// Addr is where it is dialled.
	Addr string
	// Rate is requests per second; of the feed, sessions.
	Rate float64
}

// Config makes a Generator.
type Config struct {
	Edges []Edge
	// Duration ends the traffic. Zero: it goes on until it is stopped.
	Duration time.Duration
	// Timeout bounds one request. Zero: 10 s.
	Timeout time.Duration
	// Open bounds the requests that are open at a time, per edge; what is due beyond is skipped and
	// counted. Zero: 1,000.
	Open int
	// Session is how long a session of the feed lasts. Zero: 2 s.
	Session time.Duration
	// Run makes the request ids of this run unlike those of any other. Empty: the time it began.
	Run string
	// Log gets a line per request. Nil: none.
	Log io.Writer
}

// Generator makes traffic. Run it once.
type Generator struct {
	cfg   Config
	log   *shop.Log
	stats *stats
}

// New checks cfg and returns a Generator.
func New(cfg Config) (*Generator, error) {
	for _, e := range cfg.Edges {
		if senders[e.Service] == nil {
			return nil, fmt.Errorf("traffic to %q: want %s, %s, %s or %s", e.Service, shop.Web, shop.Cart, shop.Payments, shop.Feed)
		}
		if e.Rate <= 0 {
			return nil, fmt.Errorf("traffic to %s: rate %g: want more than 0 per second", e.Service, e.Rate)
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Open == 0 {
		cfg.Open = 1000
	}
	if cfg.Session == 0 {
		cfg.Session = 2 * time.Second
	}
	now := time.Now()
	if cfg.Run == "" {
		cfg.Run = strconv.FormatInt(now.UnixMilli(), 36)
	}
	return &Generator{cfg: cfg, log: shop.NewLog(cfg.Log), stats: newStats()}, nil
}

// Summary returns what was seen so far.
func (g *Generator) Summary() Summary { return g.stats.summary() }

// Run makes traffic until the configured duration is over or ctx ends, and returns when every
// request that it sent has ended.
func (g *Generator) Run(ctx context.Context) error {
	g.stats.begin()
	due := ctx
	if g.cfg.Duration > 0 {
		var cancel context.CancelFunc
		due, cancel = context.WithTimeout(ctx, g.cfg.Duration)
		defer cancel()
	}
	defer context.AfterFunc(due, g.stats.end)()
	var wg sync.WaitGroup
	for _, e := range g.cfg.Edges {
		wg.Go(func() { g.edge(due, e) }) // owned by Run, ends with due and its open requests
	}
	wg.Wait()
	return nil
}

// edge sends e's requests when they are due. Requests that are open when due ends go on to their end.
func (g *Generator) edge(due context.Context, e Edge) {
	s := senders[e.Service](e.Addr, g.cfg)
	defer s.close()
	open := make(chan struct{}, g.cfg.Open)
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Now()
	for n := int64(0); ; n++ {
		at := began.Add(time.Duration(float64(n) / e.Rate * float64(time.Second)))
		timer.Reset(time.Until(at))
		select {
		case <-due.Done():
			return
		case <-timer.C:
		}
		select {
		case open <- struct{}{}:
		default:
			g.stats.skip(e.Service)
			continue
		}
		wg.Go(func() { // owned by edge, ends with its request
			g.one(context.WithoutCancel(due), s, request{service: e.Service, n: n, id: g.cfg.Run + "-" + e.Service + "-" + strconv.FormatInt(n, 10)})
			<-open
		})
	}
}

// one sends a request and tells of it.
func (g *Generator) one(ctx context.Context, s sender, r request) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout+s.lasts())
	defer cancel()
	began := time.Now()
	record := s.send(ctx, r)
	record.Time, record.Service, record.ID = began.UnixMilli(), r.service, r.id
	if record.MS == 0 {
		record.MS = shop.Millis(time.Since(began))
	}
	g.stats.add(record)
	g.log.Write(record)
}
