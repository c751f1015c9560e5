package kube

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// What a TokenReview says of a token that is bound to a pod.
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"

	userPrefix = "system:serviceaccount:"
)

// Bounds.
const (
	maxToken   = 16 << 10
	inFlight   = 64
	reviewTime = 10 * time.Second
)

// TokensConfig says which tokens are accepted.
type TokensConfig struct {
	Client      kubernetes.Interface
	TrustDomain string
	// InFlight is how many tokens are asked about at a time; 0 is 64. Over it requests wait, for as long
	// as their callers do.
	InFlight int
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
}

// Tokens is the identity.TokenValidator of a cluster: the API server says whom a token proves. Nothing
// is remembered of a token, so one whose pod is gone is refused at once; pods ask once in a lifetime.
type Tokens struct {
	cfg   TokensConfig
	slots chan struct{}
}

// NewTokens returns a validator.
func NewTokens(cfg TokensConfig) *Tokens {
	if cfg.InFlight == 0 {
		cfg.InFlight = inFlight
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Tokens{cfg: cfg, slots: make(chan struct{}, cfg.InFlight)}
}

// Validate implements identity.TokenValidator.
func (t *Tokens) Validate(ctx context.Context, token string) (identity.Grant, error) {
	expires, err := t.glance(token)
	if err != nil {
		return identity.Grant{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return identity.Grant{}, certify.Refuse(certify.Busy, "%d tokens are asked about already", cap(t.slots))
	}
	r, err := t.cfg.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return identity.Grant{}, fmt.Errorf("token review: %w", err)
	}
	g, err := t.grant(&r.Status)
	g.Expires = expires
	return g, err
}

// glance reads what a token says of itself, for a better reason than the API server gives and to spare
// it what cannot be. Nothing of it is believed.
func (t *Tokens) glance(token string) (expires time.Time, err error) {
	if len(token) > maxToken {
		return expires, certify.Refuse(certify.BadToken, "%d bytes, want at most %d", len(token), maxToken)
	}
	var c jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		return expires, certify.Refuse(certify.BadToken, "not a service account token: %v", errors.Unwrap(err))
	}
	if c.ExpiresAt != nil {
		expires = c.ExpiresAt.Time
	}
	switch now := t.cfg.Now(); {
	case !slices.Contains(c.Audience, Audience):
		return expires, certify.Refuse(certify.WrongAudience, "the token is for %q, want %q", c.Audience, Audience)
	case !expires.IsZero() && now.After(expires):
		return expires, certify.Refuse(certify.ExpiredToken, "it expired at %s", expires.UTC().Format(time.RFC3339))
	}
	return expires, nil
}

// grant reads the API server's answer.
func (t *Tokens) grant(s *authenticationv1.TokenReviewStatus) (identity.Grant, error) {
	none := identity.Grant{}
	if !s.Authenticated {
		return none, certify.Refuse(certify.BadToken, "the API server does not accept it: %s", s.Error)
	}
	// An API server that knows no audiences leaves them out, and would have accepted any token.
	if !slices.Contains(s.Audiences, Audience) {
		return none, certify.Refuse(certify.WrongAudience, "the API server accepts it for %q, want %q", s.Audiences, Audience)
	}
	ns, account, ok := strings.Cut(strings.TrimPrefix(s.User.Username, userPrefix), ":")
	if !ok || !strings.HasPrefix(s.User.Username, userPrefix) {
		return none, certify.Refuse(certify.BadToken, "%q is no service account", s.User.Username)
	}
	pod, uid := only(s.User.Extra[extraPodName]), only(s.User.Extra[extraPodUID])
	if pod == "" || uid == "" {
		return none, certify.Refuse(certify.BadToken, "it is not bound to a pod: project it with a serviceAccountToken volume")
	}
	id, err := mesh.ParseIdentity(string(mesh.NewIdentity(t.cfg.TrustDomain, ns, account)))
	if err != nil {
		return none, certify.Refuse(certify.BadToken, "%v", err)
	}
	return identity.Grant{Identity: id, Workload: ns + "/" + pod, ID: uid}, nil
}

func only(v authenticationv1.ExtraValue) string {
	if len(v) != 1 {
		return ""
	}
	return v[0]
}

// Redeem implements identity.TokenValidator: a token may be used while its pod lives.
func (*Tokens) Redeem(context.Context, identity.Grant, [sha256.Size]byte) error { return nil }
