// Package meshtest puts proxies into the process of a test: an authority for
// their certificates and a stand-in for discovery that answers from a table.
// The proxies are the real ones, on real or simulated sockets.
package meshtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/discover"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// Authority signs the certificates of a test's proxies.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	now  func() time.Time
}

// NewAuthority makes a root that is valid around now.
func NewAuthority(now func() time.Time) *Authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: now().Add(-time.Hour), NotAfter: now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))
	return &Authority{key: key, cert: must(x509.ParseCertificate(der)), now: now}
}

// Bundle is the authority's root, with those of others.
func (a *Authority) Bundle(others ...*Authority) *mtls.Bundle {
	roots := []*x509.Certificate{a.cert}
	for _, o := range others {
		roots = append(roots, o.cert)
	}
	return must(mtls.NewBundle(roots))
}

// Leaf signs a certificate for id that lives for d.
func (a *Authority) Leaf(id mesh.Identity, d time.Duration) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	u := must(url.Parse(string(id)))
	t := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))),
		NotBefore:    a.now().Add(-time.Minute), NotAfter: a.now().Add(d), URIs: []*url.URL{u},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Credentials are those of a proxy that is id.
func (a *Authority) Credentials(id mesh.Identity) *mtls.Credentials {
	c := mtls.NewCredentials(a.now)
	c.SetBundle(a.Bundle())
	if err := c.SetLeaf(a.Leaf(id, 24*time.Hour)); err != nil {
		panic(err)
	}
	return c
}

// Discovery answers subscriptions from a table. It is safe for concurrent use.
type Discovery struct {
	mu      sync.Mutex
	sink    discover.Sink
	targets map[mesh.Target]*entry
	inbound *mesh.InboundPolicy
	subs    map[mesh.Target]bool
	// Reports are what the proxy told of endpoints.
	reports []discover.Failure
}

type entry struct {
	policy  *mesh.TargetPolicy
	rows    []mesh.Endpoint
	version uint64
}

// NewDiscovery returns a table without targets whose inbound policy allows all.
func NewDiscovery() *Discovery {
	return &Discovery{
		targets: map[mesh.Target]*entry{}, subs: map[mesh.Target]bool{},
		inbound: &mesh.InboundPolicy{TrustDomain: "cluster.local"},
	}
}

// Attach connects the table with its proxy.
func (d *Discovery) Attach(s discover.Sink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink = s
	s.Connected(true)
	s.Inbound(d.inbound, 1, func(error) {})
	for t := range d.subs {
		d.tell(t)
	}
}

// Lose ends the stream: nothing is told until Attach is called again.
func (d *Discovery) Lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.Connected(false)
	d.sink = nil
}

// Set makes policy and rows what is known of t.
func (d *Discovery) Set(t mesh.Target, policy *mesh.TargetPolicy, rows ...mesh.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.targets[t]
	if e == nil {
		e = &entry{}
		d.targets[t] = e
	}
	e.policy, e.rows = policy, rows
	e.version++
	if d.subs[t] {
		d.tell(t)
	}
}

// SetInbound makes p the workload's own policy.
func (d *Discovery) SetInbound(p *mesh.InboundPolicy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inbound = p
	if d.sink != nil {
		d.sink.Inbound(p, 2, func(error) {})
	}
}

// tell sends t whole.
func (d *Discovery) tell(t mesh.Target) {
	e := d.targets[t]
	if e == nil || d.sink == nil {
		return
	}
	d.sink.Target(discover.Update{Target: t, Version: e.version, Full: true, Added: e.rows, Policy: e.policy}, func(error) {})
}

// Subscribe implements proxy.Discovery.
func (d *Discovery) Subscribe(t mesh.Target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.subs[t] = true
	d.tell(t)
}

// Unsubscribe implements proxy.Discovery.
func (d *Discovery) Unsubscribe(t mesh.Target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.subs, t)
}

// Report implements proxy.Discovery.
func (d *Discovery) Report(f discover.Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.reports) < 1000 {
		d.reports = append(d.reports, f)
	}
}

// Reports are the failures that the proxy told of.
func (d *Discovery) Reports() []discover.Failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]discover.Failure(nil), d.reports...)
}

// Addr parses an address that is known to be good.
func Addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
