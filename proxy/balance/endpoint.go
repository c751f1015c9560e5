package balance

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/share"
)

// Endpoint is one endpoint of a Balancer: its row, and what is known of it.
type Endpoint struct {
	mesh.Endpoint
	// User is its owner's: the pools of connections to it.
	User any

	b    *Balancer // nil once it has left
	room room
	pos  int
	hash uint64 // of the row as it was put in

	br  *share.Breaker
	own share.Breaker
	ref *share.BreakerRef

	est      estimate
	answered bool      // est has had a sample
	sampled  mono.Time // when it had the last, or was last given a request to get one
	waiting  int32     // requests before their first data frame, connections before they are made
	tunnels  int32     // open tunnels
	asked    mono.Time // begin of the first request after the last answer; 0: none
	resting  mono.Time // until then it asked to be left alone (Retry-After, pushback)
	warmFrom mono.Time // begin of slow start; 0: it has its whole weight
	credit   float64   // of weighted round robin

	rate    rate
	probeAt mono.Time // of an ejected one: when the next probe is due
	outFor  time.Duration
	cause   Cause
}

// Gone reports whether the endpoint has left its balancer.
func (e *Endpoint) Gone() bool { return e.b == nil }

// Ejected reports whether it is out of service.
func (e *Endpoint) Ejected() bool { return e.room == out && e.b != nil }

// Load is what counts against the endpoint: requests before their first data frame and open tunnels.
func (e *Endpoint) Load() int { return int(e.waiting + e.tunnels) }

// Estimate is what the time to the first byte is taken to be at now.
func (e *Endpoint) Estimate(now mono.Time) time.Duration { return time.Duration(e.latency(now)) }

// latency is the estimate, or how long the endpoint has been silent although it was asked.
func (e *Endpoint) latency(now mono.Time) float64 {
	return max(e.est.read(now), e.silence(now), leastEstimate)
}

// silence is how long the endpoint has not answered although it was asked: the first request after
// its last answer has waited for so long. Older ones do not count: a stream that is idle from its
// beginning says nothing.
func (e *Endpoint) silence(now mono.Time) float64 {
	if e.asked == 0 {
		return 0
	}
	return float64(now.Sub(e.asked))
}

// slowStart is how long a new endpoint's weight grows, from a tenth.
const slowStart = 5 * time.Second

func (e *Endpoint) warmUp(now mono.Time) { e.warmFrom = now }

// weight is the share that the endpoint should get, slow start considered.
func (e *Endpoint) weight(now mono.Time) float64 {
	w := float64(max(e.Weight, 1))
	if e.warmFrom == 0 {
		return w
	}
	grown := float64(now.Sub(e.warmFrom)) / float64(slowStart)
	if grown >= 1 {
		e.warmFrom = 0
		return w
	}
	return w * max(grown, 0.1)
}

// Cause says what kind of failure it was (rule R6.4).
type Cause uint8

// Causes.
const (
	CauseConnect     Cause = iota // refused, unreachable, timed out
	CauseIdentity                 // the handshake failed, or the peer is someone else
	CauseReset                    // the connection or the stream was reset
	CauseStatus                   // 502, 503, 504
	CauseUnavailable              // gRPC UNAVAILABLE
	CauseTimeout                  // no response in time
)

var causeNames = [...]string{"cannot connect", "wrong identity", "reset", "502, 503 or 504", "UNAVAILABLE", "timeout"}

// String is what messages show.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "failure"
}

// Result is how a request ended.
type Result uint8

// Results. A plain 500, a 4xx and any gRPC status but UNAVAILABLE are OK: the endpoint works.
const (
	OK Result = iota
	Failed
	Cancelled // by the client, or because another attempt was faster: says nothing of the endpoint
)

// Outcome is a Result with what belongs to it; the zero Outcome is OK.
type Outcome struct {
	Result Result
	Cause  Cause // of a failure
	// RetryAfter is what the endpoint asked for (Retry-After, grpc-retry-pushback-ms), 0 for nothing.
	RetryAfter time.Duration
}

// Failure is the Outcome of a failure.
func Failure(c Cause, retryAfter time.Duration) Outcome {
	return Outcome{Result: Failed, Cause: c, RetryAfter: retryAfter}
}
