package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapio"
	"k8s.io/klog/v2"

	"github.com/tulle-mesh/tulle/injector/webhook"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
)

// injecting are the flags of the injector.
type injecting struct {
	listen, adminListen, logLevel, logFormat string
	replica, trustDomain                     string
	sweepEvery                               time.Duration

	cluster
}

func (v *injecting) flags() *flag.FlagSet {
	f := flag.NewFlagSet("tulle-controller injector", flag.ContinueOnError)
	v.cluster.flags(f)
	f.StringVar(&v.listen, "injector-listen", ":8443", "address of the admission webhook")
	f.StringVar(&v.adminListen, "admin-listen", ":9990", "address of /ready, /live, /metrics; empty: none")
	f.StringVar(&v.replica, "replica", podName(), "name of this instance")
	f.StringVar(&v.trustDomain, "trust-domain", "cluster.local", "as for the other services; what pods are told is in ConfigMap tulle-config")
	f.DurationVar(&v.sweepEvery, "sweep-interval", time.Minute, "how often pods that should have a proxy and have none are looked for")
	f.StringVar(&v.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&v.logFormat, "log-format", "json", "json or plain")
	return f
}

// injector answers the API server's questions about new pods.
func injector(ctx context.Context, args []string, s run.Streams) error {
	var v injecting
	if err := parse(v.flags(), args, s); err != nil {
		return err
	}
	if v.sweepEvery < time.Second {
		return mistake(errors.New("--sweep-interval: want a second or more"))
	}
	level, err := zap.ParseAtomicLevel(v.logLevel)
	if err != nil {
		return mistake(err)
	}
	log, err := logger(level, v.logFormat, s.Err)
	if err != nil {
		return mistake(err)
	}
	if err := klogTo(log); err != nil {
		return err
	}
	_, client, err := v.client()
	if err != nil {
		return mistake(err)
	}
	return v.serve(ctx, webhook.Config{Log: log, LogLevel: level, Client: client})
}

// klogTo sends what client-go has to say where everything goes, without a head of its own.
func klogTo(log *zap.Logger) error {
	f := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(f)
	klog.LogToStderr(false)
	klog.SetOutput(&zapio.Writer{Log: log.Named("client-go"), Level: zap.InfoLevel})
	return f.Set("skip_headers", "true")
}

func (v *injecting) serve(ctx context.Context, cfg webhook.Config) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", v.listen)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg.Registerer, cfg.Listener, cfg.Namespace, cfg.Replica, cfg.SweepEvery = reg, l, v.namespace, v.replica, v.sweepEvery
	server, err := webhook.New(cfg)
	if err != nil {
		l.Close()
		return err
	}
	cfg.Log.Info("tulle-controller injector", zap.String(logkey.Version, version.String()), zap.String(logkey.Replica, v.replica))
	g := &run.Group{}
	if v.adminListen != "" {
		door, err := (&net.ListenConfig{}).Listen(ctx, "tcp", v.adminListen)
		if err != nil {
			l.Close()
			return err
		}
		cfg.Log.Info("admin", zap.Stringer(logkey.Addr, door.Addr()))
		g.Add("admin", admin(door, server.Admin(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))))
	}
	// The door stays open until the last question has been answered: /ready says that it ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rest, stop := context.WithCancel(context.WithoutCancel(ctx))
	webhooks := &run.Group{}
	webhooks.Add("webhook", run.Func(func(context.Context) error { defer stop(); return server.Run(ctx) }))
	webhooks.Add("door", run.Func(func(context.Context) error { defer cancel(); return g.Run(rest) }))
	return webhooks.Run(context.WithoutCancel(ctx))
}

// admin serves the door until ctx ends.
func admin(l net.Listener, h http.Handler) run.Part {
	return run.Func(func(ctx context.Context) error {
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
		stop := context.AfterFunc(ctx, func() { srv.Close() })
		defer stop()
		if err := srv.Serve(l); ctx.Err() == nil {
			return err
		}
		return nil
	})
}
