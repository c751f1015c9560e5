// Package certify is the contract of the identity service in Go: what its server, its client and
// the fake of the tests have in common. One test (identity/contract_test.go) holds all three to it.
package certify

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

// Service gives out certificates and tells which roots to trust.
type Service interface {
	// Certify signs a certificate for the key of r.CSR. What it refuses is a *Refusal; every other
	// error says that the service could not be asked, and may be tried again.
	Certify(ctx context.Context, r Request) (Certificate, error)

	// WatchTrust calls w.Accept with the bundle as it is now and after each change, one call at a
	// time, until ctx ends (then it returns ctx's error), the service ends the stream (nil: come
	// back), or something breaks.
	WatchTrust(ctx context.Context, w Watch) error
}

// Request asks for a certificate.
type Request struct {
	// Token proves who asks. Empty: Own does.
	Token string
	// CSR is a PKCS #10 request in DER with the SPIFFE ID as its only name.
	CSR []byte
	// Own is the certificate to renew; nil when Token is set.
	Own *tls.Certificate
}

// Certificate is an answer to a Request.
type Certificate struct {
	// Chain is DER, leaf first, without the root.
	Chain [][]byte
	// NotAfter is the leaf's.
	NotAfter time.Time
	// Issuer names the certificate that signed the leaf, as Bundle.Issuer does.
	Issuer []byte
}

// Watch says who watches and what happens with a bundle.
type Watch struct {
	// Own is the watcher's certificate.
	Own *tls.Certificate
	// Workload tells instances with the same identity apart, "namespace/name".
	Workload string
	// Accept takes a bundle into force, which acknowledges it, or refuses it with a reason.
	Accept func(Bundle) error
}

// Bundle is the set of roots that are accepted at a version. It is immutable.
type Bundle struct {
	Version     uint64
	TrustDomain string
	// Roots are DER.
	Roots [][]byte
	// Issuer is the subject key id of the certificate that signs leaves now.
	Issuer []byte
}

// Reason says why a certificate was refused. The numbers are those of the wire
// (identityv1.RefusalReason).
type Reason uint8

// Reasons.
const (
	Unspecified    Reason = iota
	NoCredential          // neither a token nor a certificate
	BadToken              // malformed, or a signature that is not accepted
	ExpiredToken          // or not valid yet
	ReusedToken           // used before with another key
	WrongAudience         // made for somebody else
	BadCSR                // malformed, or not signed by its own key
	WeakKey               // a kind or size of key that is not accepted
	WrongName             // another identity than the one proved, or more names than that
	BadCertificate        // the certificate to renew is not valid here and now
	Busy                  // too much is remembered; try again later
	Internal              // the service failed; try again later
	NotAdmitted           // no workload has the identity any more
)

var reasonNames = [...]string{
	"unspecified", "no_credential", "bad_token", "expired_token", "reused_token", "wrong_audience",
	"bad_csr", "weak_key", "wrong_name", "bad_certificate", "busy", "internal", "not_admitted",
}

// String returns the value of the label reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return reasonNames[Unspecified]
}

// Reasons lists all of them, for metrics whose series are all present.
func Reasons() []Reason {
	all := make([]Reason, len(reasonNames))
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// Refusal is the error of a request that was understood and refused.
type Refusal struct {
	Reason Reason
	// Detail is for a person to read.
	Detail string
}

// Error names the reason and the detail.
func (r *Refusal) Error() string {
	return "certificate refused (" + r.Reason.String() + "): " + r.Detail
}

// Refuse makes a Refusal.
func Refuse(r Reason, format string, args ...any) *Refusal {
	// A detail may quote what a client sent; on the wire it is a string.
	return &Refusal{Reason: r, Detail: strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")}
}
