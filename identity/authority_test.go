package identity_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

func open(t *testing.T, cfg identity.AuthorityConfig) *identity.Authority {
	t.Helper()
	cfg.TrustDomain = trustDomain
	a, err := identity.OpenAuthority(cfg)
	ok(t, err)
	return a
}

func issue(t *testing.T, a *identity.Authority, id mesh.Identity) certify.Certificate {
	t.Helper()
	c, err := a.Issue(id, newKey(t).Public())
	ok(t, err)
	return c
}

// trusted reports whether a peer that has a's bundle of now would take c.
func trusted(t *testing.T, a *identity.Authority, c certify.Certificate, at time.Time) bool {
	t.Helper()
	b, _ := a.Trust()
	_, err := mtls.Verify(parseAll(t, c.Chain), mtls.Expect{
		Bundle: bundle(t, b), Usage: x509.ExtKeyUsageServerAuth, Any: true, At: at,
	})
	return err == nil
}

func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	first := open(t, identity.AuthorityConfig{Dir: dir})
	before := issue(t, first, web)
	id, err := first.AddRoot()
	ok(t, err)

	second := open(t, identity.AuthorityConfig{Dir: dir})
	was, _ := first.Trust()
	is, _ := second.Trust()
	if was.Version != is.Version || len(is.Roots) != 2 || string(was.Issuer) != string(is.Issuer) {
		t.Errorf("was %d with %d roots, is %d with %d", was.Version, len(was.Roots), is.Version, len(is.Roots))
	}
	if !trusted(t, second, before, time.Now()) || !trusted(t, first, issue(t, second, cart), time.Now()) {
		t.Error("what one signed, the other does not trust")
	}
	ok(t, second.Promote(id)) // its key was kept too
	if !trusted(t, second, issue(t, second, web), time.Now()) {
		t.Error("the root that was kept signs nothing that is trusted")
	}
}

func TestKeysAreForNobodyElse(t *testing.T) {
	dir := t.TempDir()
	open(t, identity.AuthorityConfig{Dir: dir})
	tokens, err := identity.OpenJoinTokens(identity.JoinConfig{Dir: dir, TrustDomain: trustDomain})
	ok(t, err)
	ok(t, tokens.Close())
	for _, f := range []string{"authority.json", "join-key.pem", "used-tokens"} {
		info, err := os.Stat(filepath.Join(dir, f))
		ok(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %#o, want 0600", f, info.Mode().Perm())
		}
	}
	mounted, err := filepath.Glob(filepath.Join(dir, identity.BundleDir, "*"))
	ok(t, err)
	if len(mounted) != 1 || filepath.Base(mounted[0]) != identity.BundleFile {
		t.Errorf("the directory that proxies mount holds %q", mounted)
	}
	data, err := os.ReadFile(mounted[0])
	ok(t, err)
	if strings.Contains(string(data), "PRIVATE") {
		t.Error("the mounted bundle holds a key")
	}

	ok(t, os.Chmod(filepath.Join(dir, "authority.json"), 0o644))
	_, err = identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain, Dir: dir})
	wantError(t, err, "chmod 600")
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want an error with %q", err, part)
	}
}

func TestAuthorityRefusesWhatItCannotBe(t *testing.T) {
	dir := t.TempDir()
	open(t, identity.AuthorityConfig{Dir: dir})
	for _, tc := range []struct {
		name, want string
		cfg        identity.AuthorityConfig
	}{
		{"no trust domain", "trust domain", identity.AuthorityConfig{}},
		{"a bad trust domain", "trust domain", identity.AuthorityConfig{TrustDomain: "Tulle/x"}},
		{"another trust domain's directory", "use another directory", identity.AuthorityConfig{TrustDomain: "other.test", Dir: dir}},
		{"leaves outlive issuers", "three times", identity.AuthorityConfig{TrustDomain: trustDomain, LeafLifetime: 20 * 24 * time.Hour}},
		{"issuers outlive roots", "three times", identity.AuthorityConfig{TrustDomain: trustDomain, RootLifetime: 31 * 24 * time.Hour}},
		{"negative lifetime", "three times", identity.AuthorityConfig{TrustDomain: trustDomain, LeafLifetime: -time.Hour}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := identity.OpenAuthority(tc.cfg)
			wantError(t, err, tc.want)
		})
	}
	ok(t, os.WriteFile(filepath.Join(dir, "authority.json"), []byte("{"), 0o600))
	_, err := identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain, Dir: dir})
	wantError(t, err, "authority.json")
}

func TestLeavesAreSVIDs(t *testing.T) {
	a := open(t, identity.AuthorityConfig{})
	c := issue(t, a, web)
	leaf, issuer := parse(t, c.Chain[0]), parse(t, c.Chain[1])
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("leaf: authority %t, usage %d", leaf.IsCA, leaf.KeyUsage)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != string(web) || len(leaf.Subject.Names) != 0 {
		t.Errorf("leaf is named %v, %q", leaf.URIs, leaf.Subject)
	}
	if !issuer.IsCA || !issuer.MaxPathLenZero || string(issuer.SubjectKeyId) != string(c.Issuer) {
		t.Error("the issuer is no authority for leaves alone, or not the one that was named")
	}
	if len(c.Chain) != 2 {
		t.Errorf("a chain of %d, want leaf and issuer without the root", len(c.Chain))
	}
}

