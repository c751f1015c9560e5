package balance

import (
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	// spillHealth: home takes all while it has this share of its endpoints in service; below, as
	// much as they can carry when each takes 1/spillHealth of its usual part (rule R6.3).
	spillHealth = 0.7
	// spillLoad: home spills when it is that much slower than away, or than usual.
	spillLoad = 2
	// sampleAfter is how old the last sample of a loser may be, sampleShare how many requests may
	// go to losers to get one.
	sampleAfter = 3 * time.Second
	sampleShare = 0.02
	// restingCost is the factor of one that asked to be left alone.
	restingCost = 1e12
	// draws is how often a draw is repeated when its winner cannot be taken.
	draws = 4
)

// Pick chooses an endpoint for a request or connection; avoid are those that it has been to. It is
// false when none is left: WhyNone says why. It does not allocate, and takes the same time for three
// endpoints as for ten thousand.
func (b *Balancer) Pick(now mono.Time, avoid []*Endpoint) (*Endpoint, bool) {
	if b.cfg.Kind == mesh.BalanceSource {
		b.letIn(now)
	} else if e := b.probe(now, avoid); e != nil {
		return e, true
	}
	for range draws {
		e := b.pick(now, avoid)
		if e == nil {
			return nil, false
		}
		if !b.follow(e) {
			return e, true
		}
	}
	e := b.pick(now, avoid)
	return e, e != nil
}

func (b *Balancer) pick(now mono.Time, avoid []*Endpoint) *Endpoint {
	first, second := b.order()
	e := b.from(first, now, avoid)
	switch {
	case e == nil:
		e = b.from(second, now, avoid)
	case first == home && len(b.rooms[away].all) > 0 && b.spills(e, now):
		if far := b.from(away, now, avoid); far != nil {
			return far
		}
	}
	if e == nil {
		e = b.from(ending, now, avoid)
	}
	return e
}

// order says which of home and away is asked first: home while it is healthy enough, else as often
// as it can carry.
func (b *Balancer) order() (first, second room) {
	in := len(b.rooms[home].all)
	if in == 0 || len(b.rooms[away].all) == 0 || b.cfg.Kind == mesh.BalanceSource {
		return home, away
	}
	carry := float64(in) / (spillHealth * float64(b.homes))
	if carry >= 1 || b.rng.Float64() < carry {
		return home, away
	}
	return away, home
}

// spills reports whether a request that e of home would get goes away instead: by chance, as often
// as home is slower than spillLoad times what away takes, or what is usual when nobody was away of
// late. Means are compared with means; an endpoint's silence is a bound of its own.
func (b *Balancer) spills(e *Endpoint, now mono.Time) bool {
	if b.cfg.Kind != mesh.BalanceEWMA {
		return false
	}
	ref := b.usual.value
	if far := &b.means[away]; far.at != 0 && now.Sub(far.at) < usualTau {
		ref = far.value
	}
	slow := max(b.means[home].value, e.silence(now))
	return spillLoad*ref < slow && b.rng.Float64()*slow > spillLoad*ref
}

// from chooses within one room; nil when there is nobody that is not avoided.
func (b *Balancer) from(r room, now mono.Time, avoid []*Endpoint) *Endpoint {
	all := b.rooms[r].all
	if len(all) == 0 {
		return nil
	}
	switch b.cfg.Kind {
	case mesh.BalanceRoundRobin:
		return b.roundRobin(all, now, avoid)
	case mesh.BalanceRandom:
		return b.random(all, now, avoid)
	case mesh.BalanceSource:
		return b.bySource(r, avoid)
	}
	var best *Endpoint
	for range draws {
		best = b.ofTwo(all, now, avoid)
		if best == nil || best.resting <= now {
			break
		}
	}
	return best
}

