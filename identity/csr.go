package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// maxCSR bounds a request; one for an RSA key of 4096 bits has about 1.2 KiB.
const maxCSR = 8 << 10

// parseCSR checks that der is a request signed by its own key, a key that is accepted, for exactly
// one name, an identity. Everything else that it asks for (subject, usages, extensions) is ignored:
// nothing is ever copied from a request but the key.
func parseCSR(der []byte) (mesh.Identity, crypto.PublicKey, error) {
	if len(der) > maxCSR {
		return "", nil, certify.Refuse(certify.BadCSR, "%d bytes, want at most %d", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return "", nil, certify.Refuse(certify.BadCSR, "%v", err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return "", nil, certify.Refuse(certify.WeakKey, "%v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return "", nil, certify.Refuse(certify.BadCSR, "not signed by its own key: %v", err)
	}
	id, err := nameOf(csr)
	if err != nil {
		return "", nil, certify.Refuse(certify.WrongName, "%v", err)
	}
	return id, csr.PublicKey, nil
}

// checkKey accepts ECDSA on P-256 and P-384, Ed25519, and RSA of 2048 to 4096 bits (more costs every
// peer more than it gains).
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("ECDSA on %s, want P-256 or P-384", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("RSA of %d bits, want 2048 to 4096", n)
		}
	default:
		return fmt.Errorf("a key of type %T, want ECDSA P-256 or P-384, Ed25519 or RSA", key)
	}
	return nil
}

// nameOf returns the one name of a request. It reads the extension itself, because crypto/x509
// leaves out the kinds of name that it does not know.
func nameOf(csr *x509.CertificateRequest) (mesh.Identity, error) {
	oid := asn1.ObjectIdentifier{2, 5, 29, 17} // RFC 5280, 4.2.1.6
	var names []asn1.RawValue
	for _, ext := range csr.Extensions {
		if !ext.Id.Equal(oid) {
			continue
		}
		rest, err := asn1.Unmarshal(ext.Value, &names)
		if err != nil || len(rest) != 0 {
			return "", errors.New("malformed subject alternative name")
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("%d names, want exactly one", len(names))
	}
	if n := names[0]; n.Class != asn1.ClassContextSpecific || n.Tag != 6 || n.IsCompound { // uniformResourceIdentifier
		return "", errors.New("the name is no URI")
	}
	return mesh.ParseIdentity(string(names[0].Bytes))
}
