package controller

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/loopback"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/discover"
	proxyidentity "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

func TestMain(m *testing.M) { leak.Main(m) }

const shopYAML = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: main}]
---
apiVersion: policy.tulle.dev/v1alpha1
kind: ExternalWorkload
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec:
  addresses: [127.0.0.1]
  serviceAccount: web
  ports: [{name: main, port: 20001}]
`

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs a Plane until the test ends.
func start(t *testing.T, cfg Config) *Plane {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }() // ends with ctx, and the test waits for it
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

// source is a directory with a mesh.
func source(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "files:" + dir
}

// updates is a discover.Sink that passes on what concerns targets.
type updates chan discover.Update

func (u updates) Target(v discover.Update, done func(error))              { done(nil); u <- v }
func (updates) Inbound(_ *mesh.InboundPolicy, _ uint64, done func(error)) { done(nil) }
func (updates) Digest(_ mesh.Target, _ uint64, answer func(uint64, bool)) { answer(0, false) }
func (updates) Connected(bool)                                            {}

// member is what a proxy has of the control plane.
type member struct {
	plane    *Plane // that has identity
	identity string // addresses
	discover string
}

// resolve joins with a token as a proxy does, and returns what it is told of web.shop:80.
func (m member) resolve(t *testing.T) discover.Update {
	t.Helper()
	me := mesh.NewIdentity("cluster.local", "shop", "web")
	creds := mtls.NewCredentials(time.Now)
	ident, err := proxyidentity.New(proxyidentity.Config{
		Identity: me, Workload: "shop/web-1", BundleDir: m.plane.BundleDir(), Sink: creds,
		Server: m.identity, ServerIdentity: m.plane.IdentityName(),
		Token: func() (string, error) {
			return m.plane.Mint(identity.Join{Namespace: "shop", Name: "web-1", Account: "web"})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(updates, 1)
	tls := credentials.NewTLS(mtls.ClientConfig(creds, m.plane.DestinationName(), "h2"))
	client := discover.New(discover.Config{
		Server: m.discover, Namespace: "shop", Name: "web-1",
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(tls)},
	}, got)
	client.Subscribe(mesh.NameTarget("web.shop", 80))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error, 2)
	go func() { ended <- ident.Run(ctx) }() // both end with ctx
	defer func() { cancel(); <-ended; <-ended }()
	select {
	case <-ident.Certified():
	case <-ctx.Done():
		t.Fatalf("no certificate: %v", ident.State().Degraded())
	}
	go func() { ended <- client.Run(ctx) }()
	select {
	case u := <-got:
		return u
	case <-ctx.Done():
		t.Fatal("web.shop:80 was not resolved")
	}
	panic("unreachable")
}

func wantWeb(t *testing.T, u discover.Update) {
	t.Helper()
	if len(u.Added) != 1 || u.Added[0].Addr.Port() != 20001 || u.Added[0].Identity != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("web.shop:80 is %+v", u.Added)
	}
}

func TestAProxyJoinsAPlaneInOneProcess(t *testing.T) {
	id, dst := listen(t), listen(t)
	p := start(t, Config{
		Source: source(t, shopYAML), Identity: &IdentityConfig{Listener: id, StateDir: t.TempDir()},
		Destination: &DestinationConfig{Listener: dst},
	})
	wantWeb(t, member{p, id.Addr().String(), dst.Addr().String()}.resolve(t))
}

func TestIdentityAndDestinationRunAlone(t *testing.T) {
	id, dst, state := listen(t), listen(t), t.TempDir()
	first := start(t, Config{Identity: &IdentityConfig{Listener: id, StateDir: state}})
	token, err := first.Mint(identity.Join{Namespace: Namespace, Name: DestinationAccount, Account: DestinationAccount})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Source: source(t, shopYAML), Destination: &DestinationConfig{
		Listener: dst, IdentityAddr: id.Addr().String(), TokenFile: file, BundleDir: first.BundleDir(),
	}})
	wantWeb(t, member{first, id.Addr().String(), dst.Addr().String()}.resolve(t))
}

func TestNoCertificateWithoutAWorkload(t *testing.T) {
	p, err := New(Config{
		Source: source(t, shopYAML), Identity: &IdentityConfig{Listener: listen(t), StateDir: t.TempDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer p.cfg.Identity.Listener.Close()
	p.source.(fileSource).Read()
	for account, admitted := range map[string]bool{"web": true, "nobody": false} {
		err := p.admit()(t.Context(), mesh.NewIdentity("cluster.local", "shop", account))
		if (err == nil) != admitted {
			t.Errorf("%s: %v", account, err)
		}
	}
	if err := p.admit()(t.Context(), p.DestinationName()); err != nil {
		t.Errorf("the control plane itself: %v", err)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for want, cfg := range map[string]Config{
		"neither identity nor destination": {},
		"a listener and a state directory": {Identity: &IdentityConfig{}},
		"a listener and a source":          {Destination: &DestinationConfig{}},
		"want kubernetes or files:DIR":     {Source: "mesh.d", Identity: &IdentityConfig{Listener: listen(t), StateDir: "x"}},
		"source files:/nowhere":            {Source: "files:/nowhere", Identity: &IdentityConfig{Listener: listen(t), StateDir: "x"}},
		"wants its address, a token file":  {Source: "files:x", Destination: &DestinationConfig{Listener: listen(t)}},
	} {
		_, err := New(cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		for _, l := range []net.Listener{identityListener(cfg), destinationListener(cfg)} {
			if l != nil {
				l.Close()
			}
		}
	}
}

func identityListener(cfg Config) net.Listener {
	if cfg.Identity == nil {
		return nil
	}
	return cfg.Identity.Listener
}

func destinationListener(cfg Config) net.Listener {
	if cfg.Destination == nil {
		return nil
	}
	return cfg.Destination.Listener
}

// fetch asks the admin door until it answers so.
func fetch(t *testing.T, url, want string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	var body []byte
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(req); err == nil {
			body, _ = io.ReadAll(res.Body)
			res.Body.Close()
			if strings.Contains(string(body), want) {
				return
			}
		}
	}
	t.Errorf("%s: %s, want %q", url, body, want)
}

func TestTheAdminDoorShowsStateToLoopback(t *testing.T) {
	admin := listen(t)
	start(t, Config{
		Source: source(t, shopYAML), Identity: &IdentityConfig{Listener: listen(t), StateDir: t.TempDir()},
		Destination: &DestinationConfig{Listener: listen(t)}, Admin: admin,
	})
	at := "http://" + admin.Addr().String()
	fetch(t, at+"/ready", "ready\n")
	fetch(t, at+"/live", "live")
	fetch(t, at+"/metrics", "identity_certificates_issued_total")
	fetch(t, at+"/debug/state", "table shop/web:80")
	fetch(t, at+"/debug/streams", `"streams"`)
	fetch(t, at+"/debug/reports", "[")
}

func TestABrokenSourceIsNotReady(t *testing.T) {
	admin := listen(t)
	start(t, Config{
		Source: source(t, "kind: [\n"), Identity: &IdentityConfig{Listener: listen(t), StateDir: t.TempDir()}, Admin: admin,
	})
	at := "http://" + admin.Addr().String()
	fetch(t, at+"/ready", "not ready: files:")
	fetch(t, at+"/debug/reports", "shop.yaml")
}

func TestDebugIsForLoopbackAlone(t *testing.T) {
	h := loopback.Only(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "secret") }))
	for _, c := range []struct {
		from, host string
		want       int
	}{
		{"127.0.0.1:5000", "127.0.0.1:9990", 200},
		{"[::1]:5000", "localhost:9990", 200},
		{"10.0.0.1:5000", "127.0.0.1:9990", 403},
		{"127.0.0.1:5000", "evil.example:9990", 403}, // a page's own name, which resolves to loopback
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/state", http.NoBody)
		r.RemoteAddr, r.Host = c.from, c.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("from %s, host %s: %d, want %d", c.from, c.host, w.Code, c.want)
		}
	}
}
