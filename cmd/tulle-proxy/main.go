// Command tulle-proxy is the data plane: one process beside one workload. Its
// settings come from the environment; docs/proxy.md lists them.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

func main() {
	os.Exit(run.Main(context.Background(), "tulle-proxy", command))
}

func command(ctx context.Context, args []string, s run.Streams) error {
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(s.Out, version.String())
		return nil
	case len(args) > 0 && args[0] == "await":
		return await(ctx, args[1:], s)
	}
	if len(args) != 0 {
		return &run.ExitError{Code: 2, Err: fmt.Errorf("unexpected argument %q: settings come from the environment, see docs/proxy.md", args[0])}
	}
	set, err := read(os.Getenv)
	if err != nil {
		return &run.ExitError{Code: 2, Err: err}
	}
	log, err := set.logger(s.Err)
	if err != nil {
		return &run.ExitError{Code: 2, Err: err}
	}
	tune(&set)
	ctx, end := context.WithCancel(ctx)
	defer end()
	data, beside, err := wire(&set, log, end)
	if err != nil {
		return err
	}
	log.Info("tulle-proxy", zap.String(logkey.Version, version.String()), zap.String(logkey.Identity, string(set.identity)))
	return serve(ctx, data, beside)
}

// serve runs the data plane until it has drained, and what stands beside it
// until then: what is in flight may still need names and certificates.
func serve(ctx context.Context, data run.Part, beside *run.Group) error {
	rest, stop := context.WithCancel(context.WithoutCancel(ctx))
	ctx, fail := context.WithCancel(ctx)
	defer fail()
	g := &run.Group{}
	g.Add("proxy", run.Func(func(context.Context) error {
		defer stop()
		return data.Run(ctx)
	}))
	g.Add("control", run.Func(func(context.Context) error {
		defer fail()
		return beside.Run(rest)
	}))
	return g.Run(context.WithoutCancel(ctx))
}

// tune sets the runtime to what a proxy is: one busy thread per worker, and one for what stands
// beside. That holds on a single core, too, and under a quota: a worker with the only processor of the
// runtime's could not wait holding it, which doubles its work at ordinary load.
func tune(set *settings) {
	debug.SetGCPercent(set.gcPercent)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(set.proxy.Workers + 1)
	}
}

// wire builds the parts and connects them; end begins the proxy's end.
func wire(set *settings, log *zap.Logger, end context.CancelFunc) (data run.Part, beside *run.Group, err error) {
	reg := prometheus.NewRegistry()
	creds := mtls.NewCredentials(time.Now)
	ident, err := identity.New(identity.Config{
		Identity: set.identity, Workload: set.workload(), Token: set.token, BundleDir: set.bundleDir,
		Server: set.identityAddr, ServerIdentity: set.identityName, Sink: creds, Registerer: reg, Log: log.Named("identity"),
	})
	if err != nil {
		return nil, nil, err
	}
	if set.proxy.OwnAddrs, err = set.ownAddrs(); err != nil {
		return nil, nil, err
	}
	d := &discovery{}
	p, err := proxy.New(set.proxy, proxy.Deps{
		Log: log.Named("proxy"), Credentials: creds, Discovery: d,
		Poller: func(int) (loop.Poller, error) { return loop.NewPoller(loop.EpollConfig{Hold: set.hold}) },
		Steps:  loop.NewSteps(set.proxy.Workers + 1),
	})
	if err != nil {
		return nil, nil, err
	}
	d.start(set, creds, p, log.Named("discover"))
	counts := metrics.NewCollector(p.Snapshots)
	reg.MustRegister(counts)
	beside = &run.Group{}
	beside.Add("identity", ident)
	beside.Add("discover", after(ident.Certified(), d.client))
	beside.Add("admin", adminParts{set: set, reg: reg, process: counts.Process(), p: p, end: end, ident: ident, creds: creds, log: log.Named("admin")}.part())
	return p, beside, nil
}
