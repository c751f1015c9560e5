package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const (
	idWeb  = mesh.Identity("spiffe://tulle.test/ns/shop/sa/web")
	idCart = mesh.Identity("spiffe://tulle.test/ns/shop/sa/cart")
)

// authority is a test's own certificate authority.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, cert: cert, key: key}
}

func (a *authority) bundle(more ...*authority) *Bundle {
	certs := []*x509.Certificate{a.cert}
	for _, m := range more {
		certs = append(certs, m.cert)
	}
	b, err := NewBundle(certs)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// issue signs a leaf for id, changed by edit.
func (a *authority) issue(id mesh.Identity, edit func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	u, err := url.Parse(string(id))
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), URIs: []*url.URL{u},
		NotBefore: epoch.Add(-time.Minute), NotAfter: epoch.Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// holder returns credentials with id's leaf and a's bundle, at epoch.
func (a *authority) holder(id mesh.Identity) *Credentials {
	a.t.Helper()
	c := NewCredentials(func() time.Time { return epoch })
	c.SetBundle(a.bundle())
	if err := c.SetLeaf(a.issue(id, nil)); err != nil {
		a.t.Fatal(err)
	}
	return c
}

// shake steps both ends until both are done and returns their outcomes.
func shake(c, s *Session) (cerr, serr error) {
	toServer, _, _ := c.Step(nil)
	toServer = append([]byte(nil), toServer...)
	for range 20 {
		out, sdone, err := s.Step(toServer)
		serr = err
		toClient := append([]byte(nil), out...)
		if c.Done() {
			c.Feed(toClient) // the server's alert, when it refuses
		}
		out, cdone, err := c.Step(toClient)
		cerr = err
		toServer = append([]byte(nil), out...)
		if sdone && cdone {
			return cerr, serr
		}
	}
	panic("handshake does not end")
}

// pair returns both ends of a finished handshake.
func pair(t testing.TB, pool *slab.Pool) (c, s *Session) {
	t.Helper()
	ca := newAuthority(t, "root")
	c = Client(ca.holder(idWeb), ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}, Pool: pool})
	s = Server(ca.holder(idCart), ServerParams{ALPN: []string{"tulle/h2.1", "tulle/tcp.1"}, Pool: pool})
	if cerr, serr := shake(c, s); cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	return c, s
}
