package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Keys of the Secret. An authority signs one certificate and its key is then forgotten: there is nothing
// to steal that could sign another.
const (
	certKey   = "tls.crt"
	keyKey    = "tls.key"
	bundleKey = "ca.crt" // the authorities to trust: during a rotation the old one and the new one
	nextCert  = "next.crt"
	nextKey   = "next.key"
)

const (
	// lifetime of a certificate and of its authority; two thirds of it are used.
	lifetime = 90 * 24 * time.Hour
	// settle is how long a new authority is announced before its certificate is used: every API server
	// has the new caBundle by then.
	settle = 5 * time.Minute
	// backdate makes up for clocks that differ.
	backdate = time.Minute
)

// data is what the Secret holds.
type data map[string][]byte

// step returns what the Secret should hold at now and what was done, "" for nothing.
func step(d data, names []string, now time.Time) (out data, did string, err error) {
	current, err := d.certificate(certKey, keyKey)
	if err != nil || !usable(current, d[bundleKey], names, now) {
		cert, key, ca, err := makePair(names, now)
		if err != nil {
			return nil, "", err
		}
		return data{certKey: cert, keyKey: key, bundleKey: ca}, "made", nil
	}
	if d[nextCert] != nil {
		next, err := d.certificate(nextCert, nextKey)
		switch {
		case err != nil || !usable(next, d[bundleKey], names, now):
		case now.Before(next.Leaf.NotBefore.Add(backdate + settle)):
			return d, "", nil
		default:
			// The old authority stays in the bundle until the next rotation: another replica may
			// serve the old certificate for a moment yet.
			return data{certKey: d[nextCert], keyKey: d[nextKey], bundleKey: d[bundleKey]}, "took", nil
		}
	}
	if now.Before(current.Leaf.NotBefore.Add(lifetime * 2 / 3)) {
		return d, "", nil
	}
	cert, key, ca, err := makePair(names, now)
	if err != nil {
		return nil, "", err
	}
	return data{
		certKey: d[certKey], keyKey: d[keyKey], nextCert: cert, nextKey: key,
		bundleKey: append(bytes.Clone(issuerOf(current, d[bundleKey])), ca...),
	}, "began", nil
}

// certificate reads a pair.
func (d data) certificate(cert, key string) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(d[cert], d[key])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Secret, err)
	}
	return &c, nil
}

// usable reports whether a client with the bundle would accept the certificate for every name.
func usable(c *tls.Certificate, bundle []byte, names []string, now time.Time) bool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	for _, name := range names {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
			return false
		}
	}
	return true
}

// issuerOf returns the authority in the bundle that signed the certificate.
func issuerOf(c *tls.Certificate, bundle []byte) []byte {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		ca, err := x509.ParseCertificate(block.Bytes)
		if err == nil && c.Leaf.CheckSignatureFrom(ca) == nil {
			return pem.EncodeToMemory(block)
		}
	}
	return nil
}

// makePair makes an authority, and a certificate for names by it.
func makePair(names []string, now time.Time) (cert, key, ca []byte, err error) {
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leafKey, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, nil, fmt.Errorf("make a key: %w", err)
	}
	root := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "tulle-injector authority " + now.UTC().Format(time.DateOnly)},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: Service}, DNSNames: names,
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootDER, err1 := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(leafKey)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return encode("CERTIFICATE", leafDER), encode("PRIVATE KEY", keyDER), encode("CERTIFICATE", rootDER), nil
}

// serial is 127 random bits (RFC 5280, 4.1.2.2: positive, at most 20 bytes).
func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // it never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}
