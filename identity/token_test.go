package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tulle-mesh/tulle/internal/certify"
)

func openTokens(t testing.TB, cfg JoinConfig) *JoinTokens {
	t.Helper()
	cfg.TrustDomain = testDomain
	j, err := OpenJoinTokens(cfg)
	nothing(t, err)
	t.Cleanup(func() { nothing(t, j.Close()) })
	return j
}

func mint(t testing.TB, j *JoinTokens) string {
	t.Helper()
	token, err := j.Mint(Join{Namespace: "shop", Name: "web-1", Account: "web"})
	nothing(t, err)
	return token
}

func reason(err error) certify.Reason {
	if r, ok := errors.AsType[*certify.Refusal](err); ok {
		return r.Reason
	}
	return certify.Unspecified
}

func keyNumber(n byte) [sha256.Size]byte { return [sha256.Size]byte{n} }

func TestAJoinTokenSaysWhoAWorkloadIs(t *testing.T) {
	j := openTokens(t, JoinConfig{})
	g, err := j.Validate(t.Context(), mint(t, j))
	nothing(t, err)
	if g.Identity != testWeb || g.Workload != "shop/web-1" || g.ID == "" {
		t.Errorf("got %+v", g)
	}
	if d := time.Until(g.Expires); d > time.Hour || d < 59*time.Minute {
		t.Errorf("expires in %s, want 1h", d)
	}
}

// A control plane that starts for the first time and somebody who mints a token at that moment have one
// key, whoever made it.
func TestThereIsOneJoinKey(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		var all sync.WaitGroup
		got := make([]*Minter, 8)
		for i := range got {
			all.Go(func() { // ends by itself
				m, err := OpenMinter(dir, testDomain, nil)
				if err != nil {
					t.Error(err)
					return
				}
				got[i] = m
			})
		}
		all.Wait()
		for _, m := range got {
			if m == nil || !m.key.Equal(got[0].key) {
				t.Fatal("another key")
			}
		}
	}
}

func TestTokensThatAreNotMade(t *testing.T) {
	j := openTokens(t, JoinConfig{})
	for _, join := range []Join{
		{Namespace: "Shop", Name: "web-1", Account: "web"},
		{Namespace: "shop", Name: "web-1"},
		{Namespace: "shop", Account: "web"},
		{Namespace: "shop", Name: "web-1", Account: "web", Lifetime: 25 * time.Hour},
		{Namespace: "shop", Name: "web-1", Account: "web", Lifetime: -time.Second},
	} {
		if _, err := j.Mint(join); err == nil {
			t.Errorf("%+v was made", join)
		}
	}
}

// claims are those of a good token, to be spoilt.
func claims() joinClaims {
	now := time.Now()
	return joinClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: testDomain, Subject: string(testWeb), Audience: jwt.ClaimStrings{Audience}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
		},
		Workload: workloadClaim{"shop", "web-1"},
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	j := openTokens(t, JoinConfig{})
	spoilt := func(spoil func(*joinClaims)) string {
		c := claims()
		spoil(&c)
		token, err := j.sign(c)
		nothing(t, err)
		return token
	}
	date := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	good := mint(t, j)
	parts := strings.Split(good, ".")
	foreign := openTokens(t, JoinConfig{})

	for _, tc := range []struct {
		name, token string
		want        certify.Reason
	}{
		{"no token at all", "hello", certify.BadToken},
		{"too long", strings.Repeat("a", maxToken+1), certify.BadToken},
		{"another authority's", mint(t, foreign), certify.BadToken},
		{"no signature", parts[0] + "." + parts[1] + ".", certify.BadToken},
		{"changed", parts[0] + "." + parts[1][:len(parts[1])-2] + "AA." + parts[2], certify.BadToken},
		{"alg none", unsigned(t, j), certify.BadToken},
		{"the public key as an HMAC secret", confused(t, j), certify.BadToken},
		{"our key, but no join token", untyped(t, j), certify.BadToken},
		{"expired", spoilt(func(c *joinClaims) { c.ExpiresAt = date(-2 * time.Minute) }), certify.ExpiredToken},
		{"not valid yet", spoilt(func(c *joinClaims) { c.NotBefore = date(2 * time.Minute) }), certify.ExpiredToken},
		{"made in the future", spoilt(func(c *joinClaims) { c.IssuedAt = date(2 * time.Minute) }), certify.ExpiredToken},
		{"never expires", spoilt(func(c *joinClaims) { c.ExpiresAt = nil }), certify.BadToken},
		{"lives too long", spoilt(func(c *joinClaims) { c.ExpiresAt = date(25 * time.Hour) }), certify.BadToken},
		{"no time of making", spoilt(func(c *joinClaims) { c.IssuedAt = nil }), certify.BadToken},
		{"for somebody else", spoilt(func(c *joinClaims) { c.Audience = jwt.ClaimStrings{"kubernetes"} }), certify.WrongAudience},
		{"for nobody", spoilt(func(c *joinClaims) { c.Audience = nil }), certify.BadToken},
		{"another issuer", spoilt(func(c *joinClaims) { c.Issuer = "other.test" }), certify.BadToken},
		{"another trust domain", spoilt(func(c *joinClaims) { c.Subject = "spiffe://other.test/ns/shop/sa/web" }), certify.BadToken},
		{"no identity", spoilt(func(c *joinClaims) { c.Subject = "web" }), certify.BadToken},
		{"a workload of another namespace", spoilt(func(c *joinClaims) { c.Workload.Namespace = "bank" }), certify.BadToken},
		{"no workload", spoilt(func(c *joinClaims) { c.Workload = workloadClaim{} }), certify.BadToken},
		{"no id", spoilt(func(c *joinClaims) { c.ID = "" }), certify.BadToken},
		{"an id with a line end", spoilt(func(c *joinClaims) { c.ID = "0123456789abcdef\n9 x y" }), certify.BadToken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := j.Validate(t.Context(), tc.token); reason(err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func unsigned(t *testing.T, j *JoinTokens) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodNone, claims())
	tok.Header["typ"], tok.Header["kid"] = joinTokenTyp, j.kid
	s, err := tok.SignedString(jwt.UnsafeAllowNoneSignatureType)
	nothing(t, err)
	return s
}

func confused(t *testing.T, j *JoinTokens) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodHS256, claims())
	tok.Header["typ"], tok.Header["kid"] = joinTokenTyp, j.kid
	pub, err := j.key.PublicKey.Bytes()
	nothing(t, err)
	s, err := tok.SignedString(pub)
	nothing(t, err)
	return s
}

