// Package identitytest is an identity service in memory, for the tests of what needs one. It keeps
// the contract of certify.Service (identity/contract_test.go) and lets a test break it on purpose.
package identitytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// Fake is an identity service in memory: one root, or several, that sign leaves directly.
type Fake struct {
	trustDomain string
	now         func() time.Time

	mu       sync.Mutex // guards the rest
	lifetime time.Duration
	version  uint64
	serial   int64
	roots    []ca // the last one signs
	changed  chan struct{}
	tokens   map[string]*token
	fail     error
	requests int
	issued   int
	acked    uint64
	nacked   map[uint64]error
}

type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

type token struct {
	identity mesh.Identity
	key      []byte // whom it belongs to; nil before its first use
}

// New makes a fake for a trust domain; a nil now is time.Now. Leaves live for 24 h.
func New(trustDomain string, now func() time.Time) *Fake {
	if now == nil {
		now = time.Now
	}
	f := &Fake{
		trustDomain: trustDomain, now: now, lifetime: 24 * time.Hour,
		changed: make(chan struct{}), tokens: map[string]*token{}, nacked: map[uint64]error{},
	}
	f.Rotate()
	return f
}

// SetLifetime changes how long leaves live from now on.
func (f *Fake) SetLifetime(d time.Duration) { f.locked(func() { f.lifetime = d }) }

// Fail makes every call fail with err until Fail(nil).
func (f *Fake) Fail(err error) { f.locked(func() { f.fail = err; f.change() }) }

// Requests and Issued count calls of Certify, and those that got a certificate.
func (f *Fake) Requests() (n int) { f.locked(func() { n = f.requests }); return n }

// Issued counts certificates.
func (f *Fake) Issued() (n int) { f.locked(func() { n = f.issued }); return n }

// Version is the version of the bundle, Acked the newest one that a watcher acknowledged.
func (f *Fake) Version() (v uint64) { f.locked(func() { v = f.version }); return v }

// Acked is the newest version that a watcher acknowledged.
func (f *Fake) Acked() (v uint64) { f.locked(func() { v = f.acked }); return v }

// Nacked is why a version was refused, or nil.
func (f *Fake) Nacked(version uint64) (err error) {
	f.locked(func() { err = f.nacked[version] })
	return err
}

// Token makes a token for one use.
func (f *Fake) Token(id mesh.Identity) string {
	t := rand.Text()
	f.locked(func() { f.tokens[t] = &token{identity: id} })
	return t
}

// Rotate adds a root, which signs from now on.
func (f *Fake) Rotate() {
	f.locked(func() {
		f.roots = append(f.roots, f.newRoot())
		f.change()
	})
}

// Withdraw takes every root but the one that signs out of the bundle.
func (f *Fake) Withdraw() {
	f.locked(func() {
		f.roots = f.roots[len(f.roots)-1:]
		f.change()
	})
}

// WriteBundle writes the bundle as it is now into dir.
func (f *Fake) WriteBundle(dir string) error {
	var buf bytes.Buffer
	f.locked(func() {
		for _, r := range f.roots {
			buf.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw}))
		}
	})
	return os.WriteFile(filepath.Join(dir, "trust-bundle.pem"), buf.Bytes(), 0o600)
}

func (f *Fake) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *Fake) change() {
	f.version++
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fake) newRoot() ca {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: f.next(), Subject: pkix.Name{CommonName: fmt.Sprintf("fake root %d", len(f.roots))},
		NotBefore: f.now().Add(-time.Minute), NotAfter: f.now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return ca{cert: mustSign(tmpl, tmpl, &key.PublicKey, key), key: key}
}

func (f *Fake) next() *big.Int { f.serial++; return big.NewInt(f.serial) }

