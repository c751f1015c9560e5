package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/certify"
)

// state is what an Authority is at a version. It is immutable once published.
type state struct {
	version uint64
	roots   []root // in the order in which they came
	issuer  issuer
}

// root is a member of the bundle: standing by (added), active (promoted) or superseded.
type root struct {
	cert *x509.Certificate
	// key is nil for a root that signs nothing (any more), or whose key somebody else keeps.
	key                         crypto.Signer
	version                     uint64
	added, promoted, superseded time.Time
	// leaf is the longest lifetime of leaves that were signed below it; 0 where that was not noted.
	leaf time.Duration
}

// issuer signs leaves.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
	// chain is what follows a leaf: cert and what leads from it to a root, without the root.
	chain []*x509.Certificate
}

func (r root) id() RootID     { return RootID(hex.EncodeToString(r.cert.SubjectKeyId)) }
func (r root) isActive() bool { return !r.promoted.IsZero() && r.superseded.IsZero() }

func (s *state) index(id RootID) int {
	return slices.IndexFunc(s.roots, func(r root) bool { return r.id() == id })
}

func (s *state) active() (root, bool) {
	i := slices.IndexFunc(s.roots, root.isActive)
	if i < 0 {
		return root{}, false
	}
	return s.roots[i], true
}

func (s *state) bundle(trustDomain string) certify.Bundle {
	b := certify.Bundle{Version: s.version, TrustDomain: trustDomain, Issuer: s.issuer.cert.SubjectKeyId}
	for _, r := range s.roots {
		b.Roots = append(b.Roots, r.cert.Raw)
	}
	return b
}

func (s *state) bundlePEM() []byte {
	var buf bytes.Buffer
	for _, r := range s.roots {
		buf.Write(certPEM(r.cert))
	}
	return buf.Bytes()
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
