package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/run"
)

// awaitEvery is how often await asks: a pod's start is waiting for it.
const awaitEvery = 50 * time.Millisecond

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
	return awaitReady(ctx, url, *limit)
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

// awaitReady asks until the answer is 200. What was missing last is told when it does not come.
func awaitReady(ctx context.Context, url string, limit time.Duration) error {
	last := "nobody has answered"
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		ready, said := ask(ctx, c, url)
		if ready {
			return nil
		}
		if ctx.Err() == nil {
			last = said
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy is not ready after %v: %s", limit, last)
		case <-tick.C:
		}
	}
}

func ask(ctx context.Context, c *http.Client, url string) (ready bool, said string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false, err.Error()
	}
	resp, err := c.Do(req)
	if err != nil {
		return false, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return false, err.Error()
	}
	return resp.StatusCode == http.StatusOK, strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "; ")
}
