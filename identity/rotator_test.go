package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

const (
	testDomain = "tulle.test"
	testWeb    = mesh.Identity("spiffe://tulle.test/ns/shop/sa/web")
)

func nothing(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testRotator(t *testing.T, a *Authority, acked func(uint64) bool) *rotator {
	t.Helper()
	tokens, err := OpenJoinTokens(JoinConfig{TrustDomain: testDomain})
	nothing(t, err)
	s, err := New(Config{Authority: a, Tokens: tokens, Identity: "spiffe://tulle.test/ns/tulle/sa/tulle-identity"})
	nothing(t, err)
	r := s.rotator()
	r.acked = acked
	return r
}

// Two rotations of the root in simulated time: at every moment each leaf that could be in use is trusted, and roots and
// issuers never run out.
func TestRotationNeverBreaksALeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := OpenAuthority(AuthorityConfig{TrustDomain: testDomain})
		nothing(t, err)
		r := testRotator(t, a, func(uint64) bool { return true })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()

		first := a.Roots()[0].ID
		most := 0
		var leaves [][]byte // chains of the last day, every eight hours
		var until []time.Time
		key, err := newTestKey()
		nothing(t, err)
		for range 520 * 3 {
			c, err := a.Issue(testWeb, key.Public())
			nothing(t, err)
			if life := time.Until(c.NotAfter); life < 24*time.Hour-time.Second {
				t.Fatalf("%s: a leaf of %s", time.Now(), life)
			}
			leaves, until = append(leaves, c.Chain[0], c.Chain[1]), append(until, c.NotAfter)
			for len(until) > 3 {
				leaves, until = leaves[2:], until[1:]
			}
			time.Sleep(8 * time.Hour)
			synctest.Wait()
			for i := range until {
				if time.Now().Before(until[i]) {
					mustTrust(t, a, leaves[2*i:2*i+2])
				}
			}
			most = max(most, len(a.Roots()))
		}
		if most != 2 || a.Roots()[0].ID == first {
			t.Errorf("at most %d roots at once, the first still there: %t", most, a.Roots()[0].ID == first)
		}
		cancel()
		<-done
	})
}

func mustTrust(t *testing.T, a *Authority, chain [][]byte) {
	t.Helper()
	var certs []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		nothing(t, err)
		certs = append(certs, c)
	}
	b, err := a.mtlsBundle()
	nothing(t, err)
	if _, err := mtls.Verify(certs, mtls.Expect{Bundle: b, Usage: x509.ExtKeyUsageServerAuth, Want: testWeb, At: time.Now()}); err != nil {
		t.Fatalf("%s: %v", time.Now(), err)
	}
}

// steps runs a rotation and notes when each step was taken, in hours after the start.
func steps(t *testing.T, acked func(uint64) bool, days int) map[string]time.Duration {
	t.Helper()
	a, err := OpenAuthority(AuthorityConfig{TrustDomain: testDomain})
	nothing(t, err)
	r := testRotator(t, a, acked)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	start := time.Now()
	go func() { defer close(done); r.run(ctx) }()
	out := map[string]time.Duration{}
	for end := start.Add(time.Duration(days) * 24 * time.Hour); time.Now().Before(end); {
		_, changed := a.Trust()
		before := a.Roots()
		select {
		case <-changed:
			synctest.Wait()
			out[what(before, a.Roots())] = time.Since(start)
		case <-time.After(time.Until(end)):
		}
	}
	cancel()
	<-done
	return out
}

func what(before, after []Root) string {
	switch {
	case len(after) > len(before):
		return "add"
	case len(after) < len(before):
		return "retire"
	case len(after) == 2 && !after[0].Superseded.IsZero() && before[0].Superseded.IsZero():
		return "promote"
	default:
		return "issuer"
	}
}

func TestARootIsPromotedWhenEveryWatcherHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acked := time.Now().Add((2*365*24/3 + 5) * time.Hour) // five hours after it is added
		got := steps(t, func(uint64) bool { return !time.Now().Before(acked) }, 300)
		if d := got["promote"] - got["add"]; d < 5*time.Hour-pollAcks || d > 5*time.Hour+2*time.Minute {
			t.Errorf("promoted after %s, want 5h", d)
		}
		if d := got["retire"] - got["promote"]; d < 24*time.Hour+10*time.Minute || d > 25*time.Hour {
			t.Errorf("the old one retired after %s, want a leaf's life and a little", d)
		}
	})
}

