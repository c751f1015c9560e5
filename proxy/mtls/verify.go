package mtls

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Reason says in one word why a peer was refused; it is bounded, fit for a label.
type Reason uint8

// Reasons of a VerifyError.
const (
	ReasonChain    Reason = iota // no chain to a root of the current bundle
	ReasonExpired                // the leaf's time is over
	ReasonNotYet                 // the leaf's time has not begun
	ReasonUsage                  // not a leaf, or not for this direction
	ReasonNames                  // not exactly one URI name, or not an identity
	ReasonIdentity               // an identity, but not the one wanted
	ReasonALPN                   // no protocol in common
)

// String returns the reason in lower case words.
func (r Reason) String() string {
	names := [...]string{"chain", "expired", "not yet valid", "usage", "names", "identity", "alpn"}
	if int(r) < len(names) {
		return names[r]
	}
	return "other"
}

// VerifyError says that a peer's certificate is not acceptable here and now.
type VerifyError struct {
	Reason Reason
	// Want is the identity expected, empty when any will do.
	Want mesh.Identity
	// Got is the identity the peer showed, when it showed one; it is proven only
	// when Reason is ReasonIdentity.
	Got mesh.Identity
	// Cause may be nil.
	Cause error
}

// Error names both identities and the cause.
func (e *VerifyError) Error() string {
	s := "peer certificate refused (" + e.Reason.String() + ")"
	if e.Want != "" {
		s += ": want " + string(e.Want)
	}
	if e.Got != "" {
		s += ", got " + string(e.Got)
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Cause }

// Expect is what a peer's chain is held against.
type Expect struct {
	Bundle *Bundle
	// Usage is x509.ExtKeyUsageServerAuth when the peer is the server,
	// x509.ExtKeyUsageClientAuth when it is the client.
	Usage x509.ExtKeyUsage
	// Want is the one identity accepted. Empty matches nothing, unless Any.
	Want mesh.Identity
	// Any accepts every identity of Tulle's form (servers).
	Any bool
	// At is the time the chain must be valid at.
	At time.Time
}

// Verify checks a peer's chain, leaf first (rule R5.2), and returns the identity
// in it. All its errors are *VerifyError.
func Verify(chain []*x509.Certificate, e Expect) (mesh.Identity, error) {
	fail := func(r Reason, got mesh.Identity, cause error) (mesh.Identity, error) {
		return "", &VerifyError{Reason: r, Want: e.Want, Got: got, Cause: cause}
	}
	if len(chain) == 0 || e.Bundle == nil {
		return fail(ReasonChain, "", errors.New("no certificate or no trust bundle"))
	}
	leaf := chain[0]
	got, err := IdentityOf(leaf)
	if err != nil {
		return fail(ReasonNames, "", err)
	}
	if err := leafUsage(leaf, e.Usage); err != nil {
		return fail(ReasonUsage, got, err)
	}
	switch {
	case e.At.Before(leaf.NotBefore):
		return fail(ReasonNotYet, got, fmt.Errorf("valid from %s", leaf.NotBefore.UTC().Format(time.RFC3339)))
	case e.At.After(leaf.NotAfter):
		return fail(ReasonExpired, got, fmt.Errorf("valid until %s", leaf.NotAfter.UTC().Format(time.RFC3339)))
	}
	if err := verifyChain(chain, e); err != nil {
		return fail(ReasonChain, got, err)
	}
	if !e.Any && got != e.Want {
		return fail(ReasonIdentity, got, nil)
	}
	return got, nil
}

func verifyChain(chain []*x509.Certificate, e Expect) error {
	opts := x509.VerifyOptions{Roots: e.Bundle.pool, CurrentTime: e.At, KeyUsages: []x509.ExtKeyUsage{e.Usage}}
	if len(chain) > 1 {
		opts.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			opts.Intermediates.AddCert(c)
		}
	}
	_, err := chain[0].Verify(opts)
	return err
}

// leafUsage holds a leaf to the X.509-SVID standard, sections 4.1, 4.3 and 4.4:
// no authority, signatures allowed, and the extended usage of its direction
// present (x509 would take none at all for every usage).
func leafUsage(c *x509.Certificate, want x509.ExtKeyUsage) error {
	if c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return errors.New("the leaf is a certificate authority")
	}
	if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the leaf may not sign")
	}
	if !slices.Contains(c.ExtKeyUsage, want) {
		return errors.New("the leaf is not for this direction")
	}
	return nil
}

// IdentityOf returns the identity in a certificate's subject alternative name:
// exactly one URI, of Tulle's form. The name is read as it was signed, for
// net/url would drop an empty fragment.
func IdentityOf(c *x509.Certificate) (mesh.Identity, error) {
	oid := asn1.ObjectIdentifier{2, 5, 29, 17}
	var uri string
	n := 0
	for i := range c.Extensions {
		if !c.Extensions[i].Id.Equal(oid) {
			continue
		}
		var seq asn1.RawValue
		if rest, err := asn1.Unmarshal(c.Extensions[i].Value, &seq); err != nil || len(rest) != 0 {
			return "", errors.New("malformed subject alternative name")
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return "", errors.New("malformed subject alternative name")
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == 6 { // RFC 5280, 4.2.1.6
				uri = string(name.Bytes)
				n++
			}
		}
	}
	if n != 1 {
		return "", fmt.Errorf("%d URI names, want exactly one", n)
	}
	return mesh.ParseIdentity(uri)
}

func matchKey(cert tls.Certificate, leaf *x509.Certificate) error {
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("no private key that can sign")
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(signer.Public()) {
		return errors.New("the private key is another's")
	}
	return nil
}