func TestRotationByHand(t *testing.T) {
	a := open(t, identity.AuthorityConfig{Dir: t.TempDir()})
	first := a.Roots()[0]
	before := issue(t, a, web)
	v1, changed := a.Trust()

	id, err := a.AddRoot()
	ok(t, err)
	select {
	case <-changed:
	default:
		t.Error("watchers were not told of the new root")
	}
	standing := issue(t, a, web)
	if string(standing.Issuer) != string(v1.Issuer) {
		t.Error("a root that only stands by has signed")
	}
	wantError(t, a.Retire(first.ID), "promote another one first")

	ok(t, a.Promote(id))
	after := issue(t, a, web)
	v3, _ := a.Trust()
	if string(after.Issuer) == string(v1.Issuer) || string(after.Issuer) != string(v3.Issuer) || v3.Version != v1.Version+2 {
		t.Error("the new root did not take over")
	}
	if !trusted(t, a, before, time.Now()) || !trusted(t, a, after, time.Now()) {
		t.Error("R10.3: during a rotation both are trusted")
	}
	wantError(t, a.Promote(id), "promoted before")
	wantError(t, a.Promote(first.ID), "promoted before")

	ok(t, a.Retire(first.ID))
	if trusted(t, a, before, time.Now()) || !trusted(t, a, after, time.Now()) {
		t.Error("after it the old leaf must be refused and the new one trusted")
	}
	wantError(t, a.Retire(first.ID), "no such root")
	wantError(t, a.Promote("00"), "no such root")

	ok(t, a.RenewIssuer())
	renewed := issue(t, a, web)
	if string(renewed.Issuer) == string(after.Issuer) || !trusted(t, a, renewed, time.Now()) || !trusted(t, a, after, time.Now()) {
		t.Error("a new issuer below the same root changes nothing but the issuer")
	}
}

func TestSupersededRootLosesItsKey(t *testing.T) {
	dir := t.TempDir()
	a := open(t, identity.AuthorityConfig{Dir: dir})
	id, err := a.AddRoot()
	ok(t, err)
	keys := func() int {
		data, err := os.ReadFile(filepath.Join(dir, "authority.json"))
		ok(t, err)
		return strings.Count(string(data), "BEGIN PRIVATE KEY")
	}
	if keys() != 3 {
		t.Errorf("%d keys, want two roots' and the issuer's", keys())
	}
	ok(t, a.Promote(id))
	if keys() != 2 {
		t.Errorf("%d keys, want the new root's and the issuer's", keys())
	}
}

func TestAnAuthorityThatWasOffMakesANewIssuer(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	clock := func() time.Time { return now }
	a := open(t, identity.AuthorityConfig{Dir: dir, Now: clock})
	old, _ := a.Trust()
	now = now.Add(31 * 24 * time.Hour)
	a = open(t, identity.AuthorityConfig{Dir: dir, Now: clock})
	is, _ := a.Trust()
	if string(is.Issuer) == string(old.Issuer) || is.Version != old.Version+1 || !trusted(t, a, issue(t, a, web), now) {
		t.Error("the expired issuer is still in use")
	}
}

func TestAGivenAuthority(t *testing.T) {
	dir := t.TempDir()
	g := give(t, t.TempDir())
	a := open(t, identity.AuthorityConfig{Dir: dir, Given: g})
	c := issue(t, a, web)
	if !trusted(t, a, c, time.Now()) || len(c.Chain) != 1 {
		t.Errorf("a root that signs leaves itself: chain of %d", len(c.Chain))
	}
	for _, err := range []error{a.RenewIssuer(), a.Promote("00"), a.Retire("00"), addRoot(a)} {
		if !errors.Is(err, identity.ErrGiven) {
			t.Errorf("got %v, want %v", err, identity.ErrGiven)
		}
	}
	was, _ := a.Trust()
	same, _ := open(t, identity.AuthorityConfig{Dir: dir, Given: g}).Trust()
	other, _ := open(t, identity.AuthorityConfig{Dir: dir, Given: give(t, t.TempDir())}).Trust()
	if same.Version != was.Version || other.Version != was.Version+1 {
		t.Errorf("versions %d, %d with the same files, %d with others", was.Version, same.Version, other.Version)
	}
	_, err := identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain, Dir: dir})
	wantError(t, err, "given by files before")
	stored, err := os.ReadFile(filepath.Join(dir, "authority.json"))
	ok(t, err)
	if strings.Contains(string(stored), "PRIVATE") {
		t.Error("a given key was copied")
	}

	ok(t, os.Chmod(g.KeyFile, 0o640))
	_, err = identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain, Given: g})
	wantError(t, err, "chmod 600")
	mixed := *g
	mixed.KeyFile = give(t, t.TempDir()).KeyFile
	_, err = identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain, Given: &mixed})
	wantError(t, err, "not that of the first certificate")
}

func addRoot(a *identity.Authority) error { _, err := a.AddRoot(); return err }

// give writes somebody's root into dir.
func give(t *testing.T, dir string) *identity.Given {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "somebody's root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(t, err)
	g := &identity.Given{CertFile: filepath.Join(dir, "ca.pem"), KeyFile: filepath.Join(dir, "ca.key")}
	ok(t, os.WriteFile(g.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.WriteFile(g.KeyFile, ecPEM(t, key), 0o600))
	return g
}

func ecPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key) // as openssl ecparam writes it
	ok(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
