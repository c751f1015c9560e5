package balance

import (
	"math"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	// tau is the time constant of the estimate (rule R6.1).
	tau = 10 * time.Second
	// usualTau is that of what is usual for a target: slow, it must not follow an overload.
	usualTau = time.Minute
	// leastEstimate keeps load significant when estimates have decayed to nothing.
	leastEstimate = float64(10 * time.Microsecond)
)

// estimate is a peak EWMA in nanoseconds. value is as of the last sample; what it is worth later,
// read tells.
type estimate struct {
	value float64
	at    mono.Time
}

// read is the estimate at now: without samples it decays towards zero.
func (e *estimate) read(now mono.Time) float64 { return e.value * decay(now.Sub(e.at), tau) }

// sample takes a worse sample over at once, and decays towards a better one.
func (e *estimate) sample(v float64, now mono.Time) {
	if v < e.value {
		w := decay(now.Sub(e.at), tau)
		v = e.value*w + v*(1-w)
	}
	e.value, e.at = v, now
}

// raise takes v over if it is worse than what the estimate is worth now.
func (e *estimate) raise(v float64, now mono.Time) {
	if v > e.read(now) {
		e.value, e.at = v, now
	}
}

// average is a mean weighted by age; the zero average has no samples.
type average struct {
	value float64
	at    mono.Time
}

func (a *average) sample(v float64, now mono.Time, tau time.Duration) {
	if a.at == 0 {
		a.value, a.at = v, now
		return
	}
	w := decay(now.Sub(a.at), tau)
	a.value, a.at = a.value*w+v*(1-w), now
}

func decay(d, tau time.Duration) float64 {
	if d <= 0 {
		return 1
	}
	return math.Exp(-float64(d) / float64(tau))
}

// medianOf is how many endpoints are looked at for the median: enough for one that is near, few
// enough for a target of 10,000.
const medianOf = 255

// median is the estimate that a new endpoint begins with (rule R6.1).
func (b *Balancer) median(now mono.Time) float64 {
	var buf [medianOf]float64
	have := buf[:0]
	for r := home; r <= away; r++ {
		all := b.rooms[r].all
		step := max(1, len(all)*2/medianOf)
		for i := 0; i < len(all) && len(have) < medianOf; i += step {
			if all[i].answered {
				have = append(have, all[i].est.read(now))
			}
		}
	}
	if len(have) == 0 {
		return float64(b.cfg.FirstEstimate)
	}
	slices.Sort(have)
	return have[len(have)/2]
}
