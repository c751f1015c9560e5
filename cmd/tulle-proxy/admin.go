package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/admin"
	"github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// healthEvery is how often what /ready says is brought up to date.
const healthEvery = 100 * time.Millisecond

// adminParts are what the door at 4191 is made of.
type adminParts struct {
	set     *settings
	reg     *prometheus.Registry
	process *metrics.Process
	p       *proxy.Proxy
	ident   *identity.Client
	log     *zap.Logger
}

// part serves the door and keeps its health true.
func (a adminParts) part() run.Part {
	return run.Func(func(ctx context.Context) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.set.admin.String())
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		a.log.Info("admin", zap.Stringer("addr", l.Addr()))
		health := admin.NewHealth(time.Now)
		health.Met(admin.Listeners)
		g := &run.Group{}
		g.Add("health", run.Func(func(ctx context.Context) error { return a.watch(ctx, health) }))
		g.Add("serve", run.Func(func(ctx context.Context) error {
			return admin.Serve(ctx, l, admin.Config{Log: a.log, Health: health, Gatherer: a.reg, Debug: a.p})
		}))
		return g.Run(ctx)
	})
}

// watch asks the parts how they stand (R10.2, R11.1).
func (a adminParts) watch(ctx context.Context, h *admin.Health) error {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		a.look(h)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a adminParts) look(h *admin.Health) {
	st := a.ident.State()
	if st.Certified {
		h.Certified(st.NotAfter)
	}
	if err := st.Degraded(); err != nil {
		h.Missing(admin.Certificate, err.Error())
	}
	a.process.Connected(a.p.IsConnected())
	switch {
	case a.p.IsConnected():
		h.Met(admin.Discovery)
	default:
		h.Missing(admin.Discovery, "no stream to the destination service")
	}
	if a.p.HasPolicy() {
		h.Met(admin.Policy)
	}
	if a.p.IsEnding() {
		h.End()
	}
}
