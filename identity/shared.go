package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

// Keep is where the replicas of an identity service have one authority in common.
type Keep interface {
	// Read returns what is kept now, never something older than what was read before; the zero Kept
	// where there is nothing.
	Read() (Kept, error)
	// Write replaces what was read. ErrConflict says that somebody else was first: read again.
	Write(read, next Kept) error
}

// Errors of a Keep.
var (
	// ErrConflict: what was to be replaced has changed.
	ErrConflict = errors.New("another replica was first")
	// ErrAway: it cannot be asked now. Later it may.
	ErrAway = errors.New("the authority's keep cannot be reached")

	errRootLost = errors.New("there is an issuer and no root: put the root back from a backup; " +
		"or delete the issuer as well to have a new root, and restart every proxy then")
)

// Kept is an authority as it is kept. Certificates and keys are PEM.
type Kept struct {
	// State is the authority's roots with their keys and where they stand in a rotation; nil where it
	// has none of its own making yet.
	State []byte
	// Root signs issuers, Issuer signs leaves, with what leads from it to a root. State knows the root
	// too; Root is where others look for it, or give one.
	Root, RootKey, Issuer, IssuerKey []byte
	// IssuerVersion is the version that the issuer came with; a given one's grows with each change.
	IssuerVersion uint64
	// CA are roots that came with a given issuer.
	CA []byte
	// GivenRoot and GivenIssuer are somebody else's, who renews them.
	GivenRoot, GivenIssuer bool
	// Rotate says that an operator asks for a new root.
	Rotate bool
	// Revision is Keep's own, to tell whether what was read is still there.
	Revision any
}

func (k *Kept) nothing() bool { return len(k.State)+len(k.Root)+len(k.Issuer) == 0 }

// shared is an Authority's part in what replicas share.
type shared struct {
	keep      Keep
	givenRoot bool // guarded by Authority.mu, as rotate
	rotate    bool
}

// OpenShared loads the authority that keep has, or makes one. Of several replicas that find nothing the
// first makes it, and the others take that.
func OpenShared(cfg AuthorityConfig, keep Keep) (*Authority, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, changed: make(chan struct{}), shared: &shared{keep: keep}}
	var err error
	for range 10 {
		if err = a.pull(true); !errors.Is(err, ErrConflict) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("authority of %s: %w", cfg.TrustDomain, err)
	}
	return a, nil
}

// pull brings the authority up to date with what is kept. What is missing is made and kept, by whoever
// may: at the start every replica, later the leader.
func (a *Authority) pull(mayWrite bool) error {
	k, err := a.shared.keep.Read()
	if err != nil {
		return err
	}
	s, complete, err := a.read(k)
	if err != nil {
		return err
	}
	if !complete {
		if !mayWrite {
			return nil // the leader will
		}
		next, err := a.written(k, s)
		if err != nil {
			return err
		}
		if err := a.shared.keep.Write(k, next); err != nil {
			return err
		}
		if k, err = a.shared.keep.Read(); err != nil {
			return err
		}
		if s, complete, err = a.read(k); err != nil || !complete {
			return errors.Join(err, ErrConflict)
		}
	}
	a.adopt(k, s)
	return nil
}

// adopt takes a state into force.
func (a *Authority) adopt(k Kept, s *state) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shared.givenRoot, a.shared.rotate = k.GivenRoot || k.GivenIssuer, k.Rotate
	if a.state != nil && a.state.version == s.version && bytes.Equal(a.state.bundlePEM(), s.bundlePEM()) &&
		a.state.issuer.cert.Equal(s.issuer.cert) {
		return
	}
	a.state = s
	close(a.changed)
	a.changed = make(chan struct{})
}

