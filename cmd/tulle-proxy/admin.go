package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/admin"
	"github.com/tulle-mesh/tulle/proxy/admin/probe"
	"github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// A proxy that starts looks ever less often whether it is ready. Afterwards it looks when it is asked: an
// idle proxy does not wake up.
const (
	healthFirst = time.Millisecond
	healthMost  = 100 * time.Millisecond
)

// adminParts are what the door at 4191 is made of.
type adminParts struct {
	set     *settings
	reg     *prometheus.Registry
	process *metrics.Process
	p       *proxy.Proxy
	end     context.CancelFunc // begins the proxy's end
	ident   *identity.Client
	creds   *mtls.Credentials
	log     *zap.Logger
}

// part serves the door and keeps its health true.
func (a adminParts) part() run.Part {
	return run.Func(func(ctx context.Context) error {
		probes, err := probe.New(a.set.probes, a.set.podIPs)
		if err != nil {
			return err
		}
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
			return admin.Serve(ctx, l, admin.Config{
				Log: a.log, Health: health, Look: func() { a.look(health) }, Gatherer: a.gatherer(), Debug: a.p, Probes: probes, Shutdown: a.shutdown(),
				Identity: a.identity, LogLevel: a.set.level,
			})
		}))
		return g.Run(ctx)
	})
}

// certificate is what /debug/identity shows of a proxy: nothing secret.
type certificate struct {
	Identity     string    `json:"identity"`
	NotBefore    time.Time `json:"notBefore"`
	NotAfter     time.Time `json:"notAfter"`
	NextRenewal  time.Time `json:"nextRenewal"`
	TrustVersion uint64    `json:"trustVersion"`
	Degraded     string    `json:"degraded,omitempty"`
	// Chain is PEM, the proxy's own certificate first.
	Chain string `json:"chain"`
}

// identity shows the certificate in use.
func (a adminParts) identity(context.Context) (any, error) {
	have, st := a.creds.Get(), a.ident.State()
	out := certificate{
		Identity: string(have.Identity), NotBefore: have.NotBefore, NotAfter: have.NotAfter,
		NextRenewal: st.NextRenewal, TrustVersion: st.TrustVersion,
	}
	if err := st.Degraded(); err != nil {
		out.Degraded = err.Error()
	}
	for _, der := range have.Leaf.Certificate {
		out.Chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return out, nil
}

// shutdown is what POST /shutdown does; nil, the default: there is none (R11.3).
func (a adminParts) shutdown() func() {
	if a.set.shutdown {
		return a.end
	}
	return nil
}

// gatherer is the registry, with what the process knows brought up to date.
func (a adminParts) gatherer() prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		a.process.Connected(a.p.IsConnected())
		return a.reg.Gather()
	})
}

// watch looks until the proxy is ready, which it then stays.
func (a adminParts) watch(ctx context.Context, h *admin.Health) error {
	wait := healthFirst
	tick := time.NewTimer(wait)
	defer tick.Stop()
	for {
		a.look(h)
		if h.Ready() {
			a.log.Info("ready")
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			wait = min(wait*3/2, healthMost)
			tick.Reset(wait)
		}
	}
}

// look asks the parts how they stand (R10.2, R11.1).
func (a adminParts) look(h *admin.Health) {
	st := a.ident.State()
	if st.Certified {
		h.Certified(st.NotAfter)
	}
	if err := st.Degraded(); err != nil {
		h.Missing(admin.Certificate, err.Error())
	}
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
