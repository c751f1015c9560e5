// Command tulle-init redirects a pod's own network to the proxy in it (rule R13.3). It runs once, before
// the application, as root with the capability NET_ADMIN alone. With --await it ends only when the proxy,
// which runs already, is ready (R13.2).
//
//	tulle-init --inbound-port 4143 --outbound-port 4140 --proxy-uid 2102 --skip-outbound-ports 3306
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/tulle-mesh/tulle/injector/redirect"
	"github.com/tulle-mesh/tulle/injector/skip"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
	"github.com/tulle-mesh/tulle/proxy/admin/ready"
)

func main() { os.Exit(run.Main(context.Background(), "tulle-init", command)) }

func command(ctx context.Context, args []string, s run.Streams) error {
	if len(args) == 1 && args[0] == "version" {
		fmt.Fprintln(s.Out, version.String())
		return nil
	}
	f := flag.NewFlagSet("tulle-init", flag.ContinueOnError)
	f.SetOutput(s.Err)
	inbound := f.Uint("inbound-port", 4143, "the proxy's port for connections from the network")
	outbound := f.Uint("outbound-port", 4140, "the proxy's port for connections of the application")
	uid := f.Uint("proxy-uid", 2102, "the user that the proxy runs as: its own connections are not redirected")
	skipIn := f.String("skip-inbound-ports", "", "ports and ranges that are reached round the proxy: 22,9000-9010")
	skipOut := f.String("skip-outbound-ports", "", "ports and ranges that are dialled round the proxy")
	subnets := f.String("skip-subnets", "", "networks that go round the proxy: 10.1.0.0/16,fd00::/8")
	remove := f.Bool("remove", false, "take the redirect away")
	check := f.Bool("check", true, "dial through the redirect, unless it stands already")
	await := f.String("await", "", "end only when this URL answers 200: http://127.0.0.1:4191/ready")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return &run.ExitError{}
	case err != nil:
		return &run.ExitError{Code: 2} // f has said why
	case f.NArg() > 0:
		return mistakef("%q is no flag", f.Arg(0))
	case *remove:
		return redirect.Remove()
	case !isPort(*inbound) || !isPort(*outbound) || *uid == 0 || *uid >= 1<<31:
		return mistakef("want ports from 1 to 65535, and a user that is not root")
	}
	cfg := redirect.Config{Inbound: uint16(*inbound), Outbound: uint16(*outbound), ProxyUID: uint32(*uid), ProxyPorts: []uint16{4190, 4191}}
	var inOK, outOK, netsOK bool
	cfg.SkipInbound, inOK = skip.ParsePorts(*skipIn)
	cfg.SkipOutbound, outOK = skip.ParsePorts(*skipOut)
	cfg.SkipSubnets, netsOK = skip.ParseSubnets(*subnets)
	if !inOK || !outOK || !netsOK {
		return mistakef("want ports such as 22,9000-9010 and networks such as 10.1.0.0/16,fd00::/8")
	}
	if err := apply(ctx, cfg, *check, s); err != nil || *await == "" {
		return err
	}
	// No limit: a pod whose init container fails may be over (restartPolicy Never), and one that is tried
	// again and again is tried ever less often. The proxy is waited for as long as the pod is wanted.
	return ready.Await(ctx, *await, func(missing string) { fmt.Fprintln(s.Out, "waiting for the proxy:", missing) })
}

func apply(ctx context.Context, cfg redirect.Config, check bool, s run.Streams) error {
	if check {
		found, err := redirect.Prove(ctx, cfg)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "dialled through the redirect: %s\n", strings.Join(append(found.Dialled, found.NotDialled...), "; "))
	}
	if err := redirect.Apply(cfg); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "tulle-init %s: connections from the network go to %d, those of the application to %d\n",
		version.String(), cfg.Inbound, cfg.Outbound)
	return nil
}

func isPort(p uint) bool { return p > 0 && p < 1<<16 }

func mistakef(format string, args ...any) error {
	return &run.ExitError{Code: 2, Err: fmt.Errorf(format, args...)}
}
