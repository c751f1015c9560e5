package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/identity/identitytest"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	trustDomain = "tulle.test"
	web         = mesh.Identity("spiffe://tulle.test/ns/shop/sa/web")
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a client that runs against a fake within a bubble of synctest.
type rig struct {
	*Client

	fake  *identitytest.Fake
	creds *mtls.Credentials
	reg   *prometheus.Registry
	log   *zap.Logger
	logs  *observer.ObservedLogs
	spoil atomic.Pointer[answer] // nil: the fake's own
	dir   string
	token atomic.Pointer[string] // "" is none
	seed  uint64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	r := &rig{
		fake: identitytest.New(trustDomain, nil), creds: mtls.NewCredentials(time.Now),
		reg: prometheus.NewPedanticRegistry(), log: zap.New(core), logs: logs, dir: t.TempDir(), seed: 1,
	}
	r.newToken()
	ok(t, r.fake.WriteBundle(r.dir))
	return r
}

// start makes the client and runs it until the test ends.
func (r *rig) start(t *testing.T) {
	t.Helper()
	var err error
	r.Client, err = New(Config{
		Identity: web, Workload: "shop/web-1", Token: r.readToken,
		BundleDir: r.dir, Service: spoiling{r.fake, &r.spoil}, Sink: r.creds, Registerer: r.reg,
		Rand: rand.New(rand.NewPCG(r.seed, 0)), Log: r.log,
	})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		ok(t, <-done)
	})
	synctest.Wait()
}

func (r *rig) newToken() {
	t := r.fake.Token(web)
	r.token.Store(&t)
}

func (r *rig) readToken() (string, error) { return *r.token.Load(), nil }

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) //house:sleep called within a bubble of synctest alone
	synctest.Wait()
}

func bubble(t *testing.T, f func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t)) })
}

func TestTheFirstCertificateComesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start(t)
		s := r.creds.Get()
		if !s.Ready() || s.Identity != web {
			t.Fatalf("the sink holds %q", s.Identity)
		}
		key := s.Leaf.PrivateKey.(*ecdsa.PrivateKey)
		if key.Curve.Params().Name != "P-256" {
			t.Errorf("R10.1: a key on %s", key.Curve.Params().Name)
		}
		select {
		case <-r.Certified():
		default:
			t.Error("nobody was told")
		}
		if st := r.State(); !st.Valid(time.Now()) || st.Degraded() != nil || st.TrustVersion != r.fake.Version() {
			t.Errorf("state %+v", st)
		}
		if r.fake.Acked() != r.fake.Version() {
			t.Error("the bundle was not acknowledged")
		}
	})
}

// R10.1: renewed at 70 % of its life, and not all at once.
func TestRenewalIsAtSeventyPercentAndSpread(t *testing.T) {
	var first, last time.Duration
	for seed := range uint64(40) {
		bubble(t, func(t *testing.T, r *rig) {
			r.seed = seed
			r.start(t)
			key := r.creds.Get().Leaf.PrivateKey
			begun := time.Now()
			for r.fake.Issued() == 1 {
				pass(time.Minute)
			}
			at := time.Since(begun)
			if share := at.Hours() / 24; share < 0.649 || share > 0.752 {
				t.Errorf("seed %d: renewed at %.3f of its life", seed, share)
			}
			if first == 0 || at < first {
				first = at
			}
			last = max(last, at)
			if key.(*ecdsa.PrivateKey).Equal(r.creds.Get().Leaf.PrivateKey) {
				t.Error("R10.1: the key was kept")
			}
		})
	}
	if spread := last - first; spread < 90*time.Minute {
		t.Errorf("40 proxies renew within %s, want them spread", spread)
	}
}

func TestRenewalsGoOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start(t)
		r.token.Store(new(string)) // a renewal wants none
		for range 14 * 24 {
			pass(time.Hour)
			if !r.State().Valid(time.Now()) || r.State().Degraded() != nil {
				t.Fatalf("after %s: %+v", time.Now(), r.State())
			}
		}
		if n := r.fake.Issued(); n < 18 || n > 22 {
			t.Errorf("%d certificates in two weeks, want about 20", n)
		}
	})
}

// R10.2: while identity is away the proxy serves on and says so; afterwards it recovers by itself.
func TestServesOnWhileIdentityIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start(t)
		before := r.fake.Requests()
		r.fake.Fail(errors.New("it is away"))
		pass(23 * time.Hour)
		st := r.State()
		if !st.Valid(time.Now()) {
			t.Error("R10.2: a valid certificate is not enough")
		}
		if st.Degraded() == nil || !strings.Contains(st.Degraded().Error(), "it is away") {
			t.Errorf("degraded: %v, want the cause", st.Degraded())
		}
		// From 0.7 of the day on, every 2.5 to 5 minutes.
		if n := r.fake.Requests() - before; n < 70 || n > 220 {
			t.Errorf("%d attempts in about 6 hours", n)
		}
		if n := r.logs.FilterMessage("certificate cannot be renewed").Len(); n != 1 {
			t.Errorf("%d lines in the log, want the change alone", n)
		}
		metric(t, r, "identity_degraded", 1)

		pass(2 * time.Hour)
		if r.State().Valid(time.Now()) {
			t.Error("the certificate has expired")
		}
		r.newToken()
		r.fake.Fail(nil)
		pass(30 * time.Second)
		if st := r.State(); !st.Valid(time.Now()) || st.Degraded() != nil {
			t.Errorf("after it is back: %+v", st)
		}
		if n := r.logs.FilterMessage("certificate renewed again").Len(); n != 1 {
			t.Errorf("%d lines in the log, want one", n)
		}
		metric(t, r, "identity_degraded", 0)
	})
}

