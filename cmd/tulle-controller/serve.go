package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tulle-mesh/tulle/controller"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/injector/skip"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
)

// serving are the flags of the services.
type serving struct {
	identityListen, destinationListen, adminListen string
	policy, networks, opaque, logLevel, logFormat  string
	linger                                         time.Duration

	cluster     cluster
	identity    controller.IdentityConfig
	destination controller.DestinationConfig
	config      controller.Config
}

func (v *serving) flags(what string) *flag.FlagSet {
	f := flag.NewFlagSet("tulle-controller "+what, flag.ContinueOnError)
	admin := ":9990"
	f.StringVar(&v.config.Source, "source", "", "where the mesh is read: kubernetes or files:DIR")
	v.cluster.flags(f)
	f.StringVar(&v.config.Settings.TrustDomain, "trust-domain", "cluster.local", "domain of every identity")
	f.StringVar(&v.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&v.logFormat, "log-format", "json", "json or plain")
	if what != "destination" {
		f.StringVar(&v.identityListen, "identity-listen", ":8080", "address of the identity service")
		f.StringVar(&v.identity.StateDir, "state-dir", "", "directory for the authority and the join tokens (mode 0600); required but in a cluster")
		f.DurationVar(&v.identity.LeafLifetime, "leaf-lifetime", 0, "how long certificates last (default 24h)")
	}
	if what != "identity" {
		f.StringVar(&v.destinationListen, "destination-listen", ":8086", "address of the destination service")
		f.StringVar(&v.destination.Replica, "replica", "", "name of this instance (default: the host's)")
		f.StringVar(&v.config.Settings.ClusterDomain, "cluster-domain", "cluster.local", "what ends the long names of Services")
		f.StringVar(&v.policy, "default-inbound-policy", "all-unauthenticated", "policy where no annotation says one")
		f.StringVar(&v.opaque, "opaque-ports", "25,587,3306,4444,5432,6379,9300,11211", "ports and ranges that are bytes where no annotation says otherwise (R2.4), comma-separated")
		f.DurationVar(&v.linger, "linger", 0, "how long to serve on after SIGTERM, so that proxies hear of pods that end together with this one (R11.2)")
		f.StringVar(&v.networks, "cluster-networks", "", "networks whose unknown addresses proxies refuse, comma-separated")
	}
	if what == "destination" {
		admin = ":9991" // beside identity on one host
	}
	if what != "identity" {
		f.StringVar(&v.destination.IdentityAddr, "identity", "", "address of the identity service; required where it is another process, and in a cluster")
		f.StringVar(&v.destination.TokenFile, "token-file", "", "file with destination's own token; required with --identity")
		f.StringVar(&v.destination.BundleDir, "trust-bundle-dir", "", "directory with trust-bundle.pem; required with --identity")
	}
	f.StringVar(&v.adminListen, "admin-listen", admin, "address of /ready, /live, /metrics and, for loopback, /debug; empty: none")
	return f
}

// serve runs what the sub-command names.
func serve(ctx context.Context, what string, args []string, s run.Streams) error {
	var v serving
	if err := parse(v.flags(what), args, s); err != nil {
		return err
	}
	if err := v.settings(s.Err); err != nil {
		return mistake(err)
	}
	if what != "destination" {
		v.config.Identity = &v.identity
	}
	if what != "identity" {
		v.config.Destination = &v.destination
	}
	if v.config.Source == "kubernetes" {
		var err error
		if v.config.Cluster, err = v.cluster.plane(ctx, v.config.Settings.TrustDomain); err != nil {
			return mistake(err)
		}
	}
	listeners, err := v.listen(ctx)
	if err != nil {
		return err
	}
	plane, err := v.plane(ctx)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return mistake(err)
	}
	v.config.Log.Info("tulle-controller "+what, zap.String(logkey.Version, version.String()), zap.String("source", v.config.Source))
	return plane.Run(lingering(ctx, v.linger))
}

// lingering ends d after ctx does.
func lingering(ctx context.Context, d time.Duration) context.Context {
	if d <= 0 {
		return ctx
	}
	later, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(d, end) })
	return later
}

// retryKeep is how often an API server that is away is asked for the authority.
const retryKeep = 2 * time.Second

// plane waits for an API server that is away: to end here would be to begin again minutes later.
func (v *serving) plane(ctx context.Context) (*controller.Plane, error) {
	for said := ""; ; {
		plane, err := controller.New(v.config)
		if !errors.Is(err, identity.ErrAway) {
			return plane, err
		}
		if said != err.Error() {
			said = err.Error()
			v.config.Log.Error("waiting for the API server", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryKeep):
		}
	}
}

// settings turns what was said in words into what the Config wants.
func (v *serving) settings(errs io.Writer) error {
	level, err := zap.ParseAtomicLevel(v.logLevel)
	if err != nil {
		return err
	}
	v.config.LogLevel = level
	if v.config.Log, err = logger(level, v.logFormat, errs); err != nil {
		return err
	}
	if v.config.Source == "kubernetes" {
		v.config.Namespace = v.cluster.namespace
		if v.destination.Replica == "" {
			v.destination.Replica = podName()
		}
	}
	if v.policy != "" {
		d, err := mesh.ParseDefault(v.policy)
		if err != nil {
			return err
		}
		v.config.Settings.Default = d
	}
	ports, ok := skip.ParsePorts(v.opaque)
	if !ok {
		return fmt.Errorf("--opaque-ports %s: want ports and ranges of ports such as 3306,9000-9099", v.opaque)
	}
	v.config.Settings.Opaque = []state.PortRange{} // none is said, too
	for _, r := range ports {
		v.config.Settings.Opaque = append(v.config.Settings.Opaque, state.PortRange(r))
	}
	if v.networks == "" {
		return nil
	}
	for one := range strings.SplitSeq(v.networks, ",") {
		n, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return err
		}
		v.config.Settings.ClusterNetworks = append(v.config.Settings.ClusterNetworks, n)
	}
	return nil
}

// listen opens the addresses of what is to run, all or none.
func (v *serving) listen(ctx context.Context) ([]net.Listener, error) {
	var all []net.Listener
	open := func(addr string, to *net.Listener) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err == nil {
			*to, all = l, append(all, l)
		}
		return err
	}
	var err error
	if v.config.Identity != nil {
		err = open(v.identityListen, &v.identity.Listener)
	}
	if err == nil && v.config.Destination != nil {
		err = open(v.destinationListen, &v.destination.Listener)
	}
	if err == nil && v.adminListen != "" {
		err = open(v.adminListen, &v.config.Admin)
	}
	if err != nil {
		for _, l := range all {
			l.Close()
		}
		return nil, err
	}
	return all, nil
}

func logger(level zap.AtomicLevel, format string, w io.Writer) (*zap.Logger, error) {
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.ISO8601TimeEncoder
	var enc zapcore.Encoder
	switch format {
	case "json":
		enc = zapcore.NewJSONEncoder(cfg)
	case "plain":
		enc = zapcore.NewConsoleEncoder(cfg)
	default:
		return nil, errors.New("--log-format: want json or plain")
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}
