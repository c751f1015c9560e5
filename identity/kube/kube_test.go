package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil //nolint:reassign // they sleep by the clock of another bubble
	leak.Main(m)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// apiServer is a fake that refuses an update of what has changed, as an API server does.
func apiServer() *fake.Clientset {
	c := fake.NewClientset()
	var mu sync.Mutex
	versions, last := map[string]string{}, 100
	guard := func(a k8stesting.Action) (bool, runtime.Object, error) {
		writes, isWrite := a.(k8stesting.UpdateAction) // a create is one, too
		if !isWrite {
			return false, nil, nil
		}
		m, update := writes.GetObject().(metav1.Object), a.GetVerb() == "update"
		key := a.GetResource().Resource + " " + a.GetNamespace() + "/" + m.GetName()
		mu.Lock()
		defer mu.Unlock()
		if update && m.GetResourceVersion() != "" && m.GetResourceVersion() != versions[key] {
			return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), m.GetName(), errors.New("it has changed"))
		}
		if _, there := versions[key]; there && !update {
			return false, nil, nil // the tracker says that it exists
		}
		last++
		versions[key] = strconv.Itoa(last)
		m.SetResourceVersion(versions[key])
		return false, nil, nil
	}
	apply := k8stesting.ObjectReaction(c.Tracker())
	c.PrependReactor("patch", "*", func(a k8stesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		_, o, err := apply(a)
		if err != nil {
			return true, nil, err
		}
		m := o.(metav1.Object)
		last++
		m.SetResourceVersion(strconv.Itoa(last))
		versions[a.GetResource().Resource+" "+a.GetNamespace()+"/"+m.GetName()] = m.GetResourceVersion()
		return true, o, c.Tracker().Update(a.GetResource(), o, a.GetNamespace())
	})
	c.PrependReactor("create", "*", guard)
	c.PrependReactor("update", "*", guard)
	return c
}

func share(t *testing.T, c *fake.Clientset) *identity.Authority {
	t.Helper()
	a, err := identity.OpenShared(identity.AuthorityConfig{TrustDomain: "cluster.local"}, NewSecrets(t.Context(), c, "tulle"))
	ok(t, err)
	return a
}

func secret(t *testing.T, c *fake.Clientset, name string) *corev1.Secret {
	t.Helper()
	s, err := c.CoreV1().Secrets("tulle").Get(t.Context(), name, metav1.GetOptions{})
	ok(t, err)
	return s
}

func TestReplicasThatStartTogetherKeepOneAuthorityInTwoSecrets(t *testing.T) {
	c := apiServer()
	all := make([]*identity.Authority, 4)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = share(t, c) })
	}
	wg.Wait()
	first, _ := all[0].Trust()
	for _, a := range all[1:] {
		if b, _ := a.Trust(); b.Version != first.Version || string(b.Issuer) != string(first.Issuer) || string(a.BundlePEM()) != string(all[0].BundlePEM()) {
			t.Error("replicas differ")
		}
	}
	for _, name := range []string{RootSecret, IssuerSecret} {
		s := secret(t, c, name)
		if s.Type != corev1.SecretTypeTLS || len(s.Data[corev1.TLSCertKey]) == 0 || len(s.Data[corev1.TLSPrivateKeyKey]) == 0 || s.Labels[managedLabel] != ManagedBy {
			t.Errorf("Secret %s: %v", name, s.Labels)
		}
	}
	if string(secret(t, c, RootSecret).Data[corev1.TLSCertKey]) != string(all[0].BundlePEM()) {
		t.Error("the root's Secret does not hold the root")
	}
}

func TestAChangeIsKeptAndAnotherReplicaReadsIt(t *testing.T) { // R10.3
	c := apiServer()
	a := share(t, c)
	id, err := a.AddRoot()
	ok(t, err)
	ok(t, a.Promote(id))
	b := share(t, c)
	if r := b.Roots(); len(r) != 2 || r[1].ID != id || r[1].Promoted.IsZero() || r[0].Superseded.IsZero() {
		t.Errorf("roots: %+v", r)
	}
	x, _ := a.Trust()
	y, _ := b.Trust()
	if x.Version != y.Version || string(x.Issuer) != string(y.Issuer) {
		t.Errorf("version %d, and %d", x.Version, y.Version)
	}
}

