package sim

import "slices"

// backends are the services that serve svc: by its route, or itself.
func (s *Sim) backends(svc *service) []*service {
	if svc.weights == nil {
		return []*service{svc}
	}
	var out []*service
	for i, w := range svc.weights {
		if w > 0 {
			out = append(out, s.services[i])
		}
	}
	return out
}

// separate gives the two services servers of their own, where there are enough.
func (s *Sim) separate() {
	if len(s.servers) > 1 {
		s.services[0].servers, s.services[1].servers = s.servers[:1:1], s.servers[1:]
	}
}

// split counts where a route sent a request, if that can be told.
func (s *Sim) split(c *call, v *server) {
	if c.svc.weights == nil || c.direct != nil || len(c.r.Servers()) > 0 {
		return
	}
	first, second := slices.Contains(s.services[0].servers, v), slices.Contains(s.services[1].servers, v)
	switch {
	case first && !second:
		s.routed[0]++
	case second && !first:
		s.routed[1]++
	}
}

// weighed holds that equal weights do not send all one way: of 24 requests that
// happens once in ten million runs.
func (s *Sim) weighed() {
	w := s.services[0].weights
	if len(w) != 2 || w[0] != w[1] || s.shaken() > 0 {
		return
	}
	for _, svc := range s.services { // one that both have hides who was chosen
		if slices.ContainsFunc(svc.servers, func(v *server) bool {
			return slices.Contains(s.services[0].servers, v) && slices.Contains(s.services[1].servers, v)
		}) {
			return
		}
	}
	if a, b := s.routed[0], s.routed[1]; a+b >= 24 && (a == 0 || b == 0) {
		s.O.Reportf(0, "a route with equal weights sent %d requests to one backend and %d to the other", a, b)
	}
}