// read makes a state of what is kept. It is not complete where something has to be written first.
func (a *Authority) read(k Kept) (s *state, complete bool, err error) {
	if k.GivenIssuer {
		s, err = a.given(k)
		return s, true, err
	}
	now := a.cfg.Now()
	if s = a.lost(k); k.nothing() || s != nil {
		if s == nil {
			s, err = a.first()
		}
		if err == nil && s.version < uint64(now.Unix()) {
			s = s.at(uint64(now.Unix())) // later than any authority's that was here before
		}
		return s, false, err
	}
	if len(k.State)+len(k.Root) == 0 {
		return nil, false, errRootLost
	}
	if s, complete, err = a.ownRoots(k); err != nil {
		return nil, false, err
	}
	active, ok := s.active()
	if !ok {
		return nil, false, errors.New("no root is in use")
	}
	s.issuer = ownIssuer(k)
	// An issuer of another root is what a replica left that ended between two writes; one that is missing or damaged is as
	// good as that: no proxy knows an issuer but by its root.
	if s.issuer.cert == nil || !bytes.Equal(s.issuer.cert.AuthorityKeyId, active.cert.SubjectKeyId) || !now.Before(s.issuer.cert.NotAfter) {
		if s.issuer, err = newIssuer(a.cfg, active, now); err != nil {
			return nil, false, err
		}
		return s.at(s.version + 1), false, nil
	}
	return s, complete, nil
}

// lost is the state of a running authority whose roots somebody deleted: it alone has them still. Whose roots were given has
// none to restore.
func (a *Authority) lost(k Kept) *state {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(k.State)+len(k.Root) > 0 || len(k.Issuer) > 0 && a.shared.givenRoot {
		return nil
	}
	return a.state
}

