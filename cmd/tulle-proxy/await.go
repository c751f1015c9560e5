package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/proxy/admin/ready"
)

// await returns once the proxy beside it is ready (R13.2): the postStart of a proxy that is an ordinary
// container, before which the kubelet starts none of the containers that follow.
func await(ctx context.Context, args []string, s run.Streams) error {
	f := flag.NewFlagSet("tulle-proxy await", flag.ContinueOnError)
	f.SetOutput(s.Err)
	limit := f.Duration("timeout", 2*time.Minute, "how long to wait")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return &run.ExitError{}
	case err != nil:
		return &run.ExitError{Code: 2} // f has said why
	case f.NArg() > 0:
		return &run.ExitError{Code: 2, Err: fmt.Errorf("%q is no flag", f.Arg(0))}
	}
	url, err := readyURL(os.Getenv("TULLE_ADMIN_LISTEN"))
	if err != nil {
		return &run.ExitError{Code: 2, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	if err := ready.Await(ctx, url, nil); err != nil {
		return fmt.Errorf("after %v: %w", *limit, err)
	}
	return nil
}

// readyURL is the door of a proxy that listens at an address, as its own pod reaches it.
func readyURL(listen string) (string, error) {
	if listen == "" {
		listen = "0.0.0.0:4191"
	}
	a, err := netip.ParseAddrPort(listen)
	if err != nil {
		return "", fmt.Errorf("TULLE_ADMIN_LISTEN=%q: %w", listen, err)
	}
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return "http://" + a.String() + "/ready", nil
}
