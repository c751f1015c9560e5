package destination

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/discoverypb"
	"github.com/tulle-mesh/tulle/internal/logkey"
)

// receive obeys the proxy until the stream ends.
func (st *stream) receive(in pb.Discovery_SyncServer) error {
	for {
		m, err := in.Recv()
		if err != nil {
			return err
		}
		if err := st.handle(m); err != nil {
			return err
		}
	}
}

// handle obeys one message; kinds that are not known are ignored. An error ends the stream.
func (st *stream) handle(m *pb.SyncRequest) error {
	switch m := m.GetMessage().(type) {
	case *pb.SyncRequest_Hello:
		return st.refuse(refusal{code: pb.RefusalCode_REFUSAL_CODE_MALFORMED, reason: "a second hello"})
	case *pb.SyncRequest_Subscribe:
		return st.subscribe(m.Subscribe)
	case *pb.SyncRequest_Unsubscribe:
		st.unsubscribe(m.Unsubscribe.GetSubject())
	case *pb.SyncRequest_Ack:
		st.ack(m.Ack)
	case *pb.SyncRequest_Nack:
		st.nack(m.Nack)
	case *pb.SyncRequest_Resync:
		st.resync(m.Resync)
	case *pb.SyncRequest_Report:
		st.server.reported(st, m.Report)
	}
	return nil
}

func (st *stream) subscribe(m *pb.Subscribe) error {
	target, err := discoverypb.DecodeTarget(m.GetTarget())
	r := refusal{subject: m.GetSubject(), code: pb.RefusalCode_REFUSAL_CODE_MALFORMED}
	if err != nil {
		r.reason = err.Error()
		return st.refuse(r)
	}
	s := &subject{
		id: m.GetSubject(), stream: st,
		target: st.server.cfg.Store.Settings().Canonical(target),
	}
	if k := m.GetKnown(); st.digests && k.GetEpoch() == st.server.cfg.Epoch {
		s.acked.version, s.echo = k.GetVersion(), true
	}
	if why := st.admit(s); why != nil {
		r.code, r.reason = why.code, why.reason
		return st.refuse(r)
	}
	st.server.hub.subscribe(s)
	if !st.stillThere(s) {
		st.server.hub.unsubscribe(s) // the stream ended meanwhile and has left the hub
		return nil
	}
	st.queue(s)
	return nil
}

// admit takes a new subject in, or says why not.
func (st *stream) admit(s *subject) *refusal {
	st.mu.Lock()
	defer st.mu.Unlock()
	limit := st.server.cfg.MaxTargets
	switch {
	case st.subjects[s.id] != nil:
		return &refusal{
			code:   pb.RefusalCode_REFUSAL_CODE_MALFORMED,
			reason: fmt.Sprintf("subject %d is in use", s.id),
		}
	case len(st.subjects)-1 >= limit:
		return &refusal{
			code:   pb.RefusalCode_REFUSAL_CODE_TOO_MANY,
			reason: fmt.Sprintf("target %s: this proxy has %d subscriptions already, the limit", s.target, limit),
		}
	}
	st.subjects[s.id] = s
	return nil
}

func (st *stream) stillThere(s *subject) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return !st.ended && st.subjects[s.id] == s
}

func (st *stream) unsubscribe(id uint64) {
	st.mu.Lock()
	s := st.subjects[id]
	if id != 0 {
		delete(st.subjects, id)
	}
	st.mu.Unlock()
	if s != nil && id != 0 {
		st.server.hub.unsubscribe(s)
	}
}

// end takes everything out of the hub.
func (st *stream) end() {
	st.mu.Lock()
	st.ended = true
	var all []*subject
	for id, s := range st.subjects {
		if id != 0 {
			all = append(all, s)
		}
	}
	st.mu.Unlock()
	st.server.hub.leave(st, all)
}

func (st *stream) ack(m *pb.Ack) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.subjects[m.GetSubject()]
	if s == nil || !s.ack(m.GetVersion()) {
		return
	}
	st.server.metrics.acks.Inc()
	if !s.since.IsZero() {
		st.server.metrics.latency.Observe(time.Since(s.since).Seconds())
		s.since = time.Time{}
	}
	st.queueLocked(s)
}

func (st *stream) nack(m *pb.Nack) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.subjects[m.GetSubject()]
	if s == nil || !s.nack(m.GetVersion(), cut(m.GetReason(), 1024), time.Now()) {
		return
	}
	st.server.metrics.nacks.Inc()
	st.server.cfg.Log.Warn("a proxy refused a version",
		zap.String(logkey.Proxy, st.name()), zap.String(logkey.Target, s.name()),
		zap.Uint64(logkey.Revision, m.GetVersion()), zap.String(logkey.Reason, m.GetReason()))
	st.queueLocked(s)
}

func (st *stream) resync(m *pb.Resync) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.subjects[m.GetSubject()]
	if s == nil {
		return
	}
	st.server.metrics.resyncs.WithLabelValues(m.GetReason().String()).Inc()
	s.resync()
	st.queueLocked(s)
}

func (s *subject) name() string {
	if s.id == 0 {
		return "inbound policy"
	}
	return s.target.String()
}

// name is the proxy as logs and reports call it.
func (st *stream) name() string {
	if st.asked.Name != "" {
		return st.asked.String()
	}
	return string(st.identity)
}
