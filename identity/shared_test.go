package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// shelf is a Keep in memory. identity/kube's is held to the same by what its test says.
type shelf struct {
	mu      sync.Mutex
	kept    Kept
	version int
	// half is called between the write of the roots and that of the issuer; an error ends the write.
	half func() error
}

func (s *shelf) Read() (Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kept
	k.Revision = s.version
	return k, nil
}

func (s *shelf) Write(read, next Kept) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if read.Revision != s.version {
		return ErrConflict
	}
	s.version++
	if s.half != nil {
		roots := next
		roots.Issuer, roots.IssuerKey, roots.IssuerVersion = s.kept.Issuer, s.kept.IssuerKey, s.kept.IssuerVersion
		s.kept = roots
		return s.half()
	}
	s.kept = next
	return nil
}

func openShared(t *testing.T, s *shelf) *Authority {
	t.Helper()
	a, err := OpenShared(AuthorityConfig{TrustDomain: testDomain}, s)
	nothing(t, err)
	return a
}

func sameTrust(t *testing.T, a, b *Authority) {
	t.Helper()
	x, _ := a.Trust()
	y, _ := b.Trust()
	if x.Version != y.Version || !bytes.Equal(a.BundlePEM(), b.BundlePEM()) || !bytes.Equal(x.Issuer, y.Issuer) {
		t.Errorf("version %d with %d roots, and version %d with %d", x.Version, len(x.Roots), y.Version, len(y.Roots))
	}
}

func TestReplicasThatFindNothingAgreeOnOneAuthority(t *testing.T) {
	s := &shelf{}
	all := make([]*Authority, 4)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = openShared(t, s) })
	}
	wg.Wait()
	for _, a := range all[1:] {
		sameTrust(t, all[0], a)
	}
}

func TestAChangeReachesTheOtherReplicas(t *testing.T) { // R10.3
	s := &shelf{}
	a, b := openShared(t, s), openShared(t, s)
	before, changed := b.Trust()
	id, err := a.AddRoot()
	nothing(t, err)
	nothing(t, b.pull(false))
	sameTrust(t, a, b)
	select {
	case <-changed:
	default:
		t.Error("who watches is not told")
	}
	if after, _ := b.Trust(); after.Version <= before.Version || len(after.Roots) != 2 {
		t.Errorf("version %d with %d roots follows %d", after.Version, len(after.Roots), before.Version)
	}
	nothing(t, b.Promote(id)) // a new leader goes on where the one before was
	nothing(t, a.pull(false))
	sameTrust(t, a, b)
}

func TestOfTwoChangesAtOnceOneIsTold(t *testing.T) {
	s := &shelf{}
	a := openShared(t, s)
	k, err := s.Read()
	nothing(t, err)
	nothing(t, a.RenewIssuer())
	next := k
	next.IssuerVersion++
	if err := s.Write(k, next); !errors.Is(err, ErrConflict) {
		t.Errorf("a write of what was read before: %v", err)
	}
}

// A replica that ends between two writes leaves an issuer of the root before. That root is in the
// bundle still; whoever leads next makes an issuer of the new one.
func TestAPromotionThatBrokeOffIsCompleted(t *testing.T) {
	s := &shelf{}
	a, b := openShared(t, s), openShared(t, s)
	id, err := a.AddRoot()
	nothing(t, err)
	nothing(t, b.pull(false))
	s.half = func() error { return errors.New("the process was killed") }
	if a.Promote(id) == nil {
		t.Fatal("the test wants a write that breaks off")
	}
	s.half = nil
	nothing(t, b.pull(false)) // it follows, and changes nothing
	if r := b.Roots(); !r[1].Promoted.IsZero() {
		t.Error("a state whose issuer is of another root is in force")
	}
	nothing(t, b.pull(true))
	nothing(t, a.pull(false))
	sameTrust(t, a, b)
	st := b.current()
	if active, _ := st.active(); active.id() != id || st.issuer.cert.CheckSignatureFrom(active.cert) != nil {
		t.Error("the issuer is not of the root that was promoted")
	}
}

func TestWhatIsDeletedUnderARunningAuthorityIsRestored(t *testing.T) {
	s := &shelf{}
	a := openShared(t, s)
	before, _ := a.Trust()
	s.kept = Kept{}
	nothing(t, a.pull(false))
	if k, _ := s.Read(); !k.nothing() {
		t.Error("a follower wrote")
	}
	nothing(t, a.pull(true))
	after, _ := a.Trust()
	if len(after.Roots) != 1 || !bytes.Equal(before.Roots[0], after.Roots[0]) || after.Version < before.Version {
		t.Error("another root, or an older version")
	}
	sameTrust(t, a, openShared(t, s))
}