func mustSign(tmpl, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// Certify implements certify.Service.
func (f *Fake) Certify(ctx context.Context, r certify.Request) (certify.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if err := ctx.Err(); err != nil {
		return certify.Certificate{}, err
	}
	if f.fail != nil {
		return certify.Certificate{}, f.fail
	}
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return certify.Certificate{}, certify.Refuse(certify.BadCSR, "%v", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return certify.Certificate{}, certify.Refuse(certify.WeakKey, "want P-256")
	}
	if err := csr.CheckSignature(); err != nil {
		return certify.Certificate{}, certify.Refuse(certify.BadCSR, "%v", err)
	}
	id, redeem, err := f.prove(r, csr.RawSubjectPublicKeyInfo)
	if err != nil {
		return certify.Certificate{}, err
	}
	if len(csr.URIs) != 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 || csr.URIs[0].String() != string(id) {
		return certify.Certificate{}, certify.Refuse(certify.WrongName, "want %s", id)
	}
	redeem()
	return f.issue(csr, key), nil
}

func (f *Fake) prove(r certify.Request, key []byte) (mesh.Identity, func(), error) {
	if r.Token == "" {
		id, err := f.peer(r.Own)
		return id, func() {}, err
	}
	t := f.tokens[r.Token]
	switch {
	case t == nil:
		return "", nil, certify.Refuse(certify.BadToken, "unknown")
	case t.key != nil && !bytes.Equal(t.key, key):
		return "", nil, certify.Refuse(certify.ReusedToken, "used")
	}
	return t.identity, func() { t.key = key }, nil
}

func (f *Fake) peer(own *tls.Certificate) (mesh.Identity, error) {
	if own == nil {
		return "", certify.Refuse(certify.NoCredential, "no token, no certificate")
	}
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		return "", certify.Refuse(certify.BadCertificate, "%v", err)
	}
	id, err := mtls.Verify([]*x509.Certificate{leaf}, mtls.Expect{
		Bundle: f.bundle(), Usage: x509.ExtKeyUsageClientAuth, Any: true, At: f.now(),
	})
	if err != nil {
		return "", certify.Refuse(certify.BadCertificate, "%v", err)
	}
	return id, nil
}

func (f *Fake) bundle() *mtls.Bundle {
	var roots []*x509.Certificate
	for _, r := range f.roots {
		roots = append(roots, r.cert)
	}
	b, err := mtls.NewBundle(roots)
	if err != nil {
		panic(err)
	}
	return b
}

func (f *Fake) issue(csr *x509.CertificateRequest, key *ecdsa.PublicKey) certify.Certificate {
	signer := f.roots[len(f.roots)-1]
	tmpl := &x509.Certificate{
		SerialNumber: f.next(), URIs: csr.URIs,
		NotBefore: f.now().Add(-time.Minute), NotAfter: f.now().Add(f.lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leaf := mustSign(tmpl, signer.cert, key, signer.key)
	f.issued++
	return certify.Certificate{Chain: [][]byte{leaf.Raw}, NotAfter: leaf.NotAfter, Issuer: signer.cert.SubjectKeyId}
}

// WatchTrust implements certify.Service.
func (f *Fake) WatchTrust(ctx context.Context, w certify.Watch) error {
	var err error
	f.locked(func() { _, err = f.peer(w.Own) })
	if err != nil {
		return err
	}
	for {
		b, changed, err := f.trust()
		if err != nil {
			return err
		}
		if err := w.Accept(b); err != nil {
			f.locked(func() { f.nacked[b.Version] = err })
		} else {
			f.locked(func() { f.acked = max(f.acked, b.Version) })
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *Fake) trust() (certify.Bundle, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return certify.Bundle{}, nil, f.fail
	}
	b := certify.Bundle{Version: f.version, TrustDomain: f.trustDomain, Issuer: f.roots[len(f.roots)-1].cert.SubjectKeyId}
	for _, r := range f.roots {
		b.Roots = append(b.Roots, r.cert.Raw)
	}
	return b, f.changed, nil
}