// ownIssuer reads an issuer of our making; the zero issuer where it cannot be used.
func ownIssuer(k Kept) issuer {
	certs, err := parseCertsPEM(k.Issuer)
	if err != nil {
		return issuer{}
	}
	key, err := parseKeyPEM(k.IssuerKey)
	if err != nil {
		return issuer{}
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(certs[0].PublicKey) {
		return issuer{}
	}
	return issuer{cert: certs[0], key: key, chain: certs[:1]}
}

// ownRoots reads the roots and their standing, and takes in a root that somebody gave.
func (a *Authority) ownRoots(k Kept) (s *state, complete bool, err error) {
	s, complete = &state{}, true
	if len(k.State) > 0 {
		var st storedState
		if err := json.Unmarshal(k.State, &st); err != nil {
			return nil, false, fmt.Errorf("state: %w", err)
		}
		if st.TrustDomain != a.cfg.TrustDomain {
			return nil, false, fmt.Errorf("it is of the trust domain %q, not %q", st.TrustDomain, a.cfg.TrustDomain)
		}
		if s.roots, err = st.rootsOf(); err != nil {
			return nil, false, err
		}
		s.version = max(st.Version, k.IssuerVersion)
	}
	if len(k.Root) == 0 {
		return s, complete, nil
	}
	cert, err := parseCertPEM(string(k.Root))
	if err != nil && !k.GivenRoot && len(s.roots) > 0 {
		return s, false, nil // a copy of what State has, which somebody damaged: it is written again
	}
	if err != nil {
		return nil, false, fmt.Errorf("root: %w", err)
	}
	if slices.ContainsFunc(s.roots, func(r root) bool { return r.cert.Equal(cert) }) {
		return s, complete, nil
	}
	key, err := parseKeyPEM(k.RootKey)
	if err != nil {
		return nil, false, fmt.Errorf("root: %w", err)
	}
	return s.taking(cert, root{cert: cert, key: key}, a.cfg.Now()), false, nil
}

// taking adds a given root: the first one is in use at once, one of the same key replaces its older
// certificate, every other one stands by until it is known everywhere.
func (s *state) taking(cert *x509.Certificate, r root, now time.Time) *state {
	next := s.at(max(s.version+1, uint64(now.Unix())))
	r.added, r.version = now, next.version
	if i := next.index(r.id()); i >= 0 {
		next.roots = slices.Clone(next.roots)
		next.roots[i].cert, next.roots[i].key = cert, r.key
		return next
	}
	if len(next.roots) == 0 {
		r.promoted = now
	}
	next.roots = append(slices.Clone(next.roots), r)
	return next
}

// at is the state at another version.
func (s *state) at(version uint64) *state {
	next := *s
	next.version = version
	return &next
}

// given is the state of an issuer that somebody else renews. Its roots are those that came with it and
// those that were put beside it, so that a new root can be trusted before an issuer of it is used.
func (a *Authority) given(k Kept) (*state, error) {
	chain, err := parseCertsPEM(k.Issuer)
	if err != nil {
		return nil, fmt.Errorf("given issuer: %w", err)
	}
	key, err := parseKeyPEM(k.IssuerKey)
	if err != nil {
		return nil, fmt.Errorf("given issuer: %w", err)
	}
	var roots []*x509.Certificate
	add := func(c *x509.Certificate) {
		if isRoot(c) && !slices.ContainsFunc(roots, c.Equal) {
			roots = append(roots, c)
		}
	}
	for _, pem := range [][]byte{k.CA, k.Root} {
		if len(pem) == 0 {
			continue
		}
		certs, err := parseCertsPEM(pem)
		if err != nil {
			return nil, fmt.Errorf("given roots: %w", err)
		}
		for _, c := range certs {
			add(c)
		}
	}
	for _, c := range chain {
		add(c)
	}
	i := issuer{cert: chain[0], key: key, chain: slices.DeleteFunc(slices.Clone(chain), isRoot)}
	if err := checkGiven(i, roots, a.cfg.Now()); err != nil {
		return nil, fmt.Errorf("given issuer: %w", err)
	}
	s := &state{version: k.IssuerVersion, issuer: i}
	for _, c := range roots {
		s.roots = append(s.roots, root{cert: c, version: s.version})
	}
	return s, nil
}

// written is a state as it is kept.
func (a *Authority) written(was Kept, s *state) (Kept, error) {
	st, err := s.stored(a.cfg.TrustDomain)
	if err != nil {
		return Kept{}, err
	}
	next := was
	if next.State, err = json.Marshal(st); err != nil {
		return Kept{}, err
	}
	if sameRoots(was.State, next.State) {
		next.State = was.State // the issuer has a version of its own
	}
	if active, ok := s.active(); ok && !was.GivenRoot {
		key, err := keyPEM(active.key)
		if err != nil {
			return Kept{}, err
		}
		next.Root, next.RootKey = certPEM(active.cert), []byte(key)
	}
	key, err := keyPEM(s.issuer.key)
	if err != nil {
		return Kept{}, err
	}
	if pem := certPEM(s.issuer.cert); !bytes.Equal(pem, was.Issuer) {
		next.Issuer, next.IssuerKey, next.IssuerVersion = pem, []byte(key), s.version
	}
	return next, nil
}

// sameRoots reports whether two states differ in their version at most.
func sameRoots(was, now []byte) bool {
	var a, b storedState
	if json.Unmarshal(was, &a) != nil || json.Unmarshal(now, &b) != nil {
		return false
	}
	b.Version = a.Version
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// changeShared is change for an authority that replicas share: of what is kept, not of what this
// replica remembers.
func (a *Authority) changeShared(what string, f func(*state, time.Time) error) error {
	k, err := a.shared.keep.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if k.GivenIssuer {
		return fmt.Errorf("%s: %w", what, ErrGiven)
	}
	s, complete, err := a.read(k)
	if err == nil && !complete {
		err = ErrConflict
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	next := &state{version: s.version + 1, roots: slices.Clone(s.roots), issuer: s.issuer}
	if err := f(next, a.cfg.Now()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	kept, err := a.written(k, next)
	if err == nil {
		kept.Rotate = k.Rotate && len(next.roots) <= len(s.roots) // a root that came is what was asked for
		err = a.shared.keep.Write(k, kept)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return a.pull(false)
}

// followInterval is how often what is kept is looked at.
const followInterval = 5 * time.Second

// follow brings the authority up to date until ctx ends. While what is kept cannot be read, the last
// state holds.
func (a *Authority) follow(ctx context.Context, leads func() bool, log *zap.Logger) {
	if a.shared == nil {
		return
	}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := ""
		if err := a.pull(leads()); err != nil && !errors.Is(err, ErrConflict) {
			now = err.Error()
		}
		switch now {
		case failing:
		case "":
			log.Info("the shared authority can be read again")
		default:
			log.Error("the shared authority cannot be used, the last one holds", zap.String(logkey.Error, now))
		}
		failing = now
	}
}
