package destination

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// stream is one proxy's. Two goroutines of the server's share it: one receives, one sends.
type stream struct {
	server   *Server
	identity mesh.Identity
	asked    state.Name // the workload that the hello named, zero for none
	version  string     // the proxy's
	since    time.Time
	deltas   bool // the client takes changes
	digests  bool
	inbound  *subject

	wake chan struct{} // holds a token while there is something to say

	mu       sync.Mutex // guards below; never held while encoding or sending
	subjects map[uint64]*subject
	pending  []*subject // each at most once, in the order in which they were queued
	refusals []refusal
	bound    refusal // what the inbound policy was refused for last, so that it is said once
	ended    bool    // the stream left the hub
}

type refusal struct {
	subject uint64
	code    pb.RefusalCode
	reason  string
	retry   time.Duration
}

type digest struct {
	subject, version, value uint64
	endpoints               int
}

// maxRefusals bounds the answers that wait for a client that asks nonsense and does not read.
const maxRefusals = 64

func newStream(s *Server, id mesh.Identity, h *pb.ClientHello) *stream {
	st := &stream{
		server: s, identity: id, version: h.GetProxyVersion(), since: time.Now(),
		asked:    state.Name{Namespace: h.GetWorkload().GetNamespace(), Name: h.GetWorkload().GetName()},
		wake:     make(chan struct{}, 1),
		subjects: make(map[uint64]*subject),
	}
	for _, f := range h.GetFeatures() {
		st.deltas = st.deltas || f == pb.Feature_FEATURE_DELTA
		st.digests = st.digests || f == pb.Feature_FEATURE_DIGEST_1
	}
	st.inbound = &subject{stream: st}
	st.subjects[0] = st.inbound
	return st
}

// queue notes that there may be something to say of a subject.
func (st *stream) queue(s *subject) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.queueLocked(s)
}

func (st *stream) queueLocked(s *subject) {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	if !s.queued {
		s.queued = true
		st.pending = append(st.pending, s)
	}
	st.poke()
}

func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default: // the sender is awake
	}
}

// refuse queues a refusal. A client that asks for too much at once loses its stream.
func (st *stream) refuse(r refusal) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.server.metrics.refusals.WithLabelValues(r.code.String()).Inc()
	if len(st.refusals) >= maxRefusals {
		return fmt.Errorf("more than %d refused requests wait to be answered", maxRefusals)
	}
	st.refusals = append(st.refusals, r)
	st.poke()
	return nil
}

// workload finds the workload that the caller is. It never goes beyond the caller's identity.
func (st *stream) workload(snap *state.Snapshot) (*state.Workload, refusal) {
	later := refusal{code: pb.RefusalCode_REFUSAL_CODE_UNKNOWN_WORKLOAD}
	if st.asked == (state.Name{}) {
		var found []*state.Workload
		for w := range snap.WorkloadsOf(st.identity) {
			found = append(found, w)
		}
		if len(found) == 1 {
			return found[0], refusal{}
		}
		later.reason = fmt.Sprintf("%s: %d workloads have this identity, name yours in the hello", st.identity, len(found))
		return nil, later
	}
	w := snap.Workload(st.asked)
	switch {
	case w == nil:
		later.reason = fmt.Sprintf("workload %s is not known (yet)", st.asked)
		return nil, later
	case w.Identity != st.identity || !w.Proxied:
		return nil, refusal{
			code:   pb.RefusalCode_REFUSAL_CODE_NOT_YOURS,
			reason: fmt.Sprintf("%s may not be workload %s: check its serviceAccount and proxied", st.identity, st.asked),
		}
	}
	return w, refusal{}
}

// firstDigest is when a stream's first digests leave: whoever comes back is to be known to agree within seconds.
const firstDigest = time.Second

// send says what there is to say until ctx ends or the network fails.
func (st *stream) send(ctx context.Context, out pb.Discovery_SyncServer) error {
	w, _ := st.workload(st.server.cfg.Store.Snapshot())
	if err := out.Send(st.server.hello(w)); err != nil {
		return err
	}
	st.queue(st.inbound)
	tick := time.NewTimer(min(firstDigest, st.server.digestWait()))
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-st.wake:
			err = st.flush(out)
		case <-tick.C:
			err = st.digest(out)
			tick.Reset(st.server.digestWait())
		}
		if err != nil {
			return err
		}
	}
}

