package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// leafTemplate is a leaf as the X.509-SVID standard wants it (sections 3 and 4): one URI name, no
// authority, signatures for both directions. Its subject is empty, so crypto/x509 marks the name
// critical (RFC 5280, 4.1.2.6).
func leafTemplate(id mesh.Identity, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	uri, err := url.Parse(string(id))
	if err != nil {
		return nil, fmt.Errorf("identity %q: %w", id, err)
	}
	return &x509.Certificate{
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(lifetime).UTC().Truncate(time.Second), // as a certificate says it
		URIs:                  []*url.URL{uri},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, nil
}

// caTemplate is a root or an issuer. Its URI name is the trust domain's own (X.509-SVID, section 4.1).
func caTemplate(cfg AuthorityConfig, kind string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		// The time tells siblings apart for a person; chains are built by key id.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Tulle %s of %s, %s", kind, cfg.TrustDomain, now.UTC().Format("2006-01-02 15:04:05"))},
		NotBefore:             now.Add(-Backdate),
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: cfg.TrustDomain}},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

func newRoot(cfg AuthorityConfig, now time.Time) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, fmt.Errorf("make a root's key: %w", err)
	}
	tmpl := caTemplate(cfg, "root", now)
	tmpl.NotAfter = now.Add(cfg.RootLifetime)
	tmpl.MaxPathLen = 1
	cert, err := sign(tmpl, tmpl, key, key)
	if err != nil {
		return root{}, fmt.Errorf("make a root: %w", err)
	}
	return root{cert: cert, key: key, leaf: cfg.LeafLifetime}, nil
}

func newIssuer(cfg AuthorityConfig, r root, now time.Time) (issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issuer{}, fmt.Errorf("make an issuer's key: %w", err)
	}
	tmpl := caTemplate(cfg, "issuer", now)
	tmpl.NotAfter = now.Add(cfg.IssuerLifetime)
	if tmpl.NotAfter.After(r.cert.NotAfter) {
		tmpl.NotAfter = r.cert.NotAfter
	}
	tmpl.MaxPathLenZero = true
	rootKey, ok := r.key.(*ecdsa.PrivateKey)
	if !ok {
		return issuer{}, fmt.Errorf("the key of root %s is not here", r.id())
	}
	cert, err := sign(tmpl, r.cert, key, rootKey)
	if err != nil {
		return issuer{}, fmt.Errorf("make an issuer: %w", err)
	}
	return issuer{cert: cert, key: key, chain: []*x509.Certificate{cert}}, nil
}

func sign(tmpl, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
