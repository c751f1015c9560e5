package proxy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// newSelf is a workload that dials its own Service: discovery gives it its own row, with its own
// identity. It is reached over a mapped port, or over its address where traffic is redirected.
func newSelf(t *testing.T, redirected bool, allow mesh.Default) *world {
	w := &world{t: t, net: simnet.New(simnet.Config{})}
	w.clients, w.servers = w.net.Host(serverIP), w.net.Host(serverIP)
	w.serve()
	cfg := proxy.Config{Upstreams: []proxy.Upstream{{Listen: outAddr, Target: target}}}
	row := mesh.Endpoint{Addr: inAddr, Identity: catalogID}
	if redirected {
		cfg.Inbound, cfg.OwnAddrs = netip.MustParseAddrPort("10.0.0.2:4143"), []netip.Addr{serverIP}
		w.servers.RedirectIn(4143)
		row.Addr = appAddr
	} else {
		cfg.InboundPorts = []proxy.InboundPort{{Listen: inAddr, App: appAddr}}
	}
	w.outD = meshtest.NewDiscovery()
	w.outD.SetInbound(&mesh.InboundPolicy{TrustDomain: "cluster.local", Default: allow})
	w.out = w.proxy(cfg, w.servers, catalogID, w.outD)
	w.outD.Attach(w.out)
	w.outD.Set(target, &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80}, row)
	w.run(time.Millisecond)
	t.Cleanup(w.nothingHeld)
	return w
}

// R1.4: an endpoint that is this very workload is dialled in plaintext, past the inbound side, after
// its policy was asked; the reason is told.
func TestOneselfIsDialledInPlaintext(t *testing.T) {
	for name, redirected := range map[string]bool{"mapped": false, "redirected": true} {
		t.Run(name, func(t *testing.T) {
			w := newSelf(t, redirected, mesh.DefaultClusterAuthenticated)
			c := w.dial()
			c.send(get)
			s := w.accept()
			s.expect(get) // the application itself: in TLS it would read a ClientHello
			s.send(ok)
			c.expect(ok)
			w.wantSeries(`request_total`, `direction="outbound"`, `no_tls_reason="loopback"`, `tls="false"`)

			c = w.dial() // bytes go the same way
			c.send("SSH-2.0-client\n")
			s = w.accept()
			s.expect("SSH-2.0-client\n")
			w.wantSeries(`tcp_open_total`, `direction="outbound"`, `no_tls_reason="loopback"`, `tls="false"`)
		})
	}
}

// R1.4: what the workload's own policy denies is denied to itself, too.
func TestOneselfIsSubjectToPolicy(t *testing.T) {
	w := newSelf(t, false, mesh.DefaultDeny)
	c := w.dial()
	c.send(get)
	if h := c.headOf(); !strings.HasPrefix(h, "HTTP/1.1 403 Forbidden\n") || !strings.Contains(h, "denied by default: deny") {
		t.Errorf("%q", h)
	}
	c = w.dial()
	c.send("SSH-2.0-client\n")
	c.expectReset()
	w.noAccept()
}

// series are the outbound proxy's series of a name, one a string.
func (w *world) series(name string) []string {
	w.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.NewCollector(w.out.Counts))
	fs, err := r.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, f := range fs {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				all = append(all, strings.NewReplacer(`name:"`, "", `" value:"`, `="`, `"  value:"`, `="`).Replace(m.String()))
			}
		}
	}
	return all
}

// wantSeries checks that the outbound proxy has a series with all labels.
func (w *world) wantSeries(name string, labels ...string) {
	w.t.Helper()
	all := w.series(name)
	for _, s := range all {
		has := true
		for _, l := range labels {
			has = has && strings.Contains(s, l)
		}
		if has {
			return
		}
	}
	w.t.Errorf("no series %s has %q:\n%s", name, labels, strings.Join(all, "\n"))
}
