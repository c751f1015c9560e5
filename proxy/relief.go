package proxy

import (
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/slab"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// Who keeps memory that others want gives it up (R4.2, R4.5). A reader that stops
// costs nobody anything until the budget is nearly used up and new work comes, or is exceeded: then
// first what only another attempt would need is forgotten, and then what has waited
// longest for its reader is reset, as much as it takes. So neither one client nor
// many that stand still can have the budget to themselves, and a paused download
// goes on after an hour where nobody wanted its memory.
//
// Longest means that of all bytes that wait the first in line came earliest: a
// reader that takes a byte now and then is no younger for it, and one that keeps
// pace is always young.

// reliefAge is what nobody has taken for so long that it may be given up.
const reliefAge = time.Second

// reliefEvery is how long nothing is looked for again after nothing was found.
const reliefEvery = 100 * time.Millisecond

// reliefPass is how many are given up before the worker does something else.
const reliefPass = 64

// relief is what a shard knows of a shortage of memory.
type relief struct {
	queued bool
	until  mono.Time // nothing is looked for before that
	told   bool
	timer  loop.Timer
}

// relieve is called where new work comes, and when more is kept than may be. It looks for memory in the next phase of
// the turn, when no engine is iterated.
func (s *shard) relieve() {
	switch {
	case s.relief.queued || !s.p.budget.Tight():
	case s.now() < s.relief.until:
		s.w.Arm(&s.relief.timer, s.relief.until, s, timerRelief)
	default:
		s.relief.queued = true
		s.w.Soon((*relieving)(s))
	}
}

// relieving is a shard that looks for memory.
type relieving shard

// Run implements loop.Task.
func (r *relieving) Run() {
	s := (*shard)(r)
	s.relief.queued = false
	old := s.now().Add(-reliefAge)
	for c := range s.wire.Conns() {
		c.Forget(old)
	}
	n := s.evict(old)
	switch {
	case !s.p.budget.Tight():
		s.relief.told = false
	case n == 0:
		s.relief.until = s.now().Add(reliefEvery)
		s.p.relieveOthers(s)
		if s.w.Pool().Level() == slab.LevelFull { // whoever comes next is refused
			s.w.Arm(&s.relief.timer, s.relief.until, s, timerRelief)
		}
	default:
		s.relieve()
	}
}

// evict gives up what waits longest, and what waits about as long, while memory is
// short; it returns how much that was.
func (s *shard) evict(old mono.Time) int {
	first := old
	for c := range s.wire.Conns() {
		if t := c.Oldest(); t != 0 && t < first {
			first = t
		}
	}
	if first == old {
		return 0
	}
	n := 0
	about := first.Add(s.now().Sub(first) / 8)
	for c := range s.wire.Conns() {
		for stands := true; stands && n < reliefPass && s.p.budget.Tight(); n++ {
			t := c.Oldest()
			if t == 0 || t > about {
				break
			}
			stands = s.evictFrom(c, t)
		}
	}
	return n
}

func (s *shard) evictFrom(c *wire.Conn, since mono.Time) bool {
	b := s.p.budget
	if !s.relief.told {
		s.relief.told = true
		s.p.log.Warn("memory is short: what waits longest for its reader is reset", zap.Int64("used", b.Used()), zap.Int64("limit", b.Limit()))
	}
	peer, waited := c.Info.Remote, s.now().Sub(since)
	stands := c.Evict()
	s.store.Proxy.Evicted++
	s.p.log.Debug("a flow was reset to make room", logAddr(peer), zap.Duration(logkey.Duration, waited), zap.Bool(logkey.Connected, stands))
	return stands
}

// relieveOthers asks the workers beside s for memory.
func (p *Proxy) relieveOthers(s *shard) {
	for _, o := range p.shards {
		if o != s {
			o.w.Post(o.relieve)
		}
	}
}
