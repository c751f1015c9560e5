package proxy

import (
	"fmt"
	"sync/atomic"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

// Target implements discover.Sink: the update is given to every worker; done
// hears once all have taken it.
func (p *Proxy) Target(u discover.Update, done func(error)) {
	tell := func() { p.all(done, func(s *shard) error { return s.hear(&u) }) }
	if len(p.shards) == 1 {
		tell()
		return
	}
	p.known.learn(&u, tell)
}

// hear takes an update of a target that the worker has.
func (s *shard) hear(u *discover.Update) error {
	t := s.targets[u.Target]
	switch {
	case t == nil:
	case len(s.p.shards) > 1 && !u.Full && !t.whole:
		// It was on its way before the worker had the target: all follows.
	case u.Policy != nil && u.Policy.Kind == mesh.TargetUnknown && len(u.Added) == 0:
		t.whole = true
		return t.unknown(u)
	default:
		t.whole = t.whole || u.Full
		t.update(u)
	}
	return nil
}

// unknown takes discovery's word that it does not know a target (R11.4).
func (t *target) unknown(u *discover.Update) error {
	p := t.s.p
	t.version = u.Version
	if !p.cfg.Strict && t.key.Addr.IsValid() && !p.inCluster(t.key.Addr.Addr()) {
		policy := *u.Policy
		policy.Service, policy.Port = t.key.Addr.Addr().String(), t.key.Addr.Port()
		t.external(&policy)
		t.wake()
		return nil
	}
	t.update(u)
	return nil
}

// Inbound implements discover.Sink.
func (p *Proxy) Inbound(in *mesh.InboundPolicy, _ uint64, done func(error)) {
	p.inbound.Store(in)
	p.all(done, func(s *shard) error { s.setInbound(in); return nil })
}

// Digest implements discover.Sink: what the balancers hold. Workers that differ
// from each other answer with a digest that agrees with nothing.
func (p *Proxy) Digest(key mesh.Target, version uint64, answer func(have uint64, atVersion bool)) {
	got := make(chan said, len(p.shards))
	var left atomic.Int32
	left.Store(int32(len(p.shards)))
	one := func(r said) {
		got <- r
		if left.Add(-1) > 0 {
			return
		}
		sum, at, held := uint64(0), true, false
		for range len(p.shards) {
			r := <-got
			if !r.held {
				continue
			}
			if held && r.have != sum {
				sum, at = ^r.have, at && r.at
				break
			}
			sum, at, held = r.have, at && r.at, true
		}
		answer(sum, at && held)
	}
	for _, s := range p.shards {
		ok := s.w.Post(func() {
			t := s.targets[key]
			if t == nil || t.outside() {
				one(said{})
				return
			}
			s.audit(t, said{have: t.bal.Told(), at: t.version == version, held: true}, one)
		})
		if !ok {
			one(said{})
		}
	}
}

// outside reports whether the target's endpoint is the dialled address
// itself, of which discovery knows nothing.
func (t *target) outside() bool {
	return t.resolved() && t.policy.Kind == mesh.TargetUnknown
}

// Connected implements discover.Sink.
func (p *Proxy) Connected(up bool) {
	if p.connected.Swap(up) != up {
		p.log.Info("discovery stream", logUp(up))
	}
	p.each(func(s *shard) { s.connected(up) })
}

// connected notes since when nothing new has been heard.
func (s *shard) connected(up bool) {
	switch {
	case up:
		s.downSince = 0
	case s.downSince == 0:
		s.downSince = s.now()
	}
}

// forgetStale drops what is known of targets once it is too old to be believed (R11.4).
func (s *shard) forgetStale(now mono.Time) {
	if s.downSince == 0 || now.Sub(s.downSince) < s.p.cfg.Timeouts.Stale {
		return
	}
	for _, t := range s.targetList {
		t.forget()
	}
}

// all runs f on every worker and tells done of the first error, or of success,
// once all have run.
func (p *Proxy) all(done func(error), f func(s *shard) error) {
	var left atomic.Int32
	var failed atomic.Pointer[error]
	left.Store(int32(len(p.shards)))
	end := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		if left.Add(-1) > 0 {
			return
		}
		if e := failed.Load(); e != nil {
			done(*e)
			return
		}
		done(nil)
	}
	for _, s := range p.shards {
		if !s.w.Post(func() { end(f(s)) }) {
			end(fmt.Errorf("the proxy is ending"))
		}
	}
}
