// Package route decides where a request goes: pure decisions over a target's policy. Today a
// route's backends have weights; matches and filters are reported by name where the route is read.
package route

import (
	"math/rand/v2"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Pick chooses a backend of the target's first route, each with the probability of its weight.
//
// A target without a route serves itself: the name is empty and ok false. A route whose backends
// weigh nothing together sends nothing anywhere: its name is returned with ok false, and the
// request is answered as one without a ready endpoint (Gateway API: backendRefs that all weigh 0).
// A backend may be the target itself; its own endpoints are meant then, its routes do not apply
// again.
func Pick(p *mesh.TargetPolicy, rng *rand.Rand) (name string, to mesh.Target, ok bool) {
	if p == nil || len(p.Routes) == 0 {
		return "", mesh.Target{}, false
	}
	r := &p.Routes[0]
	var sum uint64
	for i := range r.Backends {
		sum += uint64(r.Backends[i].Weight)
	}
	if sum == 0 {
		return r.Name, mesh.Target{}, false
	}
	n := rng.Uint64N(sum)
	for i := range r.Backends {
		w := uint64(r.Backends[i].Weight)
		if n < w {
			return r.Name, r.Backends[i].Target, true
		}
		n -= w
	}
	panic("BUG: weights of a route changed while it was picked")
}
