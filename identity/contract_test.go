package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	client "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/identity/identitytest"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	trustDomain = "tulle.test"
	self        = mesh.Identity("spiffe://tulle.test/ns/tulle/sa/tulle-identity")
	web         = mesh.Identity("spiffe://tulle.test/ns/shop/sa/web")
	cart        = mesh.Identity("spiffe://tulle.test/ns/shop/sa/cart")
)

// subject is an implementation of certify.Service that is held to the contract.
type subject struct {
	service certify.Service
	token   func(mesh.Identity) string
	// rotate adds a root and makes it the one that signs; withdraw takes the others out.
	rotate, withdraw func()
	// acked reports whether the watcher has acknowledged the newest bundle.
	acked func() bool
}

func TestContract(t *testing.T) {
	for name, open := range map[string]func(*testing.T) subject{
		"server": func(t *testing.T) subject { return ofServer(newServer(t, identity.Config{})) },
		"remote": func(t *testing.T) subject { return newServer(t, identity.Config{}).over(t) },
		"fake":   ofFake,
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("a token gets a certificate of its identity", func(t *testing.T) { contractToken(t, open(t)) })
			t.Run("a token is for one key", func(t *testing.T) { contractReuse(t, open(t)) })
			t.Run("a certificate renews itself", func(t *testing.T) { contractRenewal(t, open(t)) })
			t.Run("what is refused says why", func(t *testing.T) { contractRefusals(t, open(t)) })
			t.Run("a refusal costs no token", func(t *testing.T) { contractRefusedToken(t, open(t)) })
			t.Run("R10.3 watchers see every root", func(t *testing.T) { contractWatch(t, open(t)) })
			t.Run("a watcher without a certificate learns nothing", func(t *testing.T) { contractStranger(t, open(t)) })
		})
	}
}

func contractToken(t *testing.T, s subject) {
	key := newKey(t)
	got, err := s.service.Certify(t.Context(), certify.Request{Token: s.token(web), CSR: csr(t, key, web)})
	ok(t, err)
	leaf := parse(t, got.Chain[0])
	if !leaf.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Error("another key was certified")
	}
	if !got.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("not after %s, the leaf says %s", got.NotAfter, leaf.NotAfter)
	}
	if life := time.Until(leaf.NotAfter); life > 24*time.Hour || life < 24*time.Hour-time.Minute {
		t.Errorf("R10.1: the leaf lives for %s, want 24h", life)
	}
	if back := time.Since(leaf.NotBefore); back < 50*time.Second || back > 2*time.Minute {
		t.Errorf("R5.2: not before is %s back, want 1m", back)
	}
	b := bundle(t, watchOnce(t, s, own(got, key)))
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if id, err := mtls.Verify(parseAll(t, got.Chain), mtls.Expect{Bundle: b, Usage: usage, Want: web, At: time.Now()}); err != nil {
			t.Errorf("usage %d: %s, %v", usage, id, err)
		}
	}
}

func contractReuse(t *testing.T, s subject) {
	token, key := s.token(web), newKey(t)
	for range 2 { // the answer may have been lost
		_, err := s.service.Certify(t.Context(), certify.Request{Token: token, CSR: csr(t, key, web)})
		ok(t, err)
	}
	_, err := s.service.Certify(t.Context(), certify.Request{Token: token, CSR: csr(t, newKey(t), web)})
	refused(t, err, certify.ReusedToken)
}

func contractRenewal(t *testing.T, s subject) {
	cert := s.certified(t, web)
	for range 3 { // each by the one before
		key := newKey(t)
		got, err := s.service.Certify(t.Context(), certify.Request{Own: &cert, CSR: csr(t, key, web)})
		ok(t, err)
		cert = *own(got, key)
	}
	_, err := s.service.Certify(t.Context(), certify.Request{Own: &cert, CSR: csr(t, newKey(t), cart)})
	refused(t, err, certify.WrongName)

	s.rotate()
	_, err = s.service.Certify(t.Context(), certify.Request{Own: &cert, CSR: csr(t, newKey(t), web)})
	ok(t, err)
	s.withdraw()
	_, err = s.service.Certify(t.Context(), certify.Request{Own: &cert, CSR: csr(t, newKey(t), web)})
	refused(t, err, certify.BadCertificate)
}

