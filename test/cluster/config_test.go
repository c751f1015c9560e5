package cluster

import (
	"net/netip"
	"testing"
)

// TestInstancesDoNotOverlap holds the plan of addresses: clusters stand beside each other on one machine.
func TestInstancesDoNotOverlap(t *testing.T) {
	type taken struct {
		by     instance
		prefix netip.Prefix
	}
	var all []taken
	for i := range instance(10) {
		for _, a := range i.families() {
			for _, p := range []netip.Prefix{a.host, a.services, a.pods} {
				if p != p.Masked() && p != a.host {
					t.Errorf("instance %d: %s is no network", i, p)
				}
				for _, other := range all {
					if other.prefix.Overlaps(p) {
						t.Errorf("%s of instance %d overlaps %s of instance %d", p, i, other.prefix, other.by)
					}
				}
				all = append(all, taken{i, p.Masked()})
			}
			for n := 1; n <= 9; n++ {
				if !a.host.Contains(a.node(n)) || !a.pods.Overlaps(a.podsOf(n)) || a.podsOf(n) != a.podsOf(n).Masked() {
					t.Errorf("instance %d: node %d has address %s and pods %s", i, n, a.node(n), a.podsOf(n))
				}
			}
			if !a.services.Contains(a.service(10)) {
				t.Errorf("instance %d: DNS at %s is outside of %s", i, a.service(10), a.services)
			}
		}
	}
}