func metric(t *testing.T, r *rig, name string, want float64) {
	t.Helper()
	families, err := r.reg.Gather()
	ok(t, err)
	for _, f := range families {
		if f.GetName() == name {
			if got := f.GetMetric()[0].GetGauge().GetValue(); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
			return
		}
	}
	t.Errorf("there is no %s", name)
}

// R10.2: a service that was away when a short-lived certificate was to be renewed, and is back a minute before its end,
// is asked in that minute. (Attempts were up to 5 min apart, however little was left.)
func TestAServiceThatIsBackIsAskedBeforeTheCertificateEnds(t *testing.T) {
	for seed := range uint64(20) {
		bubble(t, func(t *testing.T, r *rig) {
			r.seed = seed
			r.fake.SetLifetime(20 * time.Minute)
			r.start(t)
			end := r.State().NotAfter
			r.fake.Fail(errors.New("away"))
			pass(time.Until(end) - time.Minute)
			r.fake.Fail(nil)
			for time.Until(end) > 0 {
				pass(time.Second)
				if s := r.State(); !s.Valid(time.Now()) {
					t.Fatalf("seed %d: no valid certificate: %+v", seed, s)
				}
				if r.State().NotAfter.After(end) {
					return
				}
			}
			t.Errorf("seed %d: not renewed within a minute", seed)
		})
	}
}

func TestStartsBeforeIdentityDoes(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.fake.Fail(errors.New("connection refused"))
		r.start(t)
		pass(5 * time.Minute)
		if r.State().Certified || r.State().Degraded() == nil {
			t.Errorf("state %+v", r.State())
		}
		if n := r.fake.Requests(); n < 25 || n > 80 {
			t.Errorf("%d attempts in 5 minutes", n)
		}
		r.fake.Fail(nil)
		pass(backoffStart)
		if !r.State().Valid(time.Now()) {
			t.Error("it did not come up when identity did")
		}
	})
}

// A token belongs to the first key that it was used for: until an answer comes, the key stays.
func TestAnAnswerThatGotLostCostsNoToken(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		lost := &losing{Service: r.fake, lose: 3}
		c, err := New(Config{
			Identity: web, Token: r.readToken, BundleDir: r.dir, Service: lost, Sink: r.creds,
		})
		ok(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		pass(20 * time.Second)
		if !c.State().Certified {
			t.Errorf("state %+v", c.State())
		}
		cancel()
		ok(t, <-done)
	})
}

type losing struct {
	certify.Service

	lose int
}

func (l *losing) Certify(ctx context.Context, r certify.Request) (certify.Certificate, error) {
	c, err := l.Service.Certify(ctx, r)
	if l.lose--; l.lose >= 0 {
		return certify.Certificate{}, errors.New("the connection broke")
	}
	return c, err
}

// R10.1: when the issuer changes, every proxy renews within 10 % of the lifetime, spread.
func TestANewIssuerIsFollowedWithinATenthOfTheLifetime(t *testing.T) {
	var first, last time.Duration
	for seed := range uint64(40) {
		bubble(t, func(t *testing.T, r *rig) {
			r.seed = seed
			r.start(t)
			pass(time.Hour)
			r.fake.Rotate()
			synctest.Wait()
			changed := time.Now()
			if n := r.creds.Get().Bundle.Len(); n != 2 {
				t.Errorf("R10.3: %d roots are accepted, want both at once", n)
			}
			for r.fake.Issued() == 1 {
				pass(time.Minute)
			}
			d := time.Since(changed)
			if d > 24*time.Hour/10+time.Minute {
				t.Errorf("seed %d: renewed after %s", seed, d)
			}
			if first == 0 || d < first {
				first = d
			}
			last = max(last, d)
			r.fake.Withdraw()
			synctest.Wait()
			if !r.verifies() {
				t.Error("the new certificate is not below the new root")
			}
		})
	}
	if spread := last - first; spread < 80*time.Minute {
		t.Errorf("40 proxies renew within %s, want them spread", spread)
	}
}

// verifies reports whether peers with the proxy's own bundle would take its certificate.
func (r *rig) verifies() bool {
	s := r.creds.Get()
	_, err := mtls.Verify([]*x509.Certificate{s.Leaf.Leaf}, mtls.Expect{
		Bundle: s.Bundle, Usage: x509.ExtKeyUsageServerAuth, Want: web, At: time.Now(),
	})
	return err == nil
}