func contractRefusals(t *testing.T, s subject) {
	key := newKey(t)
	good := csr(t, key, web)
	stranger := ofFake(t).certified(t, web) // the same name below another root
	for _, tc := range []struct {
		name string
		req  certify.Request
		want certify.Reason
	}{
		{"nothing is shown", certify.Request{CSR: good}, certify.NoCredential},
		{"a token that nobody made", certify.Request{Token: "x.y.z", CSR: good}, certify.BadToken},
		{"a certificate of another mesh", certify.Request{Own: &stranger, CSR: good}, certify.BadCertificate},
		{"no request", certify.Request{Token: s.token(web)}, certify.BadCSR},
		{"a request that another key signed", certify.Request{Token: s.token(web), CSR: badSignature(good)}, certify.BadCSR},
		{"a curve that is not accepted", certify.Request{Token: s.token(web), CSR: csr(t, curve(t, elliptic.P224()), web)}, certify.WeakKey},
		{"RSA of 1024 bits", certify.Request{Token: s.token(web), CSR: csr(t, rsaKey(t, 1024), web)}, certify.WeakKey},
		{"another's name", certify.Request{Token: s.token(web), CSR: csr(t, key, cart)}, certify.WrongName},
		{"two names", certify.Request{Token: s.token(web), CSR: csr(t, key, web, cart)}, certify.WrongName},
		{"no name", certify.Request{Token: s.token(web), CSR: csr(t, key)}, certify.WrongName},
		{"a host's name too", certify.Request{Token: s.token(web), CSR: csrWithHost(t, key, web)}, certify.WrongName},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.service.Certify(t.Context(), tc.req)
			refused(t, err, tc.want)
		})
	}
}

func contractRefusedToken(t *testing.T, s subject) {
	token := s.token(web)
	_, err := s.service.Certify(t.Context(), certify.Request{Token: token, CSR: csr(t, newKey(t), cart)})
	refused(t, err, certify.WrongName)
	_, err = s.service.Certify(t.Context(), certify.Request{Token: token, CSR: csr(t, newKey(t), web)})
	ok(t, err)
}

func contractWatch(t *testing.T, s subject) {
	cert := s.certified(t, web)
	w := follow(t, s, &cert)
	first := w.next(t)
	if len(first.Roots) != 1 || first.TrustDomain != trustDomain || len(first.Issuer) == 0 {
		t.Fatalf("the first bundle is %+v", first)
	}
	s.rotate()
	second := w.until(t, func(b certify.Bundle) bool { return string(b.Issuer) != string(first.Issuer) })
	if len(second.Roots) != 2 || second.Version <= first.Version {
		t.Fatalf("after a rotation: %d roots at version %d, want both after %d", len(second.Roots), second.Version, first.Version)
	}
	if !eventually(s.acked) {
		t.Error("the acknowledgement was not seen")
	}
	s.withdraw()
	third := w.until(t, func(b certify.Bundle) bool { return len(b.Roots) == 1 })
	if string(third.Roots[0]) == string(first.Roots[0]) {
		t.Error("the old root stayed")
	}
	if err := w.leave(); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}

func contractStranger(t *testing.T, s subject) {
	stranger := ofFake(t).certified(t, web)
	for _, own := range []*tls.Certificate{nil, &stranger} {
		err := s.service.WatchTrust(t.Context(), certify.Watch{Own: own, Accept: func(certify.Bundle) error {
			t.Error("it was told a bundle")
			return nil
		}})
		if err == nil {
			t.Error("it was let in")
		}
	}
}

// ---- the subjects

// served is a server with what it is made of.
type served struct {
	*identity.Server

	authority *identity.Authority
	tokens    *identity.JoinTokens
}

func newServer(t *testing.T, cfg identity.Config) served {
	t.Helper()
	if cfg.Authority == nil {
		a, err := identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain})
		ok(t, err)
		cfg.Authority = a
	}
	tokens, err := identity.OpenJoinTokens(identity.JoinConfig{TrustDomain: trustDomain})
	ok(t, err)
	cfg.Tokens, cfg.Identity = tokens, self
	s, err := identity.New(cfg)
	ok(t, err)
	return served{s, cfg.Authority, tokens}
}

// listen runs s and returns its address.
func (s served) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		ok(t, <-done)
	})
	return l.Addr().String()
}

func (s served) bundle() *mtls.Bundle {
	b, err := mtls.ParseBundle(s.authority.BundlePEM())
	if err != nil {
		panic(err)
	}
	return b
}

func (s served) mint(id mesh.Identity) string {
	token, err := s.tokens.Mint(identity.Join{Namespace: id.Namespace(), Name: id.Account() + "-1", Account: id.Account()})
	if err != nil {
		panic(err)
	}
	return token
}

func ofServer(s served) subject {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	return subject{
		service: s.Local(),
		token:   s.mint,
		rotate: func() {
			id, err := s.authority.AddRoot()
			must(err)
			must(s.authority.Promote(id))
		},
		withdraw: func() {
			for _, r := range s.authority.Roots() {
				if !r.Superseded.IsZero() {
					must(s.authority.Retire(r.ID))
				}
			}
		},
		acked: func() bool { return s.Standing() == identity.Standing{Current: 1} },
	}
}

