package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// TokenValidator says whom a token proves. Its errors are *certify.Refusal where the token is at
// fault.
type TokenValidator interface {
	// Validate checks a token and changes nothing.
	Validate(ctx context.Context, token string) (Grant, error)
	// Redeem is called once everything else about a request has been found good, with the hash of
	// the key that is to be certified. Only tokens that may be used once have something to do.
	Redeem(ctx context.Context, g Grant, key [sha256.Size]byte) error
}

// Grant is what a token proves.
type Grant struct {
	Identity mesh.Identity
	// Workload is "namespace/name", for logs.
	Workload string
	// ID and Expires are the token's own.
	ID      string
	Expires time.Time
}

// Join tokens: ES256 (RFC 7518, 3.4) by a key that is kept beside the authority, asymmetric so that
// whoever checks tokens cannot make them.
const (
	// Audience is what a join token must be made for.
	Audience     = "tulle"
	joinKeyFile  = "join-key.pem"
	joinTokenTyp = "tulle-join+jwt" // RFC 8725, 3.11: no other token of the same key is one of these
	maxToken     = 4 << 10
	// MaxTokenLifetime bounds how long a used token has to be remembered.
	MaxTokenLifetime = 24 * time.Hour
	// tokenLeeway is how far the clock of whoever made a token may be off.
	tokenLeeway = time.Minute
)

type joinClaims struct {
	jwt.RegisteredClaims // subject: the SPIFFE ID

	Workload workloadClaim `json:"workload"`
}

type workloadClaim struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Minter makes join tokens.
type Minter struct {
	trustDomain string
	key         *ecdsa.PrivateKey
	now         func() time.Time
}

// OpenMinter uses the key of dir (an AuthorityConfig.Dir), and makes one where there is none. With an
// empty dir the key lasts as long as the Minter. A nil now is time.Now.
func OpenMinter(dir, trustDomain string, now func() time.Time) (*Minter, error) {
	if now == nil {
		now = time.Now
	}
	key, err := joinKey(dir)
	if err != nil {
		return nil, fmt.Errorf("key of join tokens: %w", err)
	}
	return &Minter{trustDomain: trustDomain, key: key, now: now}, nil
}

func joinKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, joinKeyFile)
	if dir != "" {
		data, err := readPrivate(path)
		if err == nil {
			return parseECKeyPEM(data)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil || dir == "" {
		return key, err
	}
	data, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := writeFirst(path, []byte(data)); !errors.Is(err, fs.ErrExist) {
		return key, err
	}
	theirs, err := readPrivate(path) // somebody else was faster: there is one key
	if err != nil {
		return nil, err
	}
	return parseECKeyPEM(theirs)
}

// Join says for whom a token is.
type Join struct {
	// Namespace and Name are the workload, Account its service account.
	Namespace, Name, Account string
	// Lifetime is how long the token may be used; 0 is an hour, the most is MaxTokenLifetime.
	Lifetime time.Duration
}

// Mint makes a token for one use.
func (m *Minter) Mint(j Join) (string, error) {
	id, err := mesh.ParseIdentity(string(mesh.NewIdentity(m.trustDomain, j.Namespace, j.Account)))
	if err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	if j.Name == "" {
		return "", errors.New("join token: the workload has no name")
	}
	lifetime := orDefault(j.Lifetime, time.Hour)
	if lifetime < 0 || lifetime > MaxTokenLifetime {
		return "", fmt.Errorf("join token: a lifetime of %s, want at most %s", lifetime, MaxTokenLifetime)
	}
	now := m.now()
	return m.sign(joinClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    m.trustDomain,
			Subject:   string(id),
			Audience:  jwt.ClaimStrings{Audience},
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
			ID:        rand.Text(),
		},
		Workload: workloadClaim{j.Namespace, j.Name},
	})
}

func (m *Minter) sign(c joinClaims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	t.Header["typ"], t.Header["kid"] = joinTokenTyp, keyID(&m.key.PublicKey)
	return t.SignedString(m.key)
}

