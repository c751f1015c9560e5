package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tulle-mesh/tulle/controller/state"
)

// Check finds what no object shows by itself: what refers to nothing, and what excludes something
// else. It is pure.
func Check(s *state.Snapshot) []Report {
	var rs []Report
	for r := range s.Routes() {
		rs = append(rs, checkRoute(s, r)...)
	}
	for w := range s.Workloads() {
		rs = append(rs, checkWorkload(s, w)...)
	}
	for v := range s.Services() {
		rs = append(rs, checkService(s, v)...)
	}
	return rs
}

func checkRoute(s *state.Snapshot, r *state.Route) []Report {
	var rs []Report
	o := Object{"HTTPRoute", r.Name.Namespace, r.Name.Name}
	say := func(format string, args ...any) {
		rs = append(rs, Report{Object: o, Severity: Ignored, Message: fmt.Sprintf(format, args...)})
	}
	for _, p := range r.Parents {
		v := s.Service(p.Service)
		if v == nil {
			say("its parent Service %s does not exist", p.Service)
			continue
		}
		if p.Port != 0 && !slices.ContainsFunc(v.Ports, func(q state.ServicePort) bool { return q.Port == p.Port }) {
			say("its parent Service %s has no port %d", p.Service, p.Port)
		}
		for _, port := range v.Ports {
			if p.Port != 0 && p.Port != port.Port {
				continue
			}
			if won := winner(s, p.Service, port.Port, r.Name.Namespace); won != "" && won != r.Name.String() {
				say("port %d of Service %s is taken by HTTPRoute %s, which comes first", port.Port, p.Service, won)
			}
		}
	}
	for _, b := range r.Backends {
		if t, _ := s.Resolve(b.Target); t == nil {
			rs = append(rs, Report{
				Object: o, Severity: Notice,
				Message: fmt.Sprintf("its backend %s does not exist: its share of the requests fails", b.Target),
			})
		}
	}
	return rs
}

// winner is the route in force for clients of a namespace.
func winner(s *state.Snapshot, service state.Name, port uint16, namespace string) string {
	for t := range s.TablesOf(service, port) {
		if routes := t.Policy(namespace).Routes; len(routes) > 0 {
			return routes[0].Name
		}
	}
	return ""
}

func checkWorkload(s *state.Snapshot, w *state.Workload) []Report {
	var rs []Report
	for a := range w.Listens() {
		if w.Pod {
			continue // who has a pod's address is the cluster's to say
		}
		if first := s.Owner(a); first != nil && first.Name != w.Name {
			rs = append(rs, Report{
				Object: Object{"ExternalWorkload", w.Name.Namespace, w.Name.Name}, Severity: Ignored,
				Message: fmt.Sprintf("%s belongs to ExternalWorkload %s already", a, first.Name),
			})
		}
	}
	return rs
}

func checkService(s *state.Snapshot, v *state.Service) []Report {
	o := Object{"Service", v.Name.Namespace, v.Name.Name}
	var rs []Report
	var empty []string
	for t, k := range v.Targets() {
		if got, _ := s.Resolve(t); got != nil && got.Key != k {
			rs = append(rs, Report{
				Object: o, Severity: Ignored, Message: fmt.Sprintf("%s belongs to %s already", t, got.Key),
			})
		}
	}
	for _, p := range v.Ports {
		endpoints := 0
		for t := range s.TablesOf(v.Name, p.Port) {
			endpoints += t.Len()
		}
		if endpoints == 0 {
			empty = append(empty, fmt.Sprint(p.Port))
		}
	}
	if len(empty) == 0 {
		return rs
	}
	cause := "its selector selects no workload with its target ports"
	if len(v.Selector) == 0 {
		cause = "it has no selector, and no EndpointSlice names it"
	}
	return append(rs, Report{
		Object: o, Severity: Notice,
		Message: fmt.Sprintf("port %s has no endpoints: %s", strings.Join(empty, ", "), cause),
	})
}