// over asks the same server over loopback.
func (s served) over(t *testing.T) subject {
	out := ofServer(s)
	out.service = client.NewRemote(client.RemoteConfig{Addr: s.listen(t), Identity: self, Bundle: s.bundle})
	return out
}

func ofFake(*testing.T) subject {
	f := identitytest.New(trustDomain, nil)
	return subject{
		service: f, token: f.Token, rotate: f.Rotate, withdraw: f.Withdraw,
		acked: func() bool { return f.Acked() == f.Version() },
	}
}

func (s subject) certified(t *testing.T, id mesh.Identity) tls.Certificate {
	t.Helper()
	key := newKey(t)
	got, err := s.service.Certify(t.Context(), certify.Request{Token: s.token(id), CSR: csr(t, key, id)})
	ok(t, err)
	return *own(got, key)
}

// ---- a watcher

type following struct {
	bundles chan certify.Bundle
	cancel  context.CancelFunc
	done    chan error
}

func follow(t *testing.T, s subject, own *tls.Certificate) *following {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{bundles: make(chan certify.Bundle, 100), cancel: cancel, done: make(chan error, 1)}
	go func() {
		f.done <- s.service.WatchTrust(ctx, certify.Watch{Own: own, Workload: "shop/web-1", Accept: func(b certify.Bundle) error {
			f.bundles <- b
			return nil
		}})
	}()
	t.Cleanup(func() { f.leave() })
	return f
}

func (f *following) leave() error {
	f.cancel()
	err := <-f.done
	f.done <- err
	return err
}

const patience = 10 * time.Second

func (f *following) next(t *testing.T) certify.Bundle {
	t.Helper()
	return f.until(t, func(certify.Bundle) bool { return true })
}

func (f *following) until(t *testing.T, want func(certify.Bundle) bool) certify.Bundle {
	t.Helper()
	for end := time.After(patience); ; {
		select {
		case b := <-f.bundles:
			if want(b) {
				return b
			}
		case err := <-f.done:
			f.done <- err // leave wants it
			t.Fatalf("the watch ended: %v", err)
		case <-end:
			t.Fatal("no such bundle came")
		}
	}
}

func watchOnce(t *testing.T, s subject, own *tls.Certificate) certify.Bundle {
	t.Helper()
	f := follow(t, s, own)
	b := f.next(t)
	f.leave()
	return b
}

// eventually polls what another goroutine is about to do.
func eventually(cond func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if cond() {
			return true
		}
	}
	return false
}

// ---- certificates and requests

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, want certify.Reason) {
	t.Helper()
	var r *certify.Refusal
	if !errors.As(err, &r) || r.Reason != want {
		t.Fatalf("got %v, want a refusal for %s", err, want)
	}
	if r.Detail == "" {
		t.Error("the refusal does not say why")
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey { return curve(t, elliptic.P256()) }

func curve(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	ok(t, err)
	return k
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	ok(t, err)
	return k
}

func csr(t testing.TB, key crypto.Signer, names ...mesh.Identity) []byte {
	t.Helper()
	return csrFrom(t, key, &x509.CertificateRequest{}, names...)
}

func csrFrom(t testing.TB, key crypto.Signer, tmpl *x509.CertificateRequest, names ...mesh.Identity) []byte {
	t.Helper()
	for _, n := range names {
		u, err := url.Parse(string(n))
		ok(t, err)
		tmpl.URIs = append(tmpl.URIs, u)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	ok(t, err)
	return der
}

func csrWithHost(t testing.TB, key crypto.Signer, id mesh.Identity) []byte {
	return csrFrom(t, key, &x509.CertificateRequest{DNSNames: []string{"web.shop"}}, id)
}

// badSignature changes the last bit of an ECDSA signature.
func badSignature(der []byte) []byte {
	out := append([]byte(nil), der...)
	out[len(out)-1] ^= 1
	return out
}

func own(c certify.Certificate, key crypto.PrivateKey) *tls.Certificate {
	return &tls.Certificate{Certificate: c.Chain, PrivateKey: key}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	ok(t, err)
	return c
}

func parseAll(t testing.TB, ders [][]byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range ders {
		out = append(out, parse(t, der))
	}
	return out
}

func bundle(t testing.TB, b certify.Bundle) *mtls.Bundle {
	t.Helper()
	out, err := mtls.NewBundle(parseAll(t, b.Roots))
	ok(t, err)
	return out
}
