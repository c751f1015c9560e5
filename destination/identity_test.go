package destination

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/tulle-mesh/tulle/proxy/discover"
)

func withPeer(auth credentials.AuthInfo) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{AuthInfo: auth})
}

// certificate makes one with these URIs.
func certificate(t *testing.T, uris ...string) *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestACallersIdentityIsTheOneURIOfItsVerifiedCertificate(t *testing.T) {
	verified := func(uris ...string) credentials.AuthInfo {
		c := certificate(t, uris...)
		return credentials.TLSInfo{State: tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}},
		}}
	}
	id, err := PeerIdentity(withPeer(verified(string(catalogID))))
	if err != nil || id != catalogID {
		t.Errorf("got %q, %v", id, err)
	}
	shown := credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{certificate(t, string(catalogID))}, // nobody verified it
	}}
	for want, ctx := range map[string]context.Context{
		"without a peer":    context.Background(),
		"no certificate":    withPeer(nil),
		"the trust bundle":  withPeer(shown),
		"names 0 URIs":      withPeer(verified()),
		"names 2 URIs":      withPeer(verified(string(catalogID), string(catalogID))),
		"want spiffe://":    withPeer(verified("https://cluster.local/ns/shop/sa/catalog")),
		"is not a DNS name": withPeer(verified("spiffe://cluster.local/ns/Shop/sa/catalog")),
	} {
		if id, err := PeerIdentity(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, %v; want an error with %q", id, err, want)
		}
	}
}

func TestACallerWithoutAnIdentityGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		fill(p.store, 1)
		x := p.connect("", discover.Config{})
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Minute)
		if n := x.client.Stats().Connects; n != 0 || x.len(catalogTarget) != -1 {
			t.Errorf("%d connections", n)
		}
	})
}

// R6.4: connect failures and identity mismatches are reported to discovery, which re-checks.
func TestReportedFailuresAreCountedShownAndRechecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rechecked [][]netip.AddrPort
		p := newPlane(t, Config{Recheck: func(a []netip.AddrPort) { rechecked = append(rechecked, a) }})
		defer p.stop()
		fill(p.store, 2)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		addr := netip.MustParseAddrPort("10.1.0.1:8080")
		for range 5 {
			x.client.Report(discover.Failure{
				Target: catalogTarget, Addr: addr, Kind: discover.FailureIdentity,
				Presented: "spiffe://cluster.local/ns/shop/sa/mallory", Error: "another identity",
			})
		}
		settle(30 * time.Second)
		if len(rechecked) != 1 || !slices.Equal(rechecked[0], []netip.AddrPort{addr}) {
			t.Errorf("re-checked: %v", rechecked)
		}
		f := p.server.Status().Failures
		if len(f) != 1 || f[0].Count != 5 || f[0].Kind != "identity_mismatch" || f[0].Target != "catalog.shop:80" ||
			f[0].Proxy != "shop/catalog-0" {
			t.Errorf("shown: %+v", f)
		}
		x.same(p.store, catalogTarget) // nothing is dropped on a proxy's word
	})
}

// A row that is wrong in the server's own tables is found by the audit and told to the proxies.
func TestARowCorruptedInTheServerIsFoundByTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{AuditInterval: time.Minute})
		defer p.stop()
		fill(p.store, 2)
		table, _ := p.store.Snapshot().Resolve(catalogTarget)
		for e := range table.Endpoints() {
			e.Identity = "spiffe://cluster.local/ns/shop/sa/mallory" // what no correct program does
			break
		}
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(2 * time.Minute)
		x.mu.Lock()
		defer x.mu.Unlock()
		for a, e := range x.tables[catalogTarget].rows {
			if e.Identity != catalogID {
				t.Errorf("%s is told to be %s", a, e.Identity)
			}
		}
	})
}