func untyped(t *testing.T, j *JoinTokens) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, claims())
	tok.Header["kid"] = j.kid
	s, err := tok.SignedString(j.key)
	nothing(t, err)
	return s
}

func TestAUsedTokenIsRememberedOverARestart(t *testing.T) {
	dir := t.TempDir()
	first := openTokens(t, JoinConfig{Dir: dir})
	g, err := first.Validate(t.Context(), mint(t, first))
	nothing(t, err)
	nothing(t, first.Redeem(t.Context(), g, keyNumber(1)))
	// The process dies here, in the middle of the next line.
	f, err := os.OpenFile(filepath.Join(dir, usedFile), os.O_APPEND|os.O_WRONLY, 0o600)
	nothing(t, err)
	_, err = f.WriteString("1234 tor")
	nothing(t, errors.Join(err, f.Close()))

	for range 2 {
		again := openTokens(t, JoinConfig{Dir: dir})
		nothing(t, again.Redeem(t.Context(), g, keyNumber(1)))
		if err := again.Redeem(t.Context(), g, keyNumber(2)); reason(err) != certify.ReusedToken {
			t.Errorf("got %v, want it refused", err)
		}
		other, err := again.Validate(t.Context(), mint(t, again))
		nothing(t, err)
		nothing(t, again.Redeem(t.Context(), other, keyNumber(2)))
	}
}

func TestUsedTokensAreForgottenWhenTheyExpire(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	j := openTokens(t, JoinConfig{Dir: dir, Remember: 3, Now: func() time.Time { return now }})
	use := func() error {
		g, err := j.Validate(t.Context(), mint(t, j))
		nothing(t, err)
		return j.Redeem(t.Context(), g, keyNumber(1))
	}
	for range 3 {
		nothing(t, use())
	}
	if err := use(); reason(err) != certify.Busy {
		t.Errorf("got %v, want busy: a used token is never forgotten before it expires", err)
	}
	now = now.Add(time.Hour + tokenLeeway + 2*time.Second)
	nothing(t, use())
	if n := len(j.used.used); n != 1 {
		t.Errorf("%d remembered, want 1", n)
	}
}

func TestTheFileOfUsedTokensStaysSmall(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	j := openTokens(t, JoinConfig{Dir: dir, Remember: 10, Now: func() time.Time { return now }})
	for i := range 1500 {
		nothing(t, j.used.redeem(fmt.Sprintf("token-number-%06d", i), now.Add(time.Minute), keyNumber(1)))
		now = now.Add(10 * time.Second)
	}
	data, err := os.ReadFile(filepath.Join(dir, usedFile))
	nothing(t, err)
	if lines := strings.Count(string(data), "\n"); lines > 1100 {
		t.Errorf("%d lines for at most 10 tokens", lines)
	}
}

func TestAUseThatCannotBeKeptIsNoUse(t *testing.T) {
	j := openTokens(t, JoinConfig{Dir: t.TempDir()})
	g, err := j.Validate(t.Context(), mint(t, j))
	nothing(t, err)
	nothing(t, j.used.file.Close()) // as a disk that fails
	if j.Redeem(t.Context(), g, keyNumber(1)) == nil {
		t.Fatal("it was redeemed without being kept")
	}
	nothing(t, j.Redeem(t.Context(), g, keyNumber(2))) // the file is opened again
}

// FuzzToken holds that nothing is accepted but what the key signed, whatever is changed.
func FuzzToken(f *testing.F) {
	j := openTokens(f, JoinConfig{})
	good := mint(f, j)
	f.Add(good)
	f.Add("e30.e30.")
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Fuzz(func(t *testing.T, token string) {
		g, err := j.Validate(t.Context(), token)
		if err != nil {
			if reason(err) == certify.Unspecified {
				t.Fatalf("%v says no reason", err)
			}
			return
		}
		if !signedBy(&j.key.PublicKey, token) || g.Identity.TrustDomain() != testDomain || !validTokenID(g.ID) {
			t.Fatalf("accepted %q as %+v", token, g)
		}
	})
}

// signedBy verifies a signature without the library.
func signedBy(key *ecdsa.PublicKey, token string) bool {
	i := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || len(sig) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(token[:i]))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]) // RFC 7518, 3.4
	return ecdsa.Verify(key, sum[:], r, s)
}
