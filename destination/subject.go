package destination

import (
	"time"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// subject is what one stream was told of one target, or of its inbound policy. It is guarded by the
// stream's mu and has no behaviour of its own beyond deciding what to say next.
type subject struct {
	id     uint64
	stream *stream
	target mesh.Target // canonical

	queued bool
	since  time.Time // when it was queued and had nothing to do before; for the latency metric

	sent    told // the last version that left
	acked   told // the version that the proxy stands on
	unknown bool // what left said that the target is unknown

	inFlight bool // sent is not answered yet
	sentAt   time.Time
	late     int // versions in a row that were not answered in time

	whole bool // what leaves next must not be a change
	force bool // something must leave even if the proxy stands on the newest version
	echo  bool // a digest must leave: the proxy came back and stands on the newest version

	refused *refused // the last answer was a refusal
}

// told is a version with the digest of its rows; the zero value is none.
type told struct {
	version   uint64
	digest    uint64
	endpoints int
}

type refused struct {
	version uint64
	reason  string
	at      time.Time
}

// plan is what to say of a subject.
type plan struct {
	subject uint64
	version uint64
	table   *state.Table // nil: unknown
	inbound *mesh.InboundPolicy
	base    uint64 // of a change; 0 for the whole
	delta   state.Delta
	digest  bool // only the digest of sent
}

// next decides what to say of a target now to a client on a node, and notes it as sent. It is not ok
// when there is nothing to say.
func (s *subject) next(snap *state.Snapshot, node string, now time.Time) (p plan, ok bool) {
	if s.inFlight && !s.force {
		return plan{}, false // the answer will queue it again
	}
	table, since := snap.ResolveFor(s.target, node)
	if table == nil {
		return s.nextUnknown(snap, now)
	}
	version := max(table.Version, since)
	refusedIt := s.refused != nil && s.refused.version == version
	switch {
	case s.force:
	case version == s.acked.version:
		return s.nextDigest(table, version)
	case version < s.acked.version || refusedIt:
		return plan{}, false // a replica that lags behind must not move a proxy backwards
	}
	p = plan{subject: s.id, version: version, table: table}
	if base := s.acked.version; !s.whole && base >= since && base < version && base > 0 {
		if d, ok := table.Since(base); ok {
			p.base, p.delta = base, d
		}
	}
	s.unknown = false
	s.leaves(told{version, table.Digest(), table.Len()}, now)
	return p, true
}

// nextDigest confirms to a proxy that came back what it holds.
func (s *subject) nextDigest(table *state.Table, version uint64) (plan, bool) {
	if !s.echo {
		return plan{}, false
	}
	s.echo = false
	s.sent = told{version, table.Digest(), table.Len()}
	s.acked = s.sent
	return plan{subject: s.id, digest: true}, true
}

func (s *subject) nextUnknown(snap *state.Snapshot, now time.Time) (plan, bool) {
	refusedIt := s.refused != nil && s.refused.version == snap.Version
	if !s.force && (s.unknown || refusedIt) {
		return plan{}, false
	}
	var none mesh.Digest
	s.unknown = true
	s.leaves(told{snap.Version, none.Value(), 0}, now)
	return plan{subject: s.id, version: snap.Version}, true
}

// leaves notes that a version is under way.
func (s *subject) leaves(t told, now time.Time) {
	s.sent = t
	s.inFlight, s.sentAt = true, now
	s.whole, s.force, s.echo, s.refused = false, false, false, nil
}

// nextInbound does the same for the inbound policy.
func (s *subject) nextInbound(in *state.Inbound, now time.Time) (plan, bool) {
	if s.inFlight && !s.force {
		return plan{}, false
	}
	refusedIt := s.refused != nil && s.refused.version == in.Version
	if !s.force && (in.Version == s.acked.version || refusedIt) {
		return plan{}, false
	}
	s.leaves(told{version: in.Version}, now)
	return plan{version: in.Version, inbound: in.Policy}, true
}

// ack takes the proxy's word that a version is in force.
func (s *subject) ack(version uint64) bool {
	if !s.inFlight || version != s.sent.version {
		return false
	}
	s.inFlight, s.late, s.acked = false, 0, s.sent
	return true
}

// nack takes the proxy's refusal: it stands on what it acknowledged last, and the next version is
// sent whole.
func (s *subject) nack(version uint64, reason string, now time.Time) bool {
	if !s.inFlight || version != s.sent.version {
		return false
	}
	s.inFlight, s.late, s.whole, s.unknown = false, 0, true, false
	s.sent = s.acked
	s.refused = &refused{version: version, reason: reason, at: now}
	return true
}

// resync makes the whole leave as soon as it can.
func (s *subject) resync() {
	s.force, s.whole, s.inFlight, s.refused = true, true, false, nil
}

// overdue reports whether the answer is late by now, and makes the whole leave if so.
func (s *subject) overdue(now time.Time, timeout time.Duration) bool {
	if !s.inFlight || now.Sub(s.sentAt) < timeout<<min(s.late, 5) {
		return false
	}
	s.late++
	s.resync()
	return true
}
