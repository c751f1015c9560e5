package exchange

import (
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// What exchanges and their connections keep for others' sake, and how they give it
// up when memory is short (R4.2, R4.5). wire.Conn asks, from a task of its own:
// no engine is iterated then.

var (
	_ wire.Keeper = (*H2Server)(nil)
	_ wire.Keeper = (*H2Client)(nil)
	_ wire.Keeper = (*h1Server)(nil)
)

// forget gives up what only another attempt would need, if the request began
// before t and all that is known of it went upstream.
func (x *Exchange) forget(t mono.Time) {
	if x.up == nil || x.buf == nil || x.Started >= t {
		return
	}
	v := x.Req.Version // what an answer is framed by
	x.freeRequest()
	x.Req.Version = v
}

// evictUp ends an exchange whose server does not take the request.
func (x *Exchange) evictUp() {
	if x.flags.respHead {
		x.Break(h2.ErrCodeEnhanceYourCalm)
		return
	}
	x.dropUp(h2.ErrCodeCancel)
	x.Answer(Answer{Status: 503, GRPC: 14, Reason: wire.ErrEvicted.Error(), RetryAfter: 1})
}

// Oldest implements wire.Keeper.
func (k *h2Conn) Oldest() mono.Time {
	if k.gone {
		return 0
	}
	since := k.e.Partial()
	if s, t := k.e.Oldest(); s != nil && (since == 0 || t < since) {
		return t
	}
	return since
}

// Evict implements wire.Keeper: the stream whose reader has stopped for longest is
// reset. That its exchange may be over already is of no matter: a short response
// waits in the engine alone.
func (k *h2Conn) Evict() bool {
	st, t := k.e.Oldest()
	if p := k.e.Partial(); st == nil || p != 0 && p <= t {
		return false
	}
	k.evict(st)
	k.dirty()
	k.settled()
	return true
}

func (k *h2Conn) evict(st *h2.Stream) {
	s, _ := st.User.(*h2Stream)
	switch {
	case s == nil || s.x == nil:
		k.e.Evict(st)
		if s != nil {
			k.forget(s)
		}
	case s.up:
		s.x.evictUp()
	default:
		s.x.Break(h2.ErrCodeEnhanceYourCalm)
	}
}

// Forget implements wire.Keeper.
func (k *h2Conn) Forget(t mono.Time) {
	for s := range k.streams.All() {
		if s.x != nil && !s.up {
			s.x.forget(t)
		}
	}
}

// Oldest implements wire.Keeper.
func (s *h1Server) Oldest() mono.Time { return s.pipelined }

// Evict implements wire.Keeper: a request that waits behind another goes with its
// connection.
func (s *h1Server) Evict() bool { return false }

// Forget implements wire.Keeper.
func (s *h1Server) Forget(t mono.Time) {
	if s.x != nil {
		s.x.forget(t)
	}
}
