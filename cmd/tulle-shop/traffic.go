package main

import (
	"context"
	"errors"
	"flag"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/shop"
	"github.com/tulle-mesh/tulle/internal/shop/traffic"
)

// generate makes traffic until its duration is over or it is stopped, and prints its summary.
func generate(ctx context.Context, args []string, s run.Streams) error {
	var cfg traffic.Config
	var logName, controlAddr string
	f := flag.NewFlagSet("tulle-shop traffic", flag.ContinueOnError)
	edges := []traffic.Edge{
		{Service: shop.Web, Rate: 50}, {Service: shop.Cart, Rate: 20}, {Service: shop.Payments, Rate: 10}, {Service: shop.Feed, Rate: 1},
	}
	for i := range edges {
		e := &edges[i]
		f.StringVar(&e.Addr, e.Service, "", "address of "+e.Service+"; no traffic to it if empty")
		f.Float64Var(&e.Rate, e.Service+"-rate", e.Rate, "requests per second to "+e.Service)
	}
	f.DurationVar(&cfg.Duration, "duration", 0, "end of the traffic; 0: until stopped")
	f.DurationVar(&cfg.Timeout, "timeout", 0, "bound of one request (default 10s)")
	f.DurationVar(&cfg.Session, "session", 0, "length of a feed session (default 2s)")
	f.IntVar(&cfg.Open, "open", 0, "most requests open at a time, per service (default 1000)")
	f.StringVar(&cfg.Run, "run", "", "beginning of every request id (default: the time)")
	f.StringVar(&logName, "log", "", "file that gets a JSON line per request; - is standard output")
	f.StringVar(&controlAddr, "control", "", "loopback address that answers GET /stats; none if empty")
	if err := parse(f, args, s); err != nil {
		return err
	}
	for _, e := range edges {
		if e.Addr != "" {
			cfg.Edges = append(cfg.Edges, e)
		}
	}
	if len(cfg.Edges) == 0 {
		return &run.ExitError{Code: 2, Err: errors.New("traffic needs the address of a service: --web, --cart, --payments or --feed")}
	}
	log, done, err := openLog(logName, s)
	if err != nil {
		return err
	}
	defer done()
	cfg.Log = log
	generator, err := traffic.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g run.Group
	g.Add("traffic", run.Func(func(ctx context.Context) error {
		defer cancel() // the control endpoint ends with the traffic
		return generator.Run(ctx)
	}))
	at, err := control(ctx, controlAddr, shop.Control{Stats: func() any { return generator.Summary() }}, &g)
	if err != nil {
		return err
	}
	if at != "" {
		if err := tell(s.Out, map[string]string{"instance": "traffic", "control": at}); err != nil {
			return err
		}
	}
	return errors.Join(g.Run(ctx), tell(s.Out, generator.Summary()))
}