// What is damaged or deleted of two Secrets is made whole from the rest, or from what runs; the root stays.
func TestWhatIsDamagedIsMadeWhole(t *testing.T) {
	nonsense := []byte("nonsense")
	otherKey, err := keyPEM(givenRoot(t).key)
	nothing(t, err)
	for _, c := range []struct {
		name   string
		damage func(*Kept)
		// runs: what was lost only a running authority still has.
		runs bool
	}{
		{"the issuer is nonsense", func(k *Kept) { k.Issuer = nonsense }, false},
		{"the issuer's key is nonsense", func(k *Kept) { k.IssuerKey = nonsense }, false},
		{"the issuer's key is another's", func(k *Kept) { k.IssuerKey = []byte(otherKey) }, false},
		{"the issuer is gone", func(k *Kept) { k.Issuer, k.IssuerKey = nil, nil }, false},
		{"the root beside its state is nonsense", func(k *Kept) { k.Root = nonsense }, false},
		{"the root is gone with its state, the issuer is not", func(k *Kept) { k.State, k.Root, k.RootKey = nil, nil, nil }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &shelf{}
			a := openShared(t, s)
			before, _ := a.Trust()
			c.damage(&s.kept)
			if !c.runs {
				fresh := &shelf{kept: s.kept}
				sameRoot(t, before.Roots[0], openShared(t, fresh))
			} else if _, err := OpenShared(a.cfg, &shelf{kept: s.kept}); !errors.Is(err, errRootLost) {
				t.Error("who starts without the root makes another one, which no proxy knows")
			}
			damaged := s.kept
			nothing(t, a.pull(false))
			if !bytes.Equal(s.kept.Issuer, damaged.Issuer) || !bytes.Equal(s.kept.Root, damaged.Root) {
				t.Error("a follower wrote")
			}
			nothing(t, a.pull(true))
			sameRoot(t, before.Roots[0], a)
			sameTrust(t, a, openShared(t, s))
		})
	}
}

// sameRoot: a has the root alone, keeps it, and its issuer is of it.
func sameRoot(t *testing.T, root []byte, a *Authority) {
	t.Helper()
	k, err := a.shared.keep.Read()
	nothing(t, err)
	st := a.current()
	if len(st.roots) != 1 || !bytes.Equal(st.roots[0].cert.Raw, root) || !bytes.Equal(k.Root, certPEM(st.roots[0].cert)) {
		t.Error("another root is in use, or kept")
	}
	if key, ok := st.issuer.cert.PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(st.issuer.key.Public()) {
		t.Error("the issuer's key is not its own")
	}
	if st.issuer.cert.CheckSignatureFrom(st.roots[0].cert) != nil || !bytes.Equal(k.Issuer, certPEM(st.issuer.cert)) {
		t.Error("the issuer is not of the root, or not the one that is kept")
	}
}

func TestAGivenRootThatIsGoneIsNotReplaced(t *testing.T) {
	s := &shelf{}
	s.kept.Root, s.kept.RootKey = pemOf(t, givenRoot(t))
	s.kept.GivenRoot = true
	a := openShared(t, s)
	s.kept.State, s.kept.Root, s.kept.RootKey, s.kept.GivenRoot = nil, nil, nil, false // as the Keep sees it
	if err := a.pull(true); err == nil {
		t.Error("a root that somebody else renews was written as if it were ours")
	}
}

// givenRoot makes a root as somebody else would.
func givenRoot(t *testing.T) root {
	t.Helper()
	cfg := AuthorityConfig{TrustDomain: testDomain}
	nothing(t, cfg.complete())
	r, err := newRoot(cfg, time.Now())
	nothing(t, err)
	return r
}

func pemOf(t *testing.T, r root) (cert, key []byte) {
	t.Helper()
	k, err := keyPEM(r.key)
	nothing(t, err)
	return certPEM(r.cert), []byte(k)
}

