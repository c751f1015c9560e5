package metrics

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// HTTP is the resolved set of one worker for requests under some labels. Its holder may keep it for
// as long as it likes: a set that was forgotten begins again when it is used.
type HTTP struct {
	base
	requests  uint64
	retries   uint64
	times     *timing
	responses []response
}

// timing is the latency of requests. It does not tell zones apart: with its buckets, a zone more would
// double the series of a target (rule R12.2 bounds them).
type timing struct {
	base
	latencies
}

// response counts one kind of answer.
type response struct {
	status  uint16
	grpc    int8
	failure bool
	n       uint64
}

// HTTP finds or makes the set of l.
func (s *Store) HTTP(l Labels, now mono.Time) *HTTP {
	l.Pod = ""
	return s.http.get(s, l, now)
}

// timed is where h's latencies are counted.
func (h *HTTP) timed(now mono.Time) *timing {
	s := h.store
	if h.times == nil {
		l := h.labels
		l.Zone = ""
		h.times = s.times.get(s, l, now)
	}
	h.times = s.times.live(h.times)
	h.times.used = now
	return h.times
}

// Request counts a request that was received (inbound) or sent for an application (outbound).
func (h *HTTP) Request(now mono.Time) {
	h = h.store.http.live(h)
	h.used = now
	h.requests++
}

// Response counts the end of a request: its HTTP status (0 when there was none), its gRPC status (-1
// when there was none), whether it was a failure, and the time from request to the response's end.
func (h *HTTP) Response(status, grpc int, failure bool, latency time.Duration, now mono.Time) {
	h = h.store.http.live(h)
	h.used = now
	h.timed(now).observe(latency)
	h.kind(boundStatus(status), boundGRPC(grpc), failure).n++
}

// Failure is the classification of a response (rule R12.1): HTTP 5xx and no response at all, and the
// gRPC statuses that blame the server.
func Failure(status, grpc int) bool {
	switch grpc {
	case grpcNone:
		return status < 100 || status >= 500
	case 2, 4, 12, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}

// Retry counts one more attempt of a request.
func (h *HTTP) Retry() {
	h = h.store.http.live(h)
	h.retries++
}

func (h *HTTP) kind(status uint16, grpc int8, failure bool) *response {
	for i := range h.responses {
		if r := &h.responses[i]; r.status == status && r.grpc == grpc && r.failure == failure {
			return r
		}
	}
	if len(h.responses) >= responsesMost && (status != 0 || grpc != grpcOther) {
		return h.kind(0, grpcOther, failure)
	}
	h.responses = append(h.responses, response{status: status, grpc: grpc, failure: failure})
	return &h.responses[len(h.responses)-1]
}

// Authz is the resolved set for decisions at the door (rule R9.4).
type Authz struct {
	base
	allowed, denied uint64
}

// Authz finds or makes the set of l, whose Policy is the name of what decides.
func (s *Store) Authz(l Labels, now mono.Time) *Authz {
	l.Pod = ""
	return s.authz.get(s, l, now)
}

// Decide counts a decision.
func (a *Authz) Decide(allow bool, now mono.Time) {
	a = a.store.authz.live(a)
	a.used = now
	if allow {
		a.allowed++
	} else {
		a.denied++
	}
}
