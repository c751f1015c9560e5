package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// AuthorityConfig says what an Authority is made of.
type AuthorityConfig struct {
	// TrustDomain is the domain of every identity that is signed; required.
	TrustDomain string
	// Dir keeps the authority (mode 0600) and the bundle that proxies mount (0644, in BundleDir of
	// it); it is created when missing. Empty: everything is lost with the process.
	Dir string
	// Given is an authority that somebody else made and rotates; nil to make one.
	Given *Given
	// Lifetimes of leaves, issuers and roots; 0 is 24 h, 30 days and 365 days. An issuer lives at
	// least three times as long as a leaf, a root three times as long as an issuer: each is replaced
	// when a third of its life is left, and what it signs must fit into that.
	LeafLifetime, IssuerLifetime, RootLifetime time.Duration
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
}

// Backdate is how far NotBefore lies in the past, for clocks that are behind (R5.2).
const Backdate = time.Minute

func (c *AuthorityConfig) complete() error {
	c.LeafLifetime = orDefault(c.LeafLifetime, 24*time.Hour)
	c.IssuerLifetime = orDefault(c.IssuerLifetime, 30*24*time.Hour)
	c.RootLifetime = orDefault(c.RootLifetime, 365*24*time.Hour)
	if c.Now == nil {
		c.Now = time.Now
	}
	if _, err := mesh.ParseIdentity(string(mesh.NewIdentity(c.TrustDomain, "a", "a"))); err != nil {
		return fmt.Errorf("trust domain %q: want a lower-case DNS name", c.TrustDomain)
	}
	if c.LeafLifetime <= 0 || c.IssuerLifetime/3 < c.LeafLifetime || c.RootLifetime/3 < c.IssuerLifetime {
		return fmt.Errorf("lifetimes of leaf %s, issuer %s, root %s: want each at least three times the one before",
			c.LeafLifetime, c.IssuerLifetime, c.RootLifetime)
	}
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// ErrGiven answers a change to an authority that somebody else rotates.
var ErrGiven = errors.New("the authority was given by files: rotate it where it was made, and restart")

// Authority signs leaves and keeps the trust bundle. Its methods are safe for concurrent use.
type Authority struct {
	cfg AuthorityConfig

	mu      sync.Mutex
	shared  *shared       // nil where this process has the authority alone
	state   *state        // immutable; replaced under mu
	changed chan struct{} // closed and replaced with state
}

// OpenAuthority loads the authority of cfg.Dir, or makes one and keeps it there.
func OpenAuthority(cfg AuthorityConfig) (*Authority, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, changed: make(chan struct{})}
	s, err := a.open()
	if err != nil {
		return nil, fmt.Errorf("authority of %s: %w", cfg.TrustDomain, err)
	}
	a.state = s
	return a, nil
}

func (a *Authority) open() (*state, error) {
	s, err := loadState(a.cfg)
	if err != nil {
		return nil, err
	}
	switch {
	case a.cfg.Given != nil:
		s, err = a.cfg.Given.state(s, a.cfg.Now())
	case s == nil:
		s, err = a.first()
	case s.issuer.key == nil:
		err = errors.New("it was given by files before: give them again, or use another directory")
	case !a.cfg.Now().Before(s.issuer.cert.NotAfter):
		s, err = a.reissued(s) // it was off for longer than an issuer lives
	}
	if err != nil {
		return nil, err
	}
	return s, saveState(a.cfg, s)
}

// first makes a root and an issuer.
func (a *Authority) first() (*state, error) {
	now := a.cfg.Now()
	r, err := newRoot(a.cfg, now)
	if err != nil {
		return nil, err
	}
	r.added, r.promoted, r.version = now, now, 1
	i, err := newIssuer(a.cfg, r, now)
	if err != nil {
		return nil, err
	}
	return &state{version: 1, roots: []root{r}, issuer: i}, nil
}

func (a *Authority) reissued(s *state) (*state, error) {
	r, ok := s.active()
	if !ok {
		return nil, errors.New("no root is in use")
	}
	i, err := newIssuer(a.cfg, r, a.cfg.Now())
	if err != nil {
		return nil, err
	}
	return &state{version: s.version + 1, roots: s.roots, issuer: i}, nil
}

// TrustDomain is the domain of every identity that a signs.
func (a *Authority) TrustDomain() string { return a.cfg.TrustDomain }

// LeafLifetime is how long a certificate is valid from when it is signed.
func (a *Authority) LeafLifetime() time.Duration { return a.cfg.LeafLifetime }

// Trust returns the bundle as it is now, and a channel that is closed when it is no more.
func (a *Authority) Trust() (certify.Bundle, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.bundle(a.cfg.TrustDomain), a.changed
}

// BundlePEM is the bundle in the form that proxies mount.
func (a *Authority) BundlePEM() []byte { return a.current().bundlePEM() }

