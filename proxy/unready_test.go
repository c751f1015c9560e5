package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

// R11.1, R7.1: a proxy that has no inbound policy yet decides nothing. Peers know that their requests
// were not processed and go to another endpoint.
func TestAProxyWithoutAPolicyIsPassedBy(t *testing.T) {
	app := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	a := meshtest.NewAuthority(time.Now)
	quick := proxy.Timeouts{LameDuck: time.Millisecond, Drain: 2 * time.Second}
	port := proxy.Config{Timeouts: quick, InboundPorts: []proxy.InboundPort{{Listen: meshtest.Addr("127.0.0.1:0"), App: app}}}
	unready, err := proxy.New(port, proxy.Deps{
		Log: zaptest.NewLogger(t), Credentials: a.Credentials(catalogID), Discovery: meshtest.NewDiscovery(), // never attached
		Poller: func(int) (loop.Poller, error) { return loop.NewPoller(loop.EpollConfig{Hold: -1}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); unready.Run(ctx) }() // ended by the cleanup
	t.Cleanup(func() { cancel(); <-done })
	ready := start(t, port, a, catalogID)
	out := start(t, proxy.Config{Timeouts: quick, Upstreams: []proxy.Upstream{{Listen: meshtest.Addr("127.0.0.1:0"), Target: target}}}, a, webID)
	out.d.Set(target, &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80},
		mesh.Endpoint{Addr: unready.Addrs()[0], Identity: catalogID}, mesh.Endpoint{Addr: ready.p.Addrs()[0], Identity: catalogID})
	var all sync.WaitGroup
	for i := range 8 { // at once, so that both endpoints are chosen; the budget starts with ten retries
		all.Go(func() {
			body := fmt.Sprint("request ", i)
			resp, err := http.Post("http://"+out.p.Addrs()[0].String(), "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != body {
				t.Errorf("%s: %s %q, %v", resp.Status, resp.Header.Get("tulle-proxy-error"), b, err)
			}
		})
	}
	all.Wait()
}