// keyID names a key, so that two can be in use one day.
func keyID(k *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		panic("BUG: a P-256 key has no encoding: " + err.Error())
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// JoinConfig says which join tokens are accepted.
type JoinConfig struct {
	// Dir keeps the key and the tokens that were used (an AuthorityConfig.Dir); empty: in memory.
	Dir         string
	TrustDomain string
	// Remember is how many used tokens are remembered; 0 is 100,000. Over it new ones are refused.
	Remember int
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
}

// JoinTokens is the TokenValidator of a mesh without a cluster. A token belongs to the first key that
// it was redeemed for: the same key may come again (its answer may have been lost), no other one may.
type JoinTokens struct {
	*Minter

	kid    string
	parser *jwt.Parser
	used   *usedTokens
}

// OpenJoinTokens loads the key and the used tokens of cfg.Dir. The caller closes.
func OpenJoinTokens(cfg JoinConfig) (*JoinTokens, error) {
	m, err := OpenMinter(cfg.Dir, cfg.TrustDomain, cfg.Now)
	if err != nil {
		return nil, err
	}
	used, err := openUsed(cfg, m.now)
	if err != nil {
		return nil, fmt.Errorf("used join tokens: %w", err)
	}
	return &JoinTokens{
		Minter: m,
		kid:    keyID(&m.key.PublicKey),
		used:   used,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithStrictDecoding(),
			jwt.WithTimeFunc(m.now), jwt.WithLeeway(tokenLeeway), jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithIssuer(cfg.TrustDomain), jwt.WithAudience(Audience),
		),
	}, nil
}

// Close ends the use of cfg.Dir.
func (j *JoinTokens) Close() error { return j.used.close() }

// Validate implements TokenValidator.
func (j *JoinTokens) Validate(_ context.Context, token string) (Grant, error) {
	if len(token) > maxToken {
		return Grant{}, certify.Refuse(certify.BadToken, "%d bytes, want at most %d", len(token), maxToken)
	}
	var c joinClaims
	if _, err := j.parser.ParseWithClaims(token, &c, j.keyOf); err != nil {
		return Grant{}, certify.Refuse(tokenReason(err), "%v", err)
	}
	if err := j.check(&c); err != nil {
		return Grant{}, certify.Refuse(certify.BadToken, "%v", err)
	}
	return Grant{
		Identity: mesh.Identity(c.Subject), Workload: c.Workload.Namespace + "/" + c.Workload.Name,
		ID: c.ID, Expires: c.ExpiresAt.Time,
	}, nil
}

func (j *JoinTokens) keyOf(t *jwt.Token) (any, error) {
	if t.Header["typ"] != joinTokenTyp || t.Header["kid"] != j.kid {
		return nil, errors.New("not a join token of this authority")
	}
	return &j.key.PublicKey, nil
}

// tokenReason tells the refusals apart. A signature is judged before any claim is.
func tokenReason(err error) certify.Reason {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed), errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return certify.BadToken
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return certify.WrongAudience
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return certify.ExpiredToken
	default:
		return certify.BadToken
	}
}

// check holds the claims to what Mint writes; our own key signed them, so this guards against
// another version's habits and against mistakes.
func (j *JoinTokens) check(c *joinClaims) error {
	id, err := mesh.ParseIdentity(c.Subject)
	if err != nil {
		return err
	}
	switch {
	case id.TrustDomain() != j.trustDomain:
		return fmt.Errorf("%s is not of the trust domain %s", id, j.trustDomain)
	case id.Namespace() != c.Workload.Namespace || c.Workload.Name == "":
		return fmt.Errorf("the workload %s/%s cannot be %s", c.Workload.Namespace, c.Workload.Name, id)
	case c.IssuedAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > MaxTokenLifetime:
		return fmt.Errorf("a lifetime of more than %s", MaxTokenLifetime)
	case !validTokenID(c.ID):
		return errors.New("the token's id is not one that Tulle makes")
	}
	return nil
}

// Redeem implements TokenValidator.
func (j *JoinTokens) Redeem(_ context.Context, g Grant, key [sha256.Size]byte) error {
	return j.used.redeem(g.ID, g.Expires.Add(tokenLeeway), key)
}