// Leaves that were signed for longer, by an earlier configuration, are waited for: the last one below a root ends it.
func TestARootStaysForLeavesOfAnEarlierLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := AuthorityConfig{TrustDomain: testDomain, Dir: t.TempDir()}
		serve := func(leaf, d time.Duration) *Authority { // for d, as a process of its own
			cfg.LeafLifetime = leaf
			a, err := OpenAuthority(cfg)
			nothing(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			testRotator(t, a, func(uint64) bool { return true }).run(ctx)
			return a
		}
		serve(24*time.Hour, time.Minute)
		serve(48*time.Hour, time.Minute)
		serve(24*time.Hour, time.Minute)
		nothing(t, AskForRoot(cfg.Dir))
		for _, s := range []struct {
			d    time.Duration
			want int
		}{{2 * time.Hour, 2}, {46 * time.Hour, 2}, {2 * time.Hour, 1}} {
			if n := len(serve(10*time.Minute, s.d).Roots()); n != s.want {
				t.Errorf("%s later %d roots are trusted, want %d", s.d, n, s.want)
			}
		}
	})
}

func TestARootWaitsAtLeastToSettleAndAtMostForItsPatience(t *testing.T) {
	for everybody, want := range map[bool]time.Duration{true: time.Hour, false: 24 * time.Hour} {
		t.Run(fmt.Sprint(everybody), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := steps(t, func(uint64) bool { return everybody }, 300)
				if d := got["promote"] - got["add"]; d < want || d > want+time.Minute {
					t.Errorf("promoted after %s, want %s", d, want)
				}
			})
		})
	}
}

func TestAStepThatFailsIsTriedAgainAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a, err := OpenAuthority(AuthorityConfig{TrustDomain: testDomain, Dir: dir})
		nothing(t, err)
		r := testRotator(t, a, func(uint64) bool { return true })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()

		bundle := filepath.Join(dir, BundleDir)
		nothing(t, os.RemoveAll(bundle))
		nothing(t, os.WriteFile(bundle, nil, 0o600)) // in the way of the directory
		before, _ := a.Trust()
		time.Sleep(20*24*time.Hour + 5*time.Minute) // a new issuer is due after 20 days
		synctest.Wait()
		if now, _ := a.Trust(); now.Version != before.Version {
			t.Error("a version that could not be kept was published")
		}
		nothing(t, os.Remove(bundle))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if now, _ := a.Trust(); now.Version != before.Version+1 {
			t.Error("the step was not tried again")
		}
		cancel()
		<-done
	})
}

func TestMetricsAreAllThereFromTheStart(t *testing.T) {
	a, err := OpenAuthority(AuthorityConfig{TrustDomain: testDomain})
	nothing(t, err)
	tokens, err := OpenJoinTokens(JoinConfig{TrustDomain: testDomain})
	nothing(t, err)
	reg := prometheus.NewPedanticRegistry()
	_, err = New(Config{Authority: a, Tokens: tokens, Identity: "spiffe://tulle.test/ns/t/sa/i", Registerer: reg, Log: zap.NewNop()})
	nothing(t, err)
	families, err := reg.Gather()
	nothing(t, err)
	got := map[string]int{}
	for _, f := range families {
		got[f.GetName()] = len(f.GetMetric())
	}
	for name, series := range map[string]int{
		"identity_certificates_issued_total": 2, "identity_certificates_refused_total": 13,
		"identity_rotation_steps_total": 5, "identity_trust_refusals_total": 1,
		"identity_trust_version": 1, "identity_trust_roots": 1, "identity_trust_watchers": 3,
		"identity_issuer_expiration_timestamp_seconds": 1, "identity_root_expiration_timestamp_seconds": 1,
	} {
		if got[name] != series {
			t.Errorf("%s has %d series, want %d", name, got[name], series)
		}
	}
}
