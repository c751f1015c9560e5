package proxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

var (
	webID     = mesh.NewIdentity("cluster.local", "shop", "web")
	catalogID = mesh.NewIdentity("cluster.local", "shop", "catalog")
	target    = mesh.NameTarget("catalog.shop", 80)
)

type half struct {
	p *proxy.Proxy
	d *meshtest.Discovery
}

func start(t testing.TB, cfg proxy.Config, a *meshtest.Authority, id mesh.Identity) half {
	t.Helper()
	d := meshtest.NewDiscovery()
	p, err := proxy.New(cfg, proxy.Deps{
		Log: zaptest.NewLogger(t), Credentials: a.Credentials(id), Discovery: d,
		// Never a raw wait: several workers share this process's two processors.
		Poller: func(int) (loop.Poller, error) { return loop.NewPoller(loop.EpollConfig{Hold: -1}) },
		Steps:  loop.NewSteps(2),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Attach(p)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }() // ended by the cleanup
	t.Cleanup(func() { cancel(); <-done })
	return half{p, d}
}

func pair(t testing.TB, app netip.AddrPort) netip.AddrPort {
	t.Helper()
	a := meshtest.NewAuthority(time.Now)
	quick := proxy.Timeouts{LameDuck: time.Millisecond, Drain: 2 * time.Second}
	in := start(t, proxy.Config{Timeouts: quick, InboundPorts: []proxy.InboundPort{{Listen: meshtest.Addr("127.0.0.1:0"), App: app}}}, a, catalogID)
	out := start(t, proxy.Config{Timeouts: quick, Upstreams: []proxy.Upstream{{Listen: meshtest.Addr("127.0.0.1:0"), Target: target}}}, a, webID)
	out.d.Set(target, &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80},
		mesh.Endpoint{Addr: in.p.Addrs()[0], Identity: catalogID})
	return out.p.Addrs()[0]
}

func TestHTTP1ThroughTwoProxies(t *testing.T) {
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("tulle-client-id"); got != string(webID) {
			t.Errorf("tulle-client-id %q", got)
		}
		w.Header().Set("X-Method", r.Method)
		io.Copy(w, r.Body)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()
	addr := pair(t, netip.MustParseAddrPort(l.Addr().String()))
	body := make([]byte, 3<<20)
	rand.Read(body)
	for range 3 {
		resp, err := http.Post("http://"+addr.String()+"/x?y=z", "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || sha256.Sum256(got) != sha256.Sum256(body) {
			t.Fatalf("%s, %d bytes", resp.Status, len(got))
		}
	}
}