func TestAWriteOfWhatHasChangedIsAConflict(t *testing.T) {
	c := apiServer()
	a := share(t, c)
	s := NewSecrets(t.Context(), c, "tulle")
	read, err := s.Read()
	ok(t, err)
	ok(t, a.RenewIssuer())
	next := read
	next.Issuer, next.IssuerVersion = append([]byte("other "), read.Issuer...), read.IssuerVersion+1
	if err := s.Write(read, next); !errors.Is(err, identity.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}

// An API server that is away is no reason to make an authority anew, nor to give up.
func TestAnAPIServerThatIsAwayIsNoMissingAuthority(t *testing.T) {
	c := apiServer()
	share(t, c)
	c.PrependReactor("get", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	_, err := identity.OpenShared(identity.AuthorityConfig{TrustDomain: "cluster.local"}, NewSecrets(t.Context(), c, "tulle"))
	if !errors.Is(err, identity.ErrAway) {
		t.Errorf("error %v", err)
	}
}

func TestAnOperatorsWishForARootIsSeenAndTakenBack(t *testing.T) {
	c := apiServer()
	a := share(t, c)
	c.ClearActions()
	ok(t, AskForRoot(t.Context(), c, "tulle", time.Now()))
	for _, action := range c.Actions() {
		if verb := action.GetVerb(); verb != "get" && verb != "update" {
			t.Errorf("it is asked for by %s, which identity's own account may not (charts/tulle, _access.tpl)", verb)
		}
	}
	s := NewSecrets(t.Context(), c, "tulle")
	if k, err := s.Read(); err != nil || !k.Rotate {
		t.Fatalf("it is not seen: %v", err)
	}
	ok(t, a.RenewIssuer()) // another change does not fulfil it
	if k, _ := s.Read(); !k.Rotate {
		t.Error("it was taken back without a new root")
	}
	_, err := a.AddRoot()
	ok(t, err)
	if k, _ := s.Read(); k.Rotate {
		t.Error("it stands though the root came")
	}
}

// An issuer that somebody else keeps in the Secret (cert-manager) is used as it is, and never written.
func TestAForeignIssuerSecretIsUsedAndNotWritten(t *testing.T) {
	maker := apiServer()
	share(t, maker)
	root, issuer := secret(t, maker, RootSecret), secret(t, maker, IssuerSecret)
	c := apiServer()
	given := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: IssuerSecret, Namespace: "tulle"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey: issuer.Data[corev1.TLSCertKey], corev1.TLSPrivateKeyKey: issuer.Data[corev1.TLSPrivateKeyKey],
			caKey: root.Data[corev1.TLSCertKey],
		},
	}
	_, err := c.CoreV1().Secrets("tulle").Create(t.Context(), given, metav1.CreateOptions{})
	ok(t, err)
	a := share(t, c)
	if string(a.BundlePEM()) != string(root.Data[corev1.TLSCertKey]) {
		t.Error("the bundle is not the root that came with it")
	}
	if err := a.RenewIssuer(); !errors.Is(err, identity.ErrGiven) {
		t.Errorf("renewing it: %v", err)
	}
	if err := AskForRoot(t.Context(), c, "tulle", time.Now()); err == nil {
		t.Error("a root of ours is asked for beside a given issuer")
	}
	for _, action := range c.Actions() {
		if action.GetVerb() == "update" {
			t.Errorf("it was written: %v", action)
		}
	}
}

// token is an unsigned service account token; the fake API server signs nothing.
func token(audience string, expires time.Time) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(`{"alg":"RS256"}`)) + "." + b64(fmt.Appendf(nil, `{"aud":[%q],"exp":%d}`, audience, expires.Unix())) + "." + b64([]byte("x"))
}

func bound(user string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{Audience},
		User: authenticationv1.UserInfo{Username: user, Extra: map[string]authenticationv1.ExtraValue{
			extraPodName: {"web-1"}, extraPodUID: {"3f1c"},
		}},
	}
}

