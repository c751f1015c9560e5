package demo

import (
	"maps"
	"math"
	"slices"
	"strconv"
)

// totals are what was counted since the beginning, by service.
type totals map[string]*total

// total is one service's: what its clients' proxies counted, and its own instances' proxies.
type total struct {
	requests, success, failure, retries float64
	conns, closedWell, closedBadly      float64
	bytes                               float64
	// secure and plain are requests and connections with and without mutual TLS, at both ends.
	secure, plain float64
	// le are requests that took at most so many milliseconds.
	le map[float64]float64
	// by are requests and connections that each instance got, and traffic is its bytes.
	by map[string]float64
}

func newTotal() *total { return &total{le: map[float64]float64{}, by: map[string]float64{}} }

func (t totals) of(service string) *total {
	if t[service] == nil {
		t[service] = newTotal()
	}
	return t[service]
}

// add books that a series of the proxy of an instance grew. A route is counted under the Service
// that it is attached to, and under the one that it led to.
func (t totals) add(instance string, s series, grown float64) {
	if s.labels["direction"] == "inbound" {
		if d := s.labels["dst_deployment"]; d != "" {
			t.of(d).inbound(instance, s, grown)
		}
		return
	}
	if s.labels["dst_namespace"] != namespace || s.labels["dst_service"] == "" {
		return
	}
	t.of(s.labels["dst_service"]).outbound(s, grown)
	if parent, ok := parentOf(s.labels["route"]); ok && parent != s.labels["dst_service"] {
		t.of(parent).outbound(s, grown)
	}
}

// parentOf is the Service that a route of the shop is attached to: the one of its own name.
func parentOf(route string) (string, bool) {
	const prefix = namespace + "/"
	if len(route) <= len(prefix) || route[:len(prefix)] != prefix {
		return "", false
	}
	return route[len(prefix):], true
}

// inbound counts what an instance got.
func (t *total) inbound(instance string, s series, grown float64) {
	if s.name == requests || s.name == opened {
		t.by[instance] += grown
		t.tls(s, grown)
	}
}

// outbound counts what clients sent and got back.
func (t *total) outbound(s series, grown float64) {
	switch s.name {
	case requests:
		t.requests += grown
		t.tls(s, grown)
	case responses:
		if s.labels["classification"] == "success" {
			t.success += grown
		} else {
			t.failure += grown
		}
	case latency:
		if le, err := strconv.ParseFloat(s.labels["le"], 64); err == nil {
			t.le[le] += grown
		}
	case opened:
		t.conns += grown
		t.tls(s, grown)
	case closed:
		if s.labels["errno"] == "" {
			t.closedWell += grown
		} else {
			t.closedBadly += grown
		}
	case readBytes, wroteBytes:
		t.bytes += grown
	case retries:
		t.retries += grown
	}
}

func (t *total) tls(s series, grown float64) {
	if s.labels["tls"] == "true" {
		t.secure += grown
	} else {
		t.plain += grown
	}
}

// clone copies all of t.
func (t totals) clone() totals {
	c := make(totals, len(t))
	for name, one := range t {
		copied := *one
		copied.le, copied.by = maps.Clone(one.le), maps.Clone(one.by)
		c[name] = &copied
	}
	return c
}

// since is what was counted after before was.
func (t totals) since(before totals) totals {
	d := t.clone()
	for name, b := range before {
		n := d.of(name)
		n.requests -= b.requests
		n.success -= b.success
		n.failure -= b.failure
		n.retries -= b.retries
		n.conns -= b.conns
		n.closedWell -= b.closedWell
		n.closedBadly -= b.closedBadly
		n.bytes -= b.bytes
		n.secure -= b.secure
		n.plain -= b.plain
		for le, v := range b.le {
			n.le[le] -= v
		}
		for i, v := range b.by {
			n.by[i] -= v
		}
	}
	return d
}

// quantile estimates in milliseconds how long a share q of the requests took at most: within a
// bucket they are taken to be spread evenly, as histogram_quantile does. NaN without requests.
func (t *total) quantile(q float64) float64 {
	bounds := slices.Sorted(maps.Keys(t.le))
	if len(bounds) == 0 || t.le[bounds[len(bounds)-1]] <= 0 {
		return math.NaN()
	}
	rank := q * t.le[bounds[len(bounds)-1]]
	low, below := 0.0, 0.0
	for _, high := range bounds {
		n := t.le[high]
		if n >= rank && n > below {
			if math.IsInf(high, 1) {
				return low
			}
			return low + (high-low)*(rank-below)/(n-below)
		}
		low, below = high, n
	}
	return low
}
