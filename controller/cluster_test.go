package controller

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
	proxyidentity "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// pretended is a cluster without an API server: its tokens are the names of whom they prove.
type pretended struct {
	store *state.Store
	read  chan struct{} // closed when the source may be read

	mu   sync.Mutex
	kept identity.Kept
}

func (c *pretended) cluster() *Cluster {
	return &Cluster{
		Source:   func(s SourceConfig) Source { c.store = s.Store; return c },
		Tokens:   c,
		Keep:     c,
		Replicas: func(r ReplicasConfig) identity.Replicas { return leader{r} },
	}
}

func (c *pretended) Run(ctx context.Context) error {
	select {
	case <-c.read:
		c.store.MarkSynced()
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}
func (*pretended) Recheck([]netip.AddrPort) {}
func (*pretended) Waiting() string          { return "Pod" }

func (*pretended) Validate(_ context.Context, token string) (identity.Grant, error) {
	id, err := mesh.ParseIdentity(token)
	if err != nil {
		return identity.Grant{}, certify.Refuse(certify.BadToken, "%v", err)
	}
	return identity.Grant{Identity: id}, nil
}
func (*pretended) Redeem(context.Context, identity.Grant, [sha256.Size]byte) error { return nil }

func (c *pretended) Read() (identity.Kept, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept, nil
}

func (c *pretended) Write(_, next identity.Kept) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = next
	return nil
}

// leader is a service of one replica.
type leader struct{ ReplicasConfig }

func (leader) Lead(ctx context.Context, lead func(context.Context)) { lead(ctx) }
func (leader) Publish(ctx context.Context, _ func() identity.Heard) { <-ctx.Done() }
func (l leader) AllOn(uint64) bool                                  { return true }

func meshedPod(ns, name string) *state.Workload {
	return &state.Workload{
		Name: state.Name{Namespace: ns, Name: name}, Pod: true, Proxied: true,
		Identity: mesh.NewIdentity("cluster.local", ns, name), Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
	}
}

func TestInAClusterIdentityCertifiesWhoHasAPod(t *testing.T) {
	c, l := &pretended{read: make(chan struct{})}, listen(t)
	p := start(t, Config{
		Source: kubernetes, Cluster: c.cluster(), Namespace: "mesh", Identity: &IdentityConfig{Listener: l},
	})
	if id := p.IdentityName(); id != "spiffe://cluster.local/ns/mesh/sa/tulle-identity" {
		t.Errorf("it calls itself %s", id)
	}
	ready := func() string {
		w := httptest.NewRecorder()
		p.admin().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ready", nil))
		return w.Body.String()
	}
	if got := ready(); !strings.Contains(got, "has not been read yet: Pod") {
		t.Errorf("/ready before the source was read: %q", got)
	}
	close(c.read)
	<-c.store.Synced()
	if got := ready(); got != "ready\n" {
		t.Errorf("/ready: %q", got)
	}
	if ns := p.meshedNamespaces(); len(ns) != 0 {
		t.Errorf("namespaces that need the bundle: %v", ns)
	}
	dir := t.TempDir()
	write(t, dir, c.kept.Root)
	ask := func(id mesh.Identity) *proxyidentity.Client {
		creds := mtls.NewCredentials(time.Now)
		client, err := proxyidentity.New(proxyidentity.Config{
			Identity: id, BundleDir: dir, Sink: creds, Server: l.Addr().String(), ServerIdentity: p.IdentityName(),
			Token: func() (string, error) { return string(id), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); client.Run(ctx) }() // ends with ctx
		t.Cleanup(func() { cancel(); <-ended })
		return client
	}
	// Its pod is told of a moment after its token: it is waited for.
	web := ask("spiffe://cluster.local/ns/shop/sa/web")
	c.store.Apply(func(x *state.Tx) { x.PutWorkload(meshedPod("shop", "web")) })
	<-web.Certified()
	<-ask("spiffe://cluster.local/ns/mesh/sa/tulle-destination").Certified() // the control plane's own has no proxy
	if ns := p.meshedNamespaces(); len(ns) != 1 || !ns["shop"] || p.meshed() != 1 {
		t.Errorf("namespaces that need the bundle: %v", ns)
	}
	if err := p.admit()(t.Context(), "spiffe://cluster.local/ns/shop/sa/gone"); err == nil {
		t.Error("who has no pod is admitted")
	}
}

func write(t *testing.T, dir string, pem []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, identity.BundleFile), pem, 0o600); err != nil {
		t.Fatal(err)
	}
}
