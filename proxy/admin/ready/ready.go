// Package ready waits for a proxy from beside it (rule R13.2): the application starts only when the proxy
// is ready. tulle-init does so where the proxy is a native sidecar, `tulle-proxy await` where it is not.
package ready

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The proxy is asked ever less often: a pod's start is waiting for it, and where the control plane is away it
// may wait for hours.
const (
	first = 10 * time.Millisecond
	most  = 500 * time.Millisecond
)

// Await asks url until the answer is 200 or ctx ends; the error then tells what was missing last. told
// hears whatever is missing, each time that it is something else; nil: nobody does.
func Await(ctx context.Context, url string, told func(missing string)) error {
	last := "nobody has answered"
	wait := first
	tick := time.NewTimer(wait)
	defer tick.Stop()
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		ready, said := ask(ctx, c, url)
		if ready {
			return nil
		}
		if ctx.Err() == nil && said != last {
			last = said
			if told != nil {
				told(said)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy is not ready: %s: %w", last, ctx.Err())
		case <-tick.C:
			wait = min(wait*5/4, most)
			tick.Reset(wait)
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