func TestAGivenRootSignsOurIssuersAndItsRenewalStandsBy(t *testing.T) { // R10.3
	s, first := &shelf{}, givenRoot(t)
	s.kept.Root, s.kept.RootKey = pemOf(t, first)
	s.kept.GivenRoot = true
	a := openShared(t, s)
	if r := a.Roots(); len(r) != 1 || r[0].ID != first.id() || r[0].Promoted.IsZero() {
		t.Fatalf("roots: %+v", r)
	}
	if _, ours := a.rootAsked(); ours {
		t.Error("we would make a root beside the one that was given")
	}
	second := givenRoot(t)
	s.kept.Root, s.kept.RootKey = pemOf(t, second)
	s.version++
	nothing(t, a.pull(true))
	r := a.Roots()
	if len(r) != 2 || r[1].ID != second.id() || !r[1].Promoted.IsZero() {
		t.Fatalf("after its renewal: %+v", r)
	}
	if st := a.current(); st.issuer.cert.CheckSignatureFrom(first.cert) != nil {
		t.Error("the issuer changed before everybody knows the new root")
	}
	nothing(t, a.Promote(second.id()))
	if st := a.current(); st.issuer.cert.CheckSignatureFrom(second.cert) != nil {
		t.Error("the issuer is not of the new root")
	}
	if k, _ := s.Read(); !bytes.Equal(k.Root, certPEM(second.cert)) {
		t.Error("we wrote over what was given")
	}
}

func TestAGivenIssuerIsUsedAndItsRenewalPickedUp(t *testing.T) {
	cfg := AuthorityConfig{TrustDomain: testDomain}
	nothing(t, cfg.complete())
	s, root := &shelf{}, givenRoot(t)
	give := func(version uint64) issuer {
		i, err := newIssuer(cfg, root, time.Now())
		nothing(t, err)
		key, err := keyPEM(i.key.(*ecdsa.PrivateKey))
		nothing(t, err)
		s.kept = Kept{GivenIssuer: true, Issuer: certPEM(i.cert), IssuerKey: []byte(key), CA: certPEM(root.cert), IssuerVersion: version}
		s.version++
		return i
	}
	give(7)
	a := openShared(t, s)
	if _, err := a.AddRoot(); !errors.Is(err, ErrGiven) {
		t.Errorf("a root of ours beside a given issuer: %v", err)
	}
	next := give(9)
	nothing(t, a.pull(true))
	if b, _ := a.Trust(); !bytes.Equal(b.Issuer, next.cert.SubjectKeyId) || b.Version != 9 {
		t.Errorf("version %d, and not of the new issuer", b.Version)
	}
	good := s.kept
	s.kept.IssuerKey = good.Issuer // broken
	if a.pull(true) == nil {
		t.Error("a broken issuer is accepted")
	}
	if b, _ := a.Trust(); b.Version != 9 {
		t.Error("the last good one does not hold")
	}
}

// An operator who asks gets a new root, in the usual steps; and is not given a second one.
func TestARootThatIsAskedForComes(t *testing.T) { // R10.3
	for name, open := range map[string]func(*testing.T) (*Authority, func()){
		"in a directory": func(t *testing.T) (*Authority, func()) {
			dir := t.TempDir()
			a, err := OpenAuthority(AuthorityConfig{TrustDomain: testDomain, Dir: dir})
			nothing(t, err)
			return a, func() { nothing(t, AskForRoot(dir)) }
		},
		"shared": func(t *testing.T) (*Authority, func()) {
			s := &shelf{}
			a := openShared(t, s)
			return a, func() { s.kept.Rotate = true; s.version++; nothing(t, a.pull(false)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, ask := open(t)
				r := testRotator(t, a, func(uint64) bool { return true })
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); r.run(ctx) }() // ends with ctx
				pass := func(d time.Duration) {
					time.Sleep(d) //house:sleep in a bubble, whose clock it moves
					synctest.Wait()
				}
				pass(time.Minute)
				if n := len(a.Roots()); n != 1 {
					t.Fatalf("%d roots before anybody asked", n)
				}
				ask()
				pass(time.Minute)
				if n := len(a.Roots()); n != 2 {
					t.Errorf("%d roots a minute after it was asked for", n)
				}
				pass(2 * time.Hour)
				if roots := a.Roots(); len(roots) != 2 || roots[1].Promoted.IsZero() || roots[0].Superseded.IsZero() {
					t.Errorf("two hours later: %+v", roots)
				}
				pass(26 * time.Hour)
				if n := len(a.Roots()); n != 1 {
					t.Errorf("%d roots a day later", n)
				}
				cancel()
				<-done
			})
		})
	}
}

func TestFollowersPullAndTellTroubleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a, b := openShared(t, s), openShared(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.follow(ctx, func() bool { return false }, zap.NewNop()) }() // ends with ctx
		nothing(t, a.RenewIssuer())
		time.Sleep(followInterval + time.Second) //house:sleep in a bubble, whose clock it moves
		synctest.Wait()
		sameTrust(t, a, b)
		cancel()
		<-done
	})
}