func TestTokensSayWhomTheyProveOrWhyNot(t *testing.T) {
	const user = "system:serviceaccount:shop:web"
	good := bound(user)
	unbound, deaf := good, good
	unbound.User.Extra = nil
	deaf.Audiences = nil
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		token  string
		status authenticationv1.TokenReviewStatus
		reason certify.Reason
		asked  bool
	}{
		"good":                               {token(Audience, later), good, certify.Unspecified, true},
		"no token at all":                    {"hello", good, certify.BadToken, false},
		"far too long":                       {string(make([]byte, maxToken+1)), good, certify.BadToken, false},
		"for somebody else":                  {token("vault", later), good, certify.WrongAudience, false},
		"expired":                            {token(Audience, time.Now().Add(-time.Minute)), good, certify.ExpiredToken, false},
		"forged, or its pod is gone":         {token(Audience, later), authenticationv1.TokenReviewStatus{Error: "invalid"}, certify.BadToken, true},
		"an API server without the audience": {token(Audience, later), deaf, certify.WrongAudience, true},
		"not bound to a pod":                 {token(Audience, later), unbound, certify.BadToken, true},
		"a person's":                         {token(Audience, later), bound("alice"), certify.BadToken, true},
		"of no identity":                     {token(Audience, later), bound("system:serviceaccount:Shop:web"), certify.BadToken, true},
	} {
		t.Run(name, func(t *testing.T) {
			api, asked := fake.NewClientset(), false
			api.PrependReactor("create", "tokenreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
				r := a.(k8stesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
				asked = r.Spec.Token == c.token && len(r.Spec.Audiences) == 1 && r.Spec.Audiences[0] == Audience
				return true, &authenticationv1.TokenReview{Status: c.status}, nil
			})
			g, err := NewTokens(TokensConfig{Client: api, TrustDomain: "cluster.local"}).Validate(t.Context(), c.token)
			if asked != c.asked {
				t.Errorf("the API server was asked: %v", asked)
			}
			refusal, refused := errors.AsType[*certify.Refusal](err)
			switch {
			case c.reason == certify.Unspecified:
				if err != nil || g.Identity != "spiffe://cluster.local/ns/shop/sa/web" || g.Workload != "shop/web-1" || g.ID != "3f1c" {
					t.Errorf("grant %+v, error %v", g, err)
				}
			case !refused || refusal.Reason != c.reason || refusal.Detail == "":
				t.Errorf("error %v, want %s", err, c.reason)
			}
		})
	}
}

// An API server that is away is nobody's fault: no refusal of the token, which would make its owner give up.
func TestAnAPIServerThatIsAwayRefusesNoToken(t *testing.T) {
	api := fake.NewClientset()
	api.PrependReactor("create", "tokenreviews", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	_, err := NewTokens(TokensConfig{Client: api}).Validate(t.Context(), token(Audience, time.Now().Add(time.Hour)))
	if _, refused := errors.AsType[*certify.Refusal](err); err == nil || refused {
		t.Errorf("error %v", err)
	}
}

func TestTokensAreAskedAboutAFewAtATime(t *testing.T) {
	api, hold, begun := fake.NewClientset(), make(chan struct{}), make(chan struct{}, 8)
	api.PrependReactor("create", "tokenreviews", func(k8stesting.Action) (bool, runtime.Object, error) {
		begun <- struct{}{}
		<-hold
		return true, &authenticationv1.TokenReview{Status: bound("system:serviceaccount:shop:web")}, nil
	})
	tokens := NewTokens(TokensConfig{Client: api, TrustDomain: "cluster.local", InFlight: 1})
	text := token(Audience, time.Now().Add(time.Hour))
	first := make(chan error, 1)
	go func() { // ends with its answer, which is waited for
		_, err := tokens.Validate(t.Context(), text)
		first <- err
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := tokens.Validate(ctx, text)
	if r, refused := errors.AsType[*certify.Refusal](err); !refused || r.Reason != certify.Busy {
		t.Errorf("over the bound: %v, want busy", err)
	}
	close(hold)
	ok(t, <-first)
}
