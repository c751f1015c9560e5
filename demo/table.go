package demo

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// Table is what the demo shows: per service, what the proxies' /metrics said of a stretch of time.
type Table struct {
	Seconds  float64 `json:"seconds"`
	Services []Row   `json:"services"`
}

// Row is one service. A value that does not apply is NaN, in JSON null.
type Row struct {
	Service string `json:"service"`
	// Protocol is what it speaks, or the weight that a route gives it.
	Protocol string `json:"protocol"`
	// Requests were sent to it; of a TCP service, connections were opened. RPS is them by time.
	Requests float64 `json:"requests"`
	OK       float64 `json:"ok"`
	Success  Number  `json:"success"`
	RPS      Number  `json:"rps"`
	// P50, P95 and P99 are in milliseconds, from a request's head to the end of its response; null for
	// what has no responses, TCP and WebSocket.
	P50 Number `json:"p50"`
	P95 Number `json:"p95"`
	P99 Number `json:"p99"`
	// MTLS is the share of requests and connections under mutual TLS, counted at both ends.
	MTLS    Number  `json:"mtls"`
	Retries float64 `json:"retries,omitempty"`
	// BytesPerSecond is of a TCP service.
	BytesPerSecond float64 `json:"bytesPerSecond,omitempty"`
	// Endpoints are the instances that got traffic since the beginning; Shares is what each got of it
	// in this stretch.
	Endpoints int               `json:"endpoints"`
	Shares    map[string]Number `json:"shares,omitempty"`

	tcp, part bool // part of the row above it
	traffic   bool
}

// Number is a float64 that JSON shows with few digits, and NaN as null.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%.4g", float64(n)), nil
}

var _ json.Marshaler = Number(0)

// tabulate makes a Table of what was counted in a stretch of time; ever is what was counted since the
// beginning.
func tabulate(in, ever totals, took time.Duration) Table {
	t := Table{Seconds: math.Round(took.Seconds()*1000) / 1000}
	var parts []string
	for _, s := range services() {
		one, all := in[s.name], ever[s.name]
		if one == nil {
			one = newTotal()
		}
		if all == nil {
			all = one
		}
		r := row(s, one, took)
		r.Endpoints = len(all.by)
		r.Shares = shares(one.by, all.by)
		if r.tcp && math.IsNaN(float64(r.MTLS)) { // its connections are older than the stretch
			r.MTLS, r.Success = ratio(all.secure, all.secure+all.plain), ratio(all.conns-all.closedBadly, all.conns)
		}
		r.part = slices.Contains(parts, s.name)
		for _, b := range s.backends {
			parts = append(parts, b.name)
			if of := ever[b.name]; of != nil {
				r.Endpoints += len(of.by)
			}
		}
		t.Services = append(t.Services, r)
	}
	return t
}

func row(s service, t *total, took time.Duration) Row {
	r := Row{
		Service: s.name, Protocol: s.note, Requests: t.requests, OK: t.success, Retries: t.retries,
		Success: ratio(t.success, t.success+t.failure), RPS: ratio(t.requests, took.Seconds()),
		P50: Number(t.quantile(.5)), P95: Number(t.quantile(.95)), P99: Number(t.quantile(.99)),
		MTLS: ratio(t.secure, t.secure+t.plain), traffic: t.requests > 0,
	}
	if s.name == shop.Feed { // how long its sessions last says nothing of speed
		r.P50, r.P95, r.P99 = Number(math.NaN()), Number(math.NaN()), Number(math.NaN())
	}
	if s.name == shop.Store {
		// A connection that is open has not failed; how long an exchange takes, only the ends know.
		r.tcp, r.traffic = true, t.bytes > 0
		r.Requests, r.OK, r.RPS = t.conns, t.conns-t.closedBadly, ratio(t.conns, took.Seconds())
		r.Success = ratio(r.OK, r.Requests)
		r.BytesPerSecond = t.bytes / took.Seconds()
	}
	return r
}

func ratio(a, b float64) Number {
	if b == 0 {
		return Number(math.NaN())
	}
	return Number(a / b)
}

// shares of the instances that are known, in what was counted.
func shares(in, known map[string]float64) map[string]Number {
	sum := 0.0
	for _, n := range in {
		sum += n
	}
	if len(known) == 0 {
		return nil
	}
	out := make(map[string]Number, len(known))
	for name := range known {
		out[name] = ratio(in[name], sum)
	}
	return out
}

// names of the instances, in order.
func (r Row) names() []string { return slices.Sorted(maps.Keys(r.Shares)) }

// verdict is what is wrong with a table at the end, nil when nothing is.
func (t Table) verdict() error {
	var wrong []string
	for _, r := range t.Services {
		switch {
		case !r.traffic:
			wrong = append(wrong, r.Service+" got no traffic")
		case r.MTLS != 1:
			wrong = append(wrong, fmt.Sprintf("%s had %s of its traffic under mTLS", r.Service, percent(r.MTLS)))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s", join(wrong))
}

func (t Table) row(service string) Row {
	for _, r := range t.Services {
		if r.Service == service {
			return r
		}
	}
	return Row{}
}
