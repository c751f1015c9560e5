package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// counts are a proxy's metrics, summed up by name and direction.
type counts map[string]float64

// read gathers the metrics of a proxy, as a scrape does.
func (s *Sim) read(h *half) counts {
	var all []*metrics.Snapshot
	h.p.AskSnapshots(func(got []*metrics.Snapshot) { all = got })
	s.W.RunUntil(s.W.Now().Add(1e9), func() bool { return all != nil })
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewCollector(func() []*metrics.Snapshot { return all }))
	families, err := r.Gather()
	must(err)
	sum := counts{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			sum[f.GetName()+label(m, "direction")] += v
			if f.GetName() == "response_total" {
				sum["response"+label(m, "direction")+label(m, "status_code")+label(m, "grpc_status")+label(m, "classification")] += v
			}
		}
	}
	return sum
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return " " + l.GetValue()
		}
	}
	return ""
}

// class is how a call's response is counted in the given direction (R12.1, R4.7).
func (c *call) class(direction string) string {
	grpc, failed := "", c.status >= 500
	if c.grpc {
		grpc = get(c.respTrail, "grpc-status")
		failed = false
	}
	out := "success"
	if failed {
		out = "failure"
	}
	return fmt.Sprintf("response %s %d %s %s", direction, c.status, grpc, out)
}

// spent excuses the clients of a proxy that has used its retry budget up (R7.3):
// what is refused or cannot connect fails then.
func (s *Sim) spent() {
	if !s.o.script.Has(KindRefuse) && !s.o.script.Has(KindStale) {
		return
	}
	for _, c := range s.clients {
		if c.killed {
			continue
		}
		if n := s.read(&c.half); n["retry_budget_exhausted_total"] > 0 && n["retry_total outbound"] >= 5 {
			s.O.Allow(oracle.Cause{Name: "the retry budget was used up", Until: 1 << 62, Covers: touches(c, nil)})
		}
	}
}

// numbers holds that proxies count what happened (R12.1).
func (s *Sim) numbers() {
	seen := map[*half]counts{}
	for _, h := range s.halves() {
		if h.killed {
			continue
		}
		c := s.read(h)
		seen[h] = c
		for _, d := range []string{" inbound", " outbound"} {
			if a, b := c["tcp_open_total"+d], c["tcp_close_total"+d]; a != b {
				s.O.Reportf(0, "the proxy of %s has counted %v%s connections and %v ends", h.name, a, d, b)
			}
			if n := c["tcp_open_connections"+d] + c["proxy_requests_in_flight"+d] + c["proxy_requests_queued"+d]; n != 0 {
				s.O.Reportf(0, "the proxy of %s still counts %v%s things under way", h.name, n, d)
			}
		}
		// R7.3, for each target.
		budget := float64(len(s.services))*(10+10*(s.last.Sub(began)+200*time.Millisecond).Seconds()) + 0.2*c["request_total outbound"]
		if n := c["retry_total outbound"]; n > budget {
			s.O.Reportf(0, "the proxy of %s has tried again %v times, its budget is %v", h.name, n, budget)
		}
	}
	if s.undisturbed() {
		s.exact(seen)
	}
}

// undisturbed reports whether every call went as planned, at the first attempt.
func (s *Sim) undisturbed() bool {
	for _, c := range s.calls {
		if !c.r.Plain() || s.Kinds.Has(KindRude) || s.o.budget > 0 {
			return false
		}
	}
	return len(s.calls) > 0 && s.shaken() == 0 && s.todo == 0
}

// exact compares counts with calls: everything went as planned.
func (s *Sim) exact(seen map[*half]counts) {
	for _, c := range s.clients {
		want := counts{}
		for _, k := range s.calls {
			if k.c != c {
				continue
			}
			if k.proto == protoTCP {
				want["tcp_open_total outbound"]++
				continue
			}
			want["request_total outbound"]++
			want["response_total outbound"]++
			want[k.class("outbound")]++
		}
		s.equal(&c.half, seen, want)
	}
	for _, v := range s.servers {
		want := counts{}
		for _, k := range s.calls {
			switch at := k.r.Servers(); {
			case len(at) != 1 || at[0] != v.name:
			case k.proto == protoTCP:
				want["tcp_open_total inbound"]++
			default:
				want["request_total inbound"]++
				want["response_total inbound"]++
				want[k.class("inbound")]++
			}
		}
		s.equal(&v.half, seen, want)
	}
}

func (s *Sim) equal(h *half, seen map[*half]counts, want counts) {
	for _, k := range slices.Sorted(maps.Keys(seen[h])) {
		if strings.HasPrefix(k, "response ") && seen[h][k] != want[k] {
			s.O.Reportf(0, "the proxy of %s has counted %q %v times, it was %v", h.name, k, seen[h][k], want[k])
		}
	}
	for _, name := range []string{"request_total", "response_total", "tcp_open_total"} {
		for _, d := range []string{" inbound", " outbound"} {
			if got := seen[h][name+d]; got != want[name+d] && !strings.HasPrefix(name, "tcp") {
				s.O.Reportf(0, "the proxy of %s has counted %s%s %v, it was %v", h.name, name, d, got, want[name+d])
			} else if got < want[name+d] {
				s.O.Reportf(0, "the proxy of %s has counted only %v %s%s of %v", h.name, got, name, d, want[name+d])
			}
		}
	}
}
