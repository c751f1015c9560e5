package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Bundle is an immutable set of root certificates (rule R10.3: several may be
// accepted at once).
type Bundle struct {
	pool *x509.CertPool
	hash [sha256.Size]byte
	size int
}

// NewBundle returns the set of roots. It refuses an empty set, and certificates
// that may not sign others.
func NewBundle(roots []*x509.Certificate) (*Bundle, error) {
	if len(roots) == 0 {
		return nil, errors.New("trust bundle: no certificate in it")
	}
	ders := make([][]byte, 0, len(roots))
	b := &Bundle{pool: x509.NewCertPool()}
	for _, c := range roots {
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, fmt.Errorf("trust bundle: %q is not a certificate authority", c.Subject)
		}
		b.pool.AddCert(c)
		ders = append(ders, c.Raw)
	}
	slices.SortFunc(ders, bytes.Compare)
	ders = slices.CompactFunc(ders, bytes.Equal)
	h := sha256.New()
	for _, d := range ders {
		h.Write(d) // DER carries its own length, so the concatenation is unambiguous
	}
	h.Sum(b.hash[:0])
	b.size = len(ders)
	return b, nil
}

// ParseBundle reads a bundle from PEM, as it is mounted and streamed. Blocks
// other than certificates are refused: a private key has no place there.
func ParseBundle(data []byte) (*Bundle, error) {
	var roots []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("trust bundle: unexpected PEM block %q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("trust bundle: %w", err)
		}
		roots = append(roots, c)
	}
	return NewBundle(roots)
}

// Hash is the SHA-256 over the sorted roots: equal sets have equal hashes.
func (b *Bundle) Hash() [sha256.Size]byte { return b.hash }

// Len returns the number of different roots.
func (b *Bundle) Len() int { return b.size }

// Pool returns the roots for use with crypto/tls elsewhere; it must not be changed.
func (b *Bundle) Pool() *x509.CertPool { return b.pool }

// Snapshot is what a proxy holds at one moment. It is immutable.
type Snapshot struct {
	// Identity is the one in Leaf; empty before the first certificate.
	Identity mesh.Identity
	// Leaf is the proxy's own chain and key.
	Leaf tls.Certificate
	// NotBefore and NotAfter are Leaf's.
	NotBefore, NotAfter time.Time
	// Bundle is nil before the first bundle.
	Bundle *Bundle
}

// Ready reports whether both a certificate and a bundle are there.
func (s *Snapshot) Ready() bool { return s.Identity != "" && s.Bundle != nil }

// Credentials holds the current Snapshot. Any goroutine may read and replace it;
// sessions that live keep the certificate they began with and are checked
// against a new bundle by Session.Recheck.
type Credentials struct {
	now     func() time.Time
	current atomic.Pointer[Snapshot]
}

// NewCredentials returns an empty holder. now is the wall clock that validity
// is judged by.
func NewCredentials(now func() time.Time) *Credentials {
	c := &Credentials{now: now}
	c.current.Store(&Snapshot{})
	return c
}

// Get returns the current snapshot, never nil.
func (c *Credentials) Get() *Snapshot { return c.current.Load() }

// Now reads the wall clock of c.
func (c *Credentials) Now() time.Time { return c.now() }

// SetBundle replaces the roots.
func (c *Credentials) SetBundle(b *Bundle) {
	c.update(func(s *Snapshot) { s.Bundle = b })
}

// SetLeaf replaces the proxy's own chain and key. It refuses a chain without
// exactly one identity and a key that is not the leaf's.
func (c *Credentials) SetLeaf(leaf tls.Certificate) error {
	if len(leaf.Certificate) == 0 {
		return errors.New("own certificate: empty chain")
	}
	parsed, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		return fmt.Errorf("own certificate: %w", err)
	}
	id, err := IdentityOf(parsed)
	if err != nil {
		return fmt.Errorf("own certificate: %w", err)
	}
	if err := matchKey(leaf, parsed); err != nil {
		return fmt.Errorf("own certificate: %w", err)
	}
	leaf.Leaf = parsed
	c.update(func(s *Snapshot) {
		s.Identity, s.Leaf = id, leaf
		s.NotBefore, s.NotAfter = parsed.NotBefore, parsed.NotAfter
	})
	return nil
}

func (c *Credentials) update(change func(*Snapshot)) {
	for {
		old := c.current.Load()
		next := *old
		change(&next)
		if c.current.CompareAndSwap(old, &next) {
			return
		}
	}
}