// flush empties the queue.
func (st *stream) flush(out pb.Discovery_SyncServer) error {
	for _, r := range st.takeRefusals() {
		if err := out.Send(encodeRefusal(r)); err != nil {
			return err
		}
	}
	for {
		p, ok, more := st.next()
		if !more {
			return nil
		}
		if !ok {
			continue
		}
		if err := out.Send(st.encode(p)); err != nil {
			return err
		}
	}
}

func (st *stream) takeRefusals() []refusal {
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.refusals
	st.refusals = nil
	return r
}

// next takes the first subject from the queue and plans what to say of it; more is false when the
// queue is empty. The snapshot is read as late as this, so that what leaves is the newest.
func (st *stream) next() (p plan, ok, more bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.pending) == 0 {
		st.pending = nil
		return plan{}, false, false
	}
	s := st.pending[0]
	st.pending = st.pending[1:]
	s.queued = false
	now, snap := time.Now(), st.server.cfg.Store.Snapshot()
	if st.subjects[s.id] != s {
		return plan{}, false, true // unsubscribed meanwhile
	}
	if s == st.inbound {
		p, ok = st.nextInbound(snap, now)
	} else {
		p, ok = s.next(snap, st.node(snap), now)
	}
	if !ok && !s.inFlight {
		s.since = time.Time{}
	}
	return p, ok, true
}

// node is where the caller runs; "" is not known. A Service may be local to it.
func (st *stream) node(snap *state.Snapshot) string {
	if w := snap.Workload(st.asked); w != nil && w.Identity == st.identity {
		return w.Node
	}
	return ""
}

// nextInbound plans the inbound policy, or refuses it, once for each cause.
func (st *stream) nextInbound(snap *state.Snapshot, now time.Time) (plan, bool) {
	w, why := st.workload(snap)
	if w == nil {
		if st.bound != why {
			st.bound = why
			st.server.metrics.refusals.WithLabelValues(why.code.String()).Inc()
			st.refusals = append(st.refusals, why)
			st.poke()
		}
		return plan{}, false
	}
	st.bound = refusal{}
	in := snap.Inbound(w.Name)
	return st.inbound.nextInbound(in, now)
}

// encode makes the message of a plan.
func (st *stream) encode(p plan) *pb.SyncResponse {
	m := st.server.metrics
	switch {
	case p.inbound != nil:
		m.inbound.Inc()
		return encodeInbound(p.version, p.inbound)
	case p.digest:
		st.mu.Lock()
		defer st.mu.Unlock()
		m.digests.Inc()
		return encodeDigest(st.subjects[p.subject].toDigest())
	}
	if !st.deltas {
		p.base = 0
	}
	switch {
	case p.table == nil:
		m.unresolved.Inc()
	case p.base == 0:
		m.full.Inc()
	default:
		m.delta.Inc()
	}
	return st.server.encoder.target(p, st.identity.Namespace(), time.Now())
}

func (s *subject) toDigest() digest {
	return digest{subject: s.id, version: s.sent.version, value: s.sent.digest, endpoints: s.sent.endpoints}
}

// digest sends what the proxy must hold, and the whole of what it did not answer for in time.
func (st *stream) digest(out pb.Discovery_SyncServer) error {
	for _, d := range st.takeDigests(time.Now()) {
		st.server.metrics.digests.Inc()
		if err := out.Send(encodeDigest(d)); err != nil {
			return err
		}
	}
	return nil
}

func (st *stream) takeDigests(now time.Time) []digest {
	st.mu.Lock()
	defer st.mu.Unlock()
	var ds []digest
	for id, s := range st.subjects {
		if s.overdue(now, st.server.cfg.AckTimeout) {
			st.server.metrics.overdue.Inc()
			st.queueLocked(s)
			continue
		}
		if id != 0 && s.sent.version != 0 && !s.force && st.digests && st.server.cfg.DigestInterval > 0 {
			ds = append(ds, s.toDigest())
		}
	}
	return ds
}
