package traffic

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// Summary is what the generator saw since it began.
type Summary struct {
	// Seconds is for how long requests were sent; answers that came later count too.
	Seconds  float64   `json:"seconds"`
	Services []Service `json:"services"`
}

// Service is what the generator saw of one service: of its own requests, and of those that a service
// made in order to answer them.
type Service struct {
	Service  string `json:"service"`
	Requests int64  `json:"requests"`
	OK       int64  `json:"ok"`
	// Skipped were due and not sent, because too many were open.
	Skipped int64   `json:"skipped,omitempty"`
	RPS     float64 `json:"rps"`
	// P50, P95 and P99 are in milliseconds, from sending to the end of the answer.
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	// Instances counts the answers of each instance; "" are those that nobody answered.
	Instances map[string]int64 `json:"instances"`
	// Errors counts the failures by status; "" are those that nobody answered.
	Errors map[string]int64 `json:"errors,omitempty"`
}

// stats gathers what a Generator saw. Its methods are safe for use by several goroutines.
type stats struct {
	mu       sync.Mutex
	began    time.Time         // guarded by mu
	ended    time.Time         // guarded by mu; zero while requests are sent
	services map[string]*tally // guarded by mu
}

type tally struct {
	Service
	latency Histogram
}

func newStats() *stats { return &stats{began: time.Now(), services: map[string]*tally{}} }

// begin says that requests are sent from now on.
func (s *stats) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
}

// add counts r and the calls that it tells of.
func (s *stats) add(r shop.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(shop.Call{Service: r.Service, Instance: r.Instance, Status: r.Status, OK: r.OK, MS: r.MS})
	for _, c := range r.Calls {
		s.count(c)
	}
}

// end says that no more requests are sent.
func (s *stats) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = time.Now()
}

func (s *stats) skip(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally(service).Skipped++
}

func (s *stats) tally(service string) *tally {
	t := s.services[service]
	if t == nil {
		t = &tally{Service: Service{Service: service, Instances: map[string]int64{}, Errors: map[string]int64{}}}
		s.services[service] = t
	}
	return t
}

func (s *stats) count(c shop.Call) {
	t := s.tally(c.Service)
	t.Requests++
	t.Instances[c.Instance]++
	if c.OK {
		t.OK++
	} else {
		t.Errors[c.Status]++
	}
	t.latency.Add(time.Duration(c.MS * float64(time.Millisecond)))
}

// summary returns the services in the order of their names.
func (s *stats) summary() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.ended
	if until.IsZero() {
		until = time.Now()
	}
	out := Summary{Seconds: until.Sub(s.began).Seconds()}
	for _, t := range s.services {
		one := t.Service
		one.RPS = float64(one.Requests) / out.Seconds
		one.P50 = shop.Millis(t.latency.Quantile(0.50))
		one.P95 = shop.Millis(t.latency.Quantile(0.95))
		one.P99 = shop.Millis(t.latency.Quantile(0.99))
		one.Instances, one.Errors = maps.Clone(one.Instances), maps.Clone(one.Errors)
		out.Services = append(out.Services, one)
	}
	slices.SortFunc(out.Services, func(a, b Service) int { return strings.Compare(a.Service, b.Service) })
	return out
}
