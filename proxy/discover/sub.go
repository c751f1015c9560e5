package discover

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// sub is one subject: a target, or the inbound policy. Everything is guarded by the Client's mu.
type sub struct {
	target mesh.Target

	// Of the present stream.
	subject uint64
	heard   uint64 // the last version that came on this stream, or that it began with
	expects bool   // a resync is asked for or about to be
	asked   time.Time
	timer   *time.Timer

	// Over streams.
	epoch    string // of held
	held     uint64 // the version in force, 0 for none
	differed int    // resyncs since a digest last agreed

	todo    todo // what there is to say of it
	queued  bool
	ack     uint64
	nack    uint64
	reason  string
	askedBy resyncReason
}

type todo uint8

const (
	todoSubscribe todo = 1 << iota
	todoAck
	todoNack
	todoResync
)

type resyncReason uint8

const (
	resyncMismatch resyncReason = iota
	resyncGap
)

// begin gives the sub a subject on a new stream, which starts from what is in force.
func (s *sub) begin(subject uint64) {
	s.stop()
	s.subject, s.heard, s.expects = subject, s.held, false
	s.todo, s.queued = 0, false
}

func (s *sub) stop() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// outbox holds what to say, at most one entry per subject: the newest. Guarded by the Client's mu.
type outbox struct {
	queue []*sub
	gone  []uint64 // subjects to unsubscribe
	wake  chan struct{}
}

func (o *outbox) push(s *sub, what todo) {
	s.todo |= what
	if !s.queued {
		s.queued = true
		o.queue = append(o.queue, s)
	}
	o.poke()
}

// drop forgets what there was to say of s and ends its subject, if the server knows it.
func (o *outbox) drop(s *sub) {
	if s.todo&todoSubscribe == 0 {
		o.gone = append(o.gone, s.subject)
		o.poke()
	}
	s.todo = 0
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default: // the sender is awake
	}
}

func (o *outbox) reset() { o.queue, o.gone = nil, nil }