func (a *Authority) current() *state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// Issue signs a leaf for key. The caller has checked that who asks is id, and the key.
func (a *Authority) Issue(id mesh.Identity, key crypto.PublicKey) (certify.Certificate, error) {
	s, now := a.current(), a.cfg.Now()
	tmpl, err := leafTemplate(id, now, a.cfg.LeafLifetime)
	if err != nil {
		return certify.Certificate{}, err
	}
	if tmpl.NotAfter.After(s.issuer.cert.NotAfter) {
		tmpl.NotAfter = s.issuer.cert.NotAfter
	}
	if !now.Before(tmpl.NotAfter) {
		return certify.Certificate{}, fmt.Errorf("the issuer expired at %s", s.issuer.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, s.issuer.cert, key, s.issuer.key)
	if err != nil {
		return certify.Certificate{}, fmt.Errorf("sign for %s: %w", id, err)
	}
	chain := [][]byte{der}
	for _, c := range s.issuer.chain {
		chain = append(chain, c.Raw)
	}
	return certify.Certificate{Chain: chain, NotAfter: tmpl.NotAfter, Issuer: s.issuer.cert.SubjectKeyId}, nil
}

// rootAsked reports whether an operator wants a new root, and whether there may be one of our making.
func (a *Authority) rootAsked() (asked, ours bool) {
	if a.shared != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.shared.rotate, !a.shared.givenRoot
	}
	return a.cfg.Dir != "" && isFile(a.cfg.Dir, rotateFile), a.cfg.Given == nil
}

// rootCame ends what AskForRoot began.
func (a *Authority) rootCame() error {
	if a.shared != nil || a.cfg.Dir == "" {
		return nil // it was taken back in the write that brought the root
	}
	return removeFile(a.cfg.Dir, rotateFile)
}

// RootID names a root: the subject key id in hexadecimal.
type RootID string

// Root tells an operator about a root.
type Root struct {
	ID       RootID
	NotAfter time.Time
	// Added is when it came into the bundle, Promoted when it began to sign issuers, Superseded when
	// it ceased to; zero for not yet.
	Added, Promoted, Superseded time.Time
	// Version is the bundle's version that it came with.
	Version uint64
}

// Roots lists the roots of the bundle in the order in which they came.
func (a *Authority) Roots() []Root {
	var out []Root
	for _, r := range a.current().roots {
		out = append(out, Root{
			ID: r.id(), NotAfter: r.cert.NotAfter, Version: r.version,
			Added: r.added, Promoted: r.promoted, Superseded: r.superseded,
		})
	}
	return out
}

// AddRoot makes a root and puts it into the bundle. It signs nothing before it is promoted.
func (a *Authority) AddRoot() (RootID, error) {
	var id RootID
	err := a.change("add a root", func(s *state, now time.Time) error {
		r, err := newRoot(a.cfg, now)
		if err != nil {
			return err
		}
		r.added, r.version = now, s.version
		id, s.roots = r.id(), append(s.roots, r)
		return nil
	})
	return id, err
}

// Promote makes root id the one that signs issuers, and makes a new issuer. The key of the root that
// it supersedes is destroyed; the root stays in the bundle until it is retired.
func (a *Authority) Promote(id RootID) error {
	return a.change("promote root "+string(id), func(s *state, now time.Time) error {
		i := s.index(id)
		if i < 0 {
			return errors.New("there is no such root")
		}
		if !s.roots[i].promoted.IsZero() {
			return errors.New("it was promoted before")
		}
		for j := range s.roots {
			if s.roots[j].isActive() {
				s.roots[j].superseded, s.roots[j].key = now, nil
			}
		}
		s.roots[i].promoted = now
		var err error
		s.issuer, err = newIssuer(a.cfg, s.roots[i], now)
		return err
	})
}

// Retire takes root id out of the bundle. Leaves below it are no longer accepted anywhere.
func (a *Authority) Retire(id RootID) error {
	return a.change("retire root "+string(id), func(s *state, _ time.Time) error {
		i := s.index(id)
		if i < 0 {
			return errors.New("there is no such root")
		}
		if s.roots[i].isActive() {
			return errors.New("it signs the issuer: promote another one first")
		}
		s.roots = slices.Delete(s.roots, i, i+1)
		return nil
	})
}

// RenewIssuer replaces the issuer by a new one below the same root.
func (a *Authority) RenewIssuer() error {
	return a.change("renew the issuer", func(s *state, now time.Time) error {
		r, ok := s.active()
		if !ok {
			return errors.New("no root is in use")
		}
		var err error
		s.issuer, err = newIssuer(a.cfg, r, now)
		return err
	})
}

// noteLifetime keeps how long leaves below the root in use may live: its end waits for them, whatever a later
// configuration says.
func (a *Authority) noteLifetime() error {
	return a.change("note the lifetime of leaves", func(s *state, _ time.Time) error {
		if i := slices.IndexFunc(s.roots, root.isActive); i >= 0 {
			s.roots[i].leaf = max(s.roots[i].leaf, a.cfg.LeafLifetime)
		}
		return nil
	})
}

// change applies f to a copy of the state with the next version, keeps it on disk, and then tells
// the watchers.
func (a *Authority) change(what string, f func(*state, time.Time) error) error {
	if a.cfg.Given != nil {
		return fmt.Errorf("%s: %w", what, ErrGiven)
	}
	if a.shared != nil {
		return a.changeShared(what, f)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next := &state{version: a.state.version + 1, roots: slices.Clone(a.state.roots), issuer: a.state.issuer}
	if err := f(next, a.cfg.Now()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := saveState(a.cfg, next); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	a.state = next
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}
