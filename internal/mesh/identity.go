// Package mesh holds the nouns that two of proxy, destination and controller
// exchange. It imports the standard library alone and has no behaviour beyond
// String, Equal, parsing and hashing.
package mesh

import (
	"fmt"
	"strings"
)

// Identity is a SPIFFE ID, spiffe://<trust domain>/ns/<namespace>/sa/<service
// account>, or empty for none.
type Identity string

// NewIdentity composes an Identity from valid parts.
func NewIdentity(trustDomain, namespace, account string) Identity {
	return Identity("spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + account)
}

// ParseIdentity checks that s is an Identity of Tulle's form.
func ParseIdentity(s string) (Identity, error) {
	id := Identity(s)
	td, ns, sa, ok := id.parts()
	if !ok {
		return "", fmt.Errorf("identity %q: want spiffe://<trust domain>/ns/<namespace>/sa/<service account>", s)
	}
	for _, p := range []string{td, ns, sa} {
		if !validName(p) {
			return "", fmt.Errorf("identity %q: %q is not a DNS name", s, p)
		}
	}
	return id, nil
}

// TrustDomain returns the trust domain, or "" when id is not of the form.
func (id Identity) TrustDomain() string { td, _, _, _ := id.parts(); return td }

// Namespace returns the namespace, or "".
func (id Identity) Namespace() string { _, ns, _, _ := id.parts(); return ns }

// Account returns the service account, or "".
func (id Identity) Account() string { _, _, sa, _ := id.parts(); return sa }

func (id Identity) parts() (td, ns, sa string, ok bool) {
	rest, ok := strings.CutPrefix(string(id), "spiffe://")
	if !ok {
		return "", "", "", false
	}
	td, rest, ok = strings.Cut(rest, "/ns/")
	if !ok {
		return "", "", "", false
	}
	ns, sa, ok = strings.Cut(rest, "/sa/")
	if !ok {
		return "", "", "", false
	}
	return td, ns, sa, true
}

// validName reports whether s is a lower-case DNS name (RFC 1123) of at most
// 253 bytes.
func validName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case (c == '-' || c == '.') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return true
}
