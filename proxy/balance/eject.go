package balance

import (
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	// backoffFirst and backoffLast bound how long an ejection lasts (rule R6.4); up to half of it is
	// jitter, so the largest base is 40 s.
	backoffFirst = time.Second
	backoffLast  = 40 * time.Second
	// healthyFor is how long an endpoint must have been back for its next ejection to be short again.
	healthyFor = time.Minute
)

// floor is how many endpoints stay in service whatever they do: when that many fail, the cause is
// hardly theirs alone, and taking them out would only turn some failures into all. Those that nobody
// reaches do not count while another one works: it takes no less load for their sake, and each
// request that tries them waits for a connection in vain.
func (b *Balancer) floor() int {
	n, works := len(b.index), false
	b.Each(func(e *Endpoint) {
		switch {
		case e.br.Unreachable():
			n--
		case e.room != out && e.rate.good > 0 && e.br.Failures() == 0:
			works = true
		}
	})
	if !works {
		n = len(b.index)
	}
	return max(1, (n*b.cfg.FloorPercent+99)/100)
}

func (b *Balancer) inService() int { return len(b.index) - len(b.rooms[out].all) }

// eject takes e out of service, unless the floor keeps it.
func (b *Balancer) eject(e *Endpoint, now mono.Time) {
	floor := b.floor()
	if b.inService()-1 < floor {
		b.stats.Kept++
		b.keepFloor(now) // the last one that worked may have made it larger
		return
	}
	d := b.backoff(e.br.Round(now.Add(-healthyFor)))
	if b.share == nil {
		e.br.Open(now.Add(d))
	} else if !b.share.Eject(e.br, now.Add(d), len(b.index)-floor) {
		b.stats.Kept++
		return
	}
	b.stats.Ejections++
	if b.cfg.Opened != nil {
		*b.cfg.Opened++
	}
	e.outFor = d
	b.putOut(e)
}

// putOut moves e to where its breaker says that it is.
func (b *Balancer) putOut(e *Endpoint) {
	b.leave(e)
	e.probeAt = e.br.Until()
	b.enter(e, out)
}

// again keeps an ejected endpoint out for longer: its probe failed.
func (b *Balancer) again(e *Endpoint, now mono.Time) {
	e.outFor = b.backoff(e.br.Round(0))
	e.br.Again(now.Add(e.outFor))
	e.probeAt = now.Add(e.outFor)
	b.fixOut(e)
}

func (b *Balancer) backoff(round uint32) time.Duration {
	d := backoffLast
	if round < 6 {
		d = min(backoffFirst<<round, backoffLast)
	}
	return d + time.Duration(b.rng.Int64N(int64(d/2)))
}

// readmit puts e back into service: its probe was answered.
func (e *Endpoint) readmit(now mono.Time) {
	b := e.b
	if b == nil || e.room != out {
		return
	}
	if b.share != nil {
		b.share.Readmit(e.br, now)
	} else {
		e.br.Close(now)
	}
	b.stats.Readmissions++
	b.takeIn(e, now)
}

// takeIn moves e from out to where it belongs.
func (b *Balancer) takeIn(e *Endpoint, now mono.Time) {
	b.leave(e)
	b.enter(e, b.roomOf(e))
	e.rate = rate{}
	e.probeAt = 0
	e.warmUp(now)
}

// keepFloor readmits as many as the floor wants, those first whose probe is due first: endpoints
// left, and those that stay may all be ejected.
func (b *Balancer) keepFloor(now mono.Time) {
	for len(b.rooms[out].all) > 0 && b.inService() < b.floor() {
		b.rooms[out].all[0].readmit(now)
	}
}

// probe returns an ejected endpoint that is due for its one request, if there is one. The probe is
// leased: if it is not answered, the next one goes out when the ejection would have ended again.
func (b *Balancer) probe(now mono.Time, avoid []*Endpoint) *Endpoint {
	o := &b.rooms[out]
	for len(o.all) > 0 && o.all[0].probeAt <= now {
		e := o.all[0]
		until := e.br.Until()
		switch {
		case until == 0: // another worker's probe was answered
			b.takeIn(e, now)
			continue
		case until > now: // another worker probes, or its probe failed
			e.probeAt = until
			b.fixOut(e)
			continue
		case slices.Contains(avoid, e):
			return nil
		}
		next := now.Add(max(e.outFor, backoffFirst))
		if !e.br.Lease(until, next) {
			continue
		}
		e.probeAt = next
		b.fixOut(e)
		b.stats.Probes++
		return e
	}
	return nil
}

// follow takes over an ejection that another worker decided; it reports whether e is out now.
func (b *Balancer) follow(e *Endpoint) bool {
	if b.share == nil || e.br.Until() == 0 || b.inService()-1 < b.floor() {
		return false
	}
	b.putOut(e)
	return true
}