// ofTwo draws two and returns the cheaper one.
func (b *Balancer) ofTwo(all []*Endpoint, now mono.Time, avoid []*Endpoint) *Endpoint {
	x := b.draw(all, avoid)
	if x == nil || len(all) == 1 {
		return x
	}
	i := b.rng.IntN(len(all) - 1)
	if i >= x.pos {
		i++
	}
	y := all[i]
	if slices.Contains(avoid, y) {
		return x
	}
	if b.cost(y, now) < b.cost(x, now) {
		x, y = y, x
	}
	if y.Load() == 0 && b.even(x, y, now) {
		return y
	}
	return b.refresh(x, y, now)
}

// even lets an idle loser be taken now and then, each of the two with a probability that goes with
// its weight and the inverse cube of its unweighted cost: equals are even, at twice the latency it is
// a ninth, at ten times a thousandth. Without it the cheaper of two idle equals takes everything until
// it has a peak of its own, and weights mean nothing while nothing is in flight.
func (b *Balancer) even(winner, loser *Endpoint, now mono.Time) bool {
	if loser.resting > now {
		return false
	}
	ww, wl := winner.weight(now), loser.weight(now)
	c := (b.cost(winner, now) * ww) / (b.cost(loser, now) * wl)
	c = c * c * c
	return b.rng.Float64()*(ww+wl*c) < wl*c
}

// cost is what R6.1 compares. One that asked to be left alone is dearer than all that did not.
func (b *Balancer) cost(e *Endpoint, now mono.Time) float64 {
	c := float64(e.Load()+1) / e.weight(now)
	if b.cfg.Kind == mesh.BalanceEWMA {
		c *= e.latency(now)
	}
	if e.resting > now {
		c *= restingCost
	}
	return c
}

// refresh returns the loser instead of the winner when it has had no sample for long: few requests
// may pay for knowing when a slow endpoint has recovered.
func (b *Balancer) refresh(winner, loser *Endpoint, now mono.Time) *Endpoint {
	b.spare = min(b.spare+sampleShare, 1)
	age := sampleAfter << min(loser.waiting, 5) // those who wait already will tell, unless it hangs
	if b.spare < 1 || b.cfg.Kind != mesh.BalanceEWMA || loser.resting > now || now.Sub(loser.sampled) < age {
		return winner
	}
	b.spare--
	loser.sampled = now
	return loser
}

// draw returns one that is not avoided. After a few draws in vain it takes the next one in the list:
// only as many as are avoided can be in the way.
func (b *Balancer) draw(all, avoid []*Endpoint) *Endpoint {
	var i int
	for range draws {
		if i = b.rng.IntN(len(all)); !slices.Contains(avoid, all[i]) {
			return all[i]
		}
	}
	for range min(len(all), len(avoid)+1) {
		if e := all[i]; !slices.Contains(avoid, e) {
			return e
		}
		i = (i + 1) % len(all)
	}
	return nil
}

// weighTries bounds how long weighted choices look for one that its weight allows.
const weighTries = 32

// roundRobin goes round; each visit earns an endpoint its part of the largest weight, a whole one is
// a turn.
func (b *Balancer) roundRobin(all []*Endpoint, now mono.Time, avoid []*Endpoint) *Endpoint {
	var some *Endpoint
	for range min(len(all), len(avoid)+1) + weighTries {
		b.cursor = (b.cursor + 1) % len(all)
		e := all[b.cursor]
		if slices.Contains(avoid, e) || e.resting > now && some != nil {
			continue
		}
		some = e
		if e.credit += e.weight(now) / b.heaviest(); e.credit >= 1 && e.resting <= now {
			e.credit--
			return e
		}
	}
	return some
}

// random accepts what it draws with the probability of its weight.
func (b *Balancer) random(all []*Endpoint, now mono.Time, avoid []*Endpoint) *Endpoint {
	var e *Endpoint
	for range weighTries {
		if e = b.draw(all, avoid); e == nil {
			return nil
		}
		if e.resting <= now && b.rng.Float64()*b.heaviest() <= e.weight(now) {
			return e
		}
	}
	return e
}
