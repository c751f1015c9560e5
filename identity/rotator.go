package identity

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

// Rotation says when an authority changes. A root's life: added to the bundle when a third of its
// predecessor's is left; promoted once every watcher has acknowledged it and Settle has passed, or
// after Patience; its predecessor retired when the last leaf below it has expired.
type Rotation struct {
	// Settle is how long a new root waits at least: for bundles that are mounted, and proxies that
	// start from them; 0 is 1 h.
	Settle time.Duration
	// Patience is how long it waits at most for watchers that do not acknowledge it; 0 is a leaf's
	// lifetime, and 1 h at least.
	Patience time.Duration
	// Slack is how long after the last leaf's expiry a root is retired; 0 is 10 min.
	Slack time.Duration
}

func (r Rotation) complete(leaf time.Duration) Rotation {
	r.Settle = orDefault(r.Settle, time.Hour)
	r.Patience = max(orDefault(r.Patience, max(leaf, time.Hour)), r.Settle)
	r.Slack = orDefault(r.Slack, 10*time.Minute)
	return r
}

type stepKind uint8

const (
	stepNone stepKind = iota
	stepAdd
	stepPromote
	stepRetire
	stepIssuer
	stepLifetime
)

var stepNames = [...]string{"none", "add_root", "promote_root", "retire_root", "renew_issuer", "note_lifetime"}

func (k stepKind) String() string { return stepNames[k] }

// step is what is due, or when something will be.
type step struct {
	kind stepKind
	root RootID
	at   time.Time
}

// rules are what next decides by.
type rules struct {
	Rotation

	leaf, issuer, root time.Duration // lifetimes
	// asked: an operator wants a new root. theirs: roots are somebody else's to make.
	asked, theirs bool
}

// next returns what is due at now, or stepNone with the time of the next look. acked says whether
// all watchers hold a version.
func (r rules) next(s *state, now time.Time, acked func(version uint64) bool) step {
	later := time.Time{}
	due := func(at time.Time) bool {
		if later.IsZero() || at.Before(later) {
			later = at
		}
		return !now.Before(at)
	}
	for _, c := range s.roots {
		if !c.superseded.IsZero() && due(c.superseded.Add(max(c.leaf, r.leaf)+r.Slack)) {
			return step{kind: stepRetire, root: c.id()}
		}
	}
	active, ok := s.active()
	if !ok {
		return step{at: now.Add(time.Hour)} // given by files
	}
	if active.leaf < r.leaf.Truncate(time.Second) {
		return step{kind: stepLifetime}
	}
	if standby, ok := s.standby(); ok {
		if due(r.promotion(standby, active, acked)) {
			return step{kind: stepPromote, root: standby.id()}
		}
		later = earlier(later, now.Add(pollAcks))
	} else if !r.theirs && (r.asked || due(active.cert.NotAfter.Add(-r.root/3))) {
		return step{kind: stepAdd}
	}
	// Near its end a root cannot make an issuer that lives for long: then the next root does.
	if i := s.issuer.cert; i.NotAfter.Before(active.cert.NotAfter) && due(i.NotAfter.Add(-r.issuer/3)) {
		return step{kind: stepIssuer}
	}
	return step{at: later}
}

// pollAcks is how often a root that stands by looks for acknowledgements.
const pollAcks = 15 * time.Second

// promotion is when a standby may become active.
func (r rules) promotion(standby, active root, acked func(uint64) bool) time.Time {
	at := standby.added.Add(r.Patience)
	if acked(standby.version) {
		at = standby.added.Add(r.Settle)
	}
	// An active root that ends before all its leaves could is worse than a watcher that was not heard.
	return earlier(at, active.cert.NotAfter.Add(-r.leaf))
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (s *state) standby() (root, bool) {
	for _, r := range s.roots {
		if r.promoted.IsZero() && r.key != nil {
			return r, true
		}
	}
	return root{}, false
}

// rotator carries the steps out.
type rotator struct {
	authority *Authority
	rules     rules
	acked     func(version uint64) bool
	metrics   *metrics
	log       *zap.Logger
}

// retryStep is how long a step that failed (a full disk) is not tried again.
const retryStep = time.Minute

func (r *rotator) run(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		now := r.authority.cfg.Now()
		asked, ours := r.authority.rootAsked()
		r.rules.asked, r.rules.theirs = asked, !ours
		st := r.rules.next(r.authority.current(), now, r.acked)
		at := st.at
		if st.kind != stepNone {
			err := r.take(st)
			r.report(st, err, failing)
			failing, at = err != nil, now
			if failing {
				at = now.Add(retryStep)
			}
		}
		r.sleep(ctx, at.Sub(now))
	}
}

func (r *rotator) take(s step) error {
	switch s.kind {
	case stepAdd:
		if _, err := r.authority.AddRoot(); err != nil {
			return err
		}
		return r.authority.rootCame()
	case stepPromote:
		return r.authority.Promote(s.root)
	case stepRetire:
		return r.authority.Retire(s.root)
	case stepIssuer:
		return r.authority.RenewIssuer()
	case stepLifetime:
		return r.authority.noteLifetime()
	default:
		panic("BUG: no such step: " + s.kind.String())
	}
}

func (r *rotator) report(s step, err error, wasFailing bool) {
	switch {
	case err == nil:
		r.metrics.steps.WithLabelValues(s.kind.String()).Inc()
		r.log.Info("authority changed", zap.Stringer(logkey.Kind, s.kind), zap.String(logkey.Name, string(s.root)))
	case !wasFailing:
		r.log.Error("authority could not be changed", zap.Stringer(logkey.Kind, s.kind), zap.Error(err))
	}
}

// sleep waits until the authority changes, or for d; never for more than pollAcks, since an operator
// may ask for a root, and a suspended machine's timers do not see the time that passed.
func (r *rotator) sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	_, changed := r.authority.Trust()
	t := time.NewTimer(min(d, pollAcks))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
}
