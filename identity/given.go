package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Given is an authority of somebody else's making, as PEM files. It is rotated where it was made:
// new files and a restart.
type Given struct {
	// CertFile holds the certificate that signs leaves and, after it, what leads from it to a root.
	CertFile string
	// KeyFile holds its key (PKCS #8 or SEC 1), with mode 0600 or less.
	KeyFile string
	// BundleFile holds the roots; empty when CertFile ends with the root.
	BundleFile string
}

// state makes the state of the files. Its version follows that of the last one when anything
// changed.
func (g *Given) state(last *state, now time.Time) (*state, error) {
	i, roots, err := g.load(now)
	if err != nil {
		return nil, err
	}
	s := &state{version: 1, issuer: i}
	if last != nil {
		s.version = last.version
	}
	for _, c := range roots {
		s.roots = append(s.roots, root{cert: c, version: s.version, added: now})
	}
	if last != nil && (!bytes.Equal(last.bundlePEM(), s.bundlePEM()) || !last.issuer.cert.Equal(i.cert)) {
		s.version++
	}
	return s, nil
}

func (g *Given) load(now time.Time) (issuer, []*x509.Certificate, error) {
	chain, err := readCerts(g.CertFile)
	if err != nil {
		return issuer{}, nil, err
	}
	data, err := readPrivate(g.KeyFile)
	if err != nil {
		return issuer{}, nil, err
	}
	key, err := parseKeyPEM(data)
	if err != nil {
		return issuer{}, nil, fmt.Errorf("%s: %w", g.KeyFile, err)
	}
	roots := chain[len(chain)-1:]
	if g.BundleFile != "" {
		if roots, err = readCerts(g.BundleFile); err != nil {
			return issuer{}, nil, err
		}
	}
	i := issuer{cert: chain[0], key: key, chain: slices.DeleteFunc(slices.Clone(chain), isRoot)}
	if err := checkGiven(i, roots, now); err != nil {
		return issuer{}, nil, fmt.Errorf("%s: %w", g.CertFile, err)
	}
	return i, roots, nil
}

func readCerts(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertsPEM(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

func isRoot(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

func checkGiven(i issuer, roots []*x509.Certificate, now time.Time) error {
	if !i.cert.IsCA || i.cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("the first certificate may not sign others")
	}
	if len(i.cert.SubjectKeyId) == 0 {
		return errors.New("the first certificate has no subject key id")
	}
	if pub, ok := i.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(i.key.Public()) {
		return errors.New("the key is not that of the first certificate")
	}
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range roots {
		opts.Roots.AddCert(c)
	}
	for _, c := range i.chain {
		opts.Intermediates.AddCert(c)
	}
	_, err := i.cert.Verify(opts)
	return err
}
