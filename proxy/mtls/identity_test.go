package mtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// name is one GeneralName of a subject alternative name.
func name(tag byte, s string) string { return string([]byte{0x80 | tag, byte(len(s))}) + s }

func sequence(names ...string) []byte {
	s := strings.Join(names, "")
	return append([]byte{0x30, byte(len(s))}, s...)
}

func certWith(san ...[]byte) *x509.Certificate {
	c := &x509.Certificate{}
	for _, v := range san {
		c.Extensions = append(c.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: v})
	}
	return c
}

// R5.2: exactly one URI, as it was signed.
func TestIdentityOfRawNames(t *testing.T) {
	const web = string(idWeb)
	for _, tt := range []struct {
		what string
		cert *x509.Certificate
		ok   bool
	}{
		{"one", certWith(sequence(name(6, web))), true},
		{"among others", certWith(sequence(name(2, "web.shop"), name(6, web), name(1, "a@b"))), true},
		{"none", certWith(sequence(name(2, web))), false},
		{"no extension", certWith(), false},
		{"two", certWith(sequence(name(6, web), name(6, web))), false},
		{"two extensions", certWith(sequence(name(6, web)), sequence(name(6, web))), false},
		{"an empty fragment", certWith(sequence(name(6, web+"#"))), false},
		{"a NUL", certWith(sequence(name(6, web+"\x00"))), false},
		{"bytes behind", certWith(append(sequence(name(6, web)), 0)), false},
		{"cut short", certWith(sequence(name(6, web))[:20]), false},
	} {
		if id, err := IdentityOf(tt.cert); (err == nil) != tt.ok || tt.ok && id != idWeb {
			t.Errorf("%s: %q, %v", tt.what, id, err)
		}
	}
}

func FuzzIdentityOf(f *testing.F) {
	f.Add(sequence(name(6, string(idWeb))))
	f.Add(sequence(name(2, "a"), name(6, "spiffe://a/ns/b/sa/c"), name(6, "x")))
	f.Fuzz(func(t *testing.T, san []byte) {
		id, err := IdentityOf(certWith(san))
		if err != nil {
			return
		}
		if again, err := mesh.ParseIdentity(string(id)); err != nil || again != id {
			t.Errorf("%q: %q, %v", id, again, err)
		}
		if n := strings.Count(string(san), string(id)); n == 0 {
			t.Errorf("%q is not in %q", id, san)
		}
	})
}