// A certificate whose root was withdrawn proves nothing any more, to nobody; a token may, and at once.
func TestAWithdrawnRootIsNotTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start(t)
		asked := r.fake.Requests()
		r.fake.Rotate()
		r.fake.Withdraw() // before the proxy had the time to renew
		synctest.Wait()
		if r.verifies() {
			t.Fatal("the old certificate is still trusted")
		}
		r.newToken()
		pass(distrustSpread + time.Second)
		if !r.verifies() || r.State().Renewal != nil {
			t.Errorf("state %+v", r.State())
		}
		if n := r.fake.Requests() - asked; n != 1 {
			t.Errorf("%d requests, want one by token alone", n)
		}
	})
}

// Nor is it where the first attempts fail: there is nothing to wait for.
func TestAWithdrawnRootIsNotWaitedOut(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start(t)
		r.fake.Rotate()
		r.fake.Withdraw()
		pass(5 * time.Minute) // its token is used up
		if r.verifies() {
			t.Fatal("the old certificate is still trusted")
		}
		r.newToken()
		pass(2*backoffStart + time.Second)
		if !r.verifies() {
			t.Errorf("state %+v", r.State())
		}
	})
}

// Answers that peers would not accept change nothing.
func TestWrongAnswersAreNotUsed(t *testing.T) {
	other := identitytest.New(trustDomain, nil)
	for name, spoil := range map[string]answer{
		"nothing": func(context.Context, certify.Service, certify.Request) (certify.Certificate, error) {
			return certify.Certificate{}, nil
		},
		"no certificate": func(context.Context, certify.Service, certify.Request) (certify.Certificate, error) {
			return certify.Certificate{Chain: [][]byte{{1, 2, 3}}}, nil
		},
		"below another root": func(ctx context.Context, _ certify.Service, r certify.Request) (certify.Certificate, error) {
			r.Token, r.Own = other.Token(web), nil
			return other.Certify(ctx, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.start(t)
				good := r.creds.Get().Leaf.Certificate[0]
				r.spoil.Store(&spoil)
				pass(23 * time.Hour)
				if string(r.creds.Get().Leaf.Certificate[0]) != string(good) || r.State().Renewal == nil {
					t.Errorf("it was used: %+v", r.State())
				}
			})
		})
	}
}

type answer func(context.Context, certify.Service, certify.Request) (certify.Certificate, error)

type spoiling struct {
	certify.Service

	with *atomic.Pointer[answer]
}

func (s spoiling) Certify(ctx context.Context, r certify.Request) (certify.Certificate, error) {
	if with := s.with.Load(); with != nil {
		return (*with)(ctx, s.Service, r)
	}
	return s.Service.Certify(ctx, r)
}

func TestSuspendedMachinesRenewWhenTheyWake(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		fake := identitytest.New(trustDomain, now)
		ok(t, fake.WriteBundle(r.dir))
		token := fake.Token(web)
		c, err := New(Config{
			Identity: web, Token: func() (string, error) { return token, nil }, BundleDir: r.dir,
			Service: fake, Sink: mtls.NewCredentials(now), Now: now,
		})
		ok(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		pass(30 * time.Second)
		ahead.Store(int64(20 * time.Hour)) // timers did not see it
		pass(maxSleep)
		if n := fake.Issued(); n != 2 {
			t.Errorf("%d certificates, want a new one within a minute", n)
		}
		cancel()
		ok(t, <-done)
	})
}

func TestMetricsAreAllThereFromTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.fake.Fail(certify.Refuse(certify.BadToken, "no"))
		r.start(t)
		n, err := testutil.GatherAndCount(r.reg)
		ok(t, err)
		if n != 3+2+3 {
			t.Errorf("%d series", n)
		}
		metric(t, r, "identity_cert_expiration_timestamp_seconds", 0)
		r.fake.Fail(nil)
		pass(backoffStart)
		metric(t, r, "identity_cert_expiration_timestamp_seconds", float64(r.State().NotAfter.Unix()))
		metric(t, r, "identity_cert_trust_version", float64(r.fake.Version()))
	})
}

func TestAConfigThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	ok(t, identitytest.New(trustDomain, nil).WriteBundle(dir))
	good := Config{
		Identity: web, Token: func() (string, error) { return "", nil }, BundleDir: dir,
		Server: "127.0.0.1:1", ServerIdentity: "spiffe://tulle.test/ns/tulle/sa/tulle-identity",
		Sink: mtls.NewCredentials(time.Now),
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no identity":         func(c *Config) { c.Identity = "web" },
		"no token":            func(c *Config) { c.Token = nil },
		"no sink":             func(c *Config) { c.Sink = nil },
		"no server":           func(c *Config) { c.Server = "" },
		"no server's name":    func(c *Config) { c.ServerIdentity = "" },
		"no bundle":           func(c *Config) { c.BundleDir = t.TempDir() },
		"a bundle with a key": func(c *Config) { c.BundleDir = keyDir(t) },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
}

func keyDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "k.pem"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600))
	return dir
}

var _ Sink = (*mtls.Credentials)(nil)
