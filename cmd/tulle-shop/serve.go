package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/shop"
)

// serving are the flags of a service.
type serving struct {
	listen, control, log, catalog, store string

	config  shop.Config
	latency time.Duration
}

func (v *serving) flags(role string) *flag.FlagSet {
	f := flag.NewFlagSet("tulle-shop "+role, flag.ContinueOnError)
	f.StringVar(&v.listen, "listen", "127.0.0.1:0", "address to serve on")
	f.StringVar(&v.control, "control", "", "loopback address on which settings can be changed; none if empty")
	f.StringVar(&v.log, "log", "", "file that gets a JSON line per request; - is standard output")
	f.StringVar(&v.config.Name, "name", role, "name of this instance")
	f.DurationVar(&v.latency, "latency", 0, "time that an answer takes, ± 20 %")
	f.Float64Var(&v.config.Settings.Fail, "fail", 0, "share of requests that fail, 0 to 1")
	f.IntVar(&v.config.Settings.Status, "status", 0, "HTTP status of failures (default 500)")
	f.DurationVar(&v.config.Linger, "linger", 0, "time to serve on after SIGTERM")
	switch role {
	case shop.Web:
		f.StringVar(&v.catalog, "catalog", "", "address of the catalogue (gRPC)")
	case shop.Cart:
		f.StringVar(&v.store, "store", "", "address of the store (TCP)")
	}
	return f
}

// serve runs one instance of a service.
func serve(ctx context.Context, role string, args []string, s run.Streams) error {
	var v serving
	if err := parse(v.flags(role), args, s); err != nil {
		return err
	}
	v.config.Service, v.config.Settings.Latency = role, shop.Duration(v.latency)
	log, done, err := openLog(v.log, s)
	if err != nil {
		return err
	}
	defer done()
	v.config.Log = log
	instance, err := shop.New(v.config)
	if err != nil {
		return err
	}
	part, err := v.part(role, instance)
	if err != nil {
		return err
	}
	ln, err := listen(ctx, v.listen)
	if err != nil {
		return err
	}
	var g run.Group
	g.Add(instance.Name(), run.Func(func(ctx context.Context) error { return part(ctx, ln) }))
	at, err := control(ctx, v.control, shop.Control{Instance: instance}, &g)
	if err != nil {
		ln.Close()
		return err
	}
	err = tell(s.Out, map[string]string{"instance": instance.Name(), "listen": ln.Addr().String(), "control": at})
	if err != nil {
		ln.Close()
		return err
	}
	return g.Run(ctx)
}

// part is what serves role, with the addresses that it needs.
func (v *serving) part(role string, i *shop.Instance) (func(context.Context, net.Listener) error, error) {
	needs := func(name, addr string, part func(context.Context, net.Listener, string) error) (func(context.Context, net.Listener) error, error) {
		if addr == "" {
			return nil, &run.ExitError{Code: 2, Err: fmt.Errorf("%s needs --%s", role, name)}
		}
		return func(ctx context.Context, ln net.Listener) error { return part(ctx, ln, addr) }, nil
	}
	switch role {
	case shop.Web:
		return needs("catalog", v.catalog, i.ServeWeb)
	case shop.Cart:
		return needs("store", v.store, i.ServeCart)
	case shop.Catalog:
		return i.ServeCatalog, nil
	case shop.Store:
		return i.ServeStore, nil
	case shop.Payments:
		return i.ServePayments, nil
	case shop.Feed:
		return i.ServeFeed, nil
	}
	panic("BUG: no part for role " + role)
}
