package balance

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	// failureFactor is how much slower than usual a failure counts at least: an endpoint that
	// fails at once must not look fast.
	failureFactor = 10
	// worstFactor bounds a sample in the same terms. Nobody is asked at fifty times the cost of
	// others anyway, but each further factor of e takes 10 s to be forgotten: a client's patience
	// of a minute would keep a recovered endpoint idle for another.
	worstFactor = 50
	// restMost bounds what Retry-After may ask for.
	restMost = time.Minute
)

// Flight is one request or tunnel on its way to an endpoint. It is a value that its owner keeps; the
// zero Flight is over. Each Start is followed by one Done; Done again, or FirstData after it, does
// nothing.
type Flight struct {
	e       *Endpoint
	started mono.Time
	stage   stage
	probe   bool
}

type stage uint8

const (
	stageOver    stage = iota
	stageRequest       // counts until its first data frame
	stageConnect       // a tunnel whose connection is not made yet
	stageTunnel        // counts until Done
	stageBody          // a response that has begun: does not count any more
)

// Start begins a request: it counts as load until FirstData.
func (e *Endpoint) Start(now mono.Time) Flight { return e.start(now, stageRequest) }

// StartTunnel begins an opaque connection (rule R6.2): FirstData tells that it is made, it counts as
// load until Done.
func (e *Endpoint) StartTunnel(now mono.Time) Flight { return e.start(now, stageConnect) }

func (e *Endpoint) start(now mono.Time, s stage) Flight {
	if e.asked == 0 {
		e.asked = now
	}
	e.waiting++
	return Flight{e: e, started: now, stage: s, probe: e.Ejected()}
}

// Endpoint is where the flight goes, nil when it is over.
func (f *Flight) Endpoint() *Endpoint { return f.e }

// Started is when the flight began.
func (f *Flight) Started() mono.Time { return f.started }

// FirstData tells that the response's first data frame (or its end, if that comes first) is here, or
// that a tunnel's connection is made. A response whose head already is a failure is told to Done
// instead.
func (f *Flight) FirstData(now mono.Time) {
	switch f.stage {
	case stageRequest:
		f.stage = stageBody
	case stageConnect:
		f.stage = stageTunnel
		f.e.tunnels++
	default:
		return
	}
	f.e.landed()
	f.e.sample(float64(now.Sub(f.started)), now)
	if f.probe {
		f.probe = false
		f.e.readmit(now)
	}
}

// Done ends the flight.
func (f *Flight) Done(now mono.Time, o Outcome) {
	e, s := f.e, f.stage
	if s == stageOver {
		return
	}
	if o.Result == OK {
		f.FirstData(now)
	}
	if f.stage == stageTunnel {
		e.tunnels--
	}
	waited := f.stage == stageRequest || f.stage == stageConnect
	if waited {
		e.landed()
	}
	elapsed := float64(now.Sub(f.started))
	f.e, f.stage = nil, stageOver
	if e.b == nil {
		return
	}
	switch {
	case o.Result == Failed:
		e.fail(o, elapsed, now)
		if f.probe && e.room == out {
			e.b.again(e, now)
		}
	case o.Result == OK:
		e.succeed(now)
	case waited: // it was at least as slow as its client was patient
		e.est.raise(min(elapsed, e.b.worst()), now)
	}
}

// landed takes one out of those that wait.
func (e *Endpoint) landed() {
	e.waiting--
	e.asked = 0
}

func (e *Endpoint) sample(v float64, now mono.Time) {
	b := e.b
	if b == nil {
		return
	}
	v = min(v, b.worst())
	if e.answered {
		e.est.sample(v, now)
	} else { // nothing was known before
		e.est = estimate{value: v, at: now}
	}
	e.answered, e.sampled = true, now
	b.usual.sample(v, now, usualTau)
	b.means[e.room].sample(v, now, tau)
}

func (e *Endpoint) succeed(now mono.Time) {
	e.br.Succeed()
	e.rate.count(true, now)
}

// fail counts a failure as a slow answer, honours what the endpoint asked for, and ejects it when it
// is one failure too many.
func (e *Endpoint) fail(o Outcome, elapsed float64, now mono.Time) {
	b := e.b
	e.est.sample(min(max(elapsed, failureFactor*b.ordinary()), b.worst()), now)
	e.sampled = now
	if o.RetryAfter > 0 {
		e.resting = max(e.resting, now.Add(min(o.RetryAfter, restMost)))
	}
	e.cause = o.Cause
	row := e.br.Fail(o.Cause == CauseConnect || o.Cause == CauseIdentity)
	low := e.rate.count(false, now)
	if e.room != out && b.cfg.Failures > 0 && (row >= uint32(b.cfg.Failures) || low) {
		b.eject(e, now)
	}
}

// ordinary is what an answer takes at this target.
func (b *Balancer) ordinary() float64 {
	if b.usual.at == 0 {
		return float64(b.cfg.FirstEstimate)
	}
	return b.usual.value
}

// worst is the largest sample that is taken over.
func (b *Balancer) worst() float64 { return worstFactor * b.ordinary() }

// rate is a success rate over the last seconds: counts that decay with tau.
type rate struct {
	good, bad float64
	at        mono.Time
}

const (
	rateFloor  = 0.5 // below that share of successes an endpoint is ejected
	rateVolume = 20  // with fewer requests than that, a rate says nothing
)

// count adds an outcome; it reports whether the rate is below the floor.
func (r *rate) count(ok bool, now mono.Time) (low bool) {
	w := 0.0
	if r.at != 0 {
		w = decay(now.Sub(r.at), tau)
	}
	r.good, r.bad, r.at = r.good*w, r.bad*w, now
	if ok {
		r.good++
	} else {
		r.bad++
	}
	n := r.good + r.bad
	return n >= rateVolume && r.good < rateFloor*n
}
