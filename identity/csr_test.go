package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"testing"

	"github.com/tulle-mesh/tulle/internal/certify"
)

func newTestKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// request makes a CSR; uris are taken as they are.
func request(t testing.TB, key crypto.Signer, tmpl x509.CertificateRequest, uris ...string) []byte {
	t.Helper()
	for _, s := range uris {
		u, err := url.Parse(s)
		nothing(t, err)
		tmpl.URIs = append(tmpl.URIs, u)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	nothing(t, err)
	return der
}

// names makes the extension of subject alternative names from raw ones.
func names(t testing.TB, raw ...asn1.RawValue) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(raw)
	nothing(t, err)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
}

func uriName(s string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)}
}

func TestKeysThatAreAccepted(t *testing.T) {
	p256, err := newTestKey()
	nothing(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	nothing(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	nothing(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	nothing(t, err)
	for _, key := range []crypto.Signer{p256, p384, ed, rsa2048} {
		id, got, err := parseCSR(request(t, key, x509.CertificateRequest{}, string(testWeb)))
		if err != nil || id != testWeb || !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%T: %s, %v", key, id, err)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	key, err := newTestKey()
	nothing(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	nothing(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	nothing(t, err)
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	nothing(t, err)
	good := request(t, key, x509.CertificateRequest{}, string(testWeb))
	tampered := append([]byte(nil), good...)
	tampered[len(tampered)-1] ^= 1
	type csr = x509.CertificateRequest
	ext := func(raw ...asn1.RawValue) csr { return csr{ExtraExtensions: []pkix.Extension{names(t, raw...)}} }
	web := string(testWeb)

	for _, tc := range []struct {
		name string
		der  []byte
		want certify.Reason
	}{
		{"nothing", nil, certify.BadCSR},
		{"no DER", []byte("hello"), certify.BadCSR},
		{"too large", make([]byte, maxCSR+1), certify.BadCSR},
		{"bytes after it", append(append([]byte(nil), good...), 0), certify.BadCSR},
		{"another key's signature", tampered, certify.BadCSR},
		{"P-521", request(t, p521, csr{}, web), certify.WeakKey},
		{"P-224", request(t, p224, csr{}, web), certify.WeakKey},
		{"RSA of 1024 bits", request(t, rsa1024, csr{}, web), certify.WeakKey},
		{"no name", request(t, key, csr{}), certify.WrongName},
		{"the name in the subject alone", request(t, key, csr{Subject: pkix.Name{CommonName: web}}), certify.WrongName},
		{"two URIs", request(t, key, csr{}, web, web), certify.WrongName},
		{"a host too", request(t, key, csr{DNSNames: []string{"web"}}, web), certify.WrongName},
		{"an address too", request(t, key, csr{IPAddresses: []net.IP{{10, 0, 0, 1}}}, web), certify.WrongName},
		{"a mail address too", request(t, key, csr{EmailAddresses: []string{"a@b"}}, web), certify.WrongName},
		{"a host alone", request(t, key, csr{DNSNames: []string{"web"}}), certify.WrongName},
		{"a name of a kind that Go does not read", request(t, key, ext(uriName(web), asn1.RawValue{
			Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{42, 3, 4},
		})), certify.WrongName},
		{"no SPIFFE ID", request(t, key, csr{}, "https://web.shop/"), certify.WrongName},
		{"a SPIFFE ID of another form", request(t, key, csr{}, "spiffe://tulle.test/web"), certify.WrongName},
		{"a fragment that is empty", request(t, key, ext(uriName(web+"#"))), certify.WrongName},
		{"a NUL in the name", request(t, key, ext(uriName(web+"\x00"))), certify.BadCSR},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := parseCSR(tc.der)
			var r *certify.Refusal
			if !errors.As(err, &r) || r.Reason != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestNothingButTheKeyIsCopiedFromARequest(t *testing.T) {
	key, err := newTestKey()
	nothing(t, err)
	ca, err := asn1.Marshal(struct{ CA bool }{true})
	nothing(t, err)
	der := request(t, key, x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: ca}},
	}, string(testWeb))
	id, pub, err := parseCSR(der)
	nothing(t, err)
	a, err := OpenAuthority(AuthorityConfig{TrustDomain: testDomain})
	nothing(t, err)
	c, err := a.Issue(id, pub)
	nothing(t, err)
	leaf, err := x509.ParseCertificate(c.Chain[0])
	nothing(t, err)
	if leaf.IsCA || leaf.Subject.String() != "" {
		t.Errorf("authority: %t, subject %q", leaf.IsCA, leaf.Subject)
	}
}

// FuzzCSR holds that what is accepted has a strong key, which signed it, and one identity.
func FuzzCSR(f *testing.F) {
	key, err := newTestKey()
	nothing(f, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	nothing(f, err)
	for _, k := range []crypto.Signer{key, ed} {
		f.Add(request(f, k, x509.CertificateRequest{}, string(testWeb)))
		f.Add(request(f, k, x509.CertificateRequest{DNSNames: []string{"web"}}, string(testWeb)))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		id, pub, err := parseCSR(der)
		if err != nil {
			if r := (*certify.Refusal)(nil); !errors.As(err, &r) {
				t.Fatalf("%v says no reason", err)
			}
			return
		}
		if checkKey(pub) != nil || id.TrustDomain() == "" {
			t.Fatalf("accepted %q with a %T", id, pub)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || csr.CheckSignature() != nil || len(csr.URIs) > 1 {
			t.Fatal("accepted what crypto/x509 does not")
		}
	})
}
