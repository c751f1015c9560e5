package destination

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

var seeds = flag.Int("seeds", 12, "how many random histories to play")

// Whatever changes while streams come and go, subscriptions begin and end and sinks answer late, no
// digest differs and no delta fails to follow: alarms are for faults. In the end everybody holds
// what the store has.
func TestRandomChangesRaiseNoFalseAlarm(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomly(t, rand.New(rand.NewPCG(seed, 8))) })
		})
	}
}

func randomly(t *testing.T, rng *rand.Rand) {
	p := newPlane(t, Config{MaxAge: 3 * time.Second, DigestInterval: time.Second})
	defer p.stop()
	p.store.MarkSynced()
	targets := []mesh.Target{
		mesh.NameTarget("a.shop", 80), mesh.NameTarget("b.shop", 80), mesh.NameTarget("a.shop.svc", 81),
		mesh.AddrTarget(netip.MustParseAddrPort("10.96.0.1:80")), mesh.AddrTarget(netip.MustParseAddrPort("10.0.0.1:8080")),
	}
	var proxies []*proxy
	for i := range 3 {
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: fmt.Sprint("w", i)},
			func(x *proxy) { x.late = time.Duration(i) * 300 * time.Millisecond })
		defer x.stop()
		proxies = append(proxies, x)
	}
	for range 300 {
		p.store.Apply(func(x *state.Tx) { change(x, rng) })
		x, target := proxies[rng.IntN(len(proxies))], targets[rng.IntN(len(targets))]
		switch rng.IntN(6) {
		case 0:
			x.client.Unsubscribe(target)
		case 1, 2:
			x.client.Subscribe(target)
		}
		if rng.IntN(3) == 0 {
			continue // at once
		}
		settle(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
	}
	for _, x := range proxies {
		for _, target := range targets {
			x.client.Subscribe(target)
		}
	}
	settle(20 * time.Second)
	for i, x := range proxies {
		s := x.client.Stats()
		if s.Gaps+s.Mismatches+s.Nacks+s.Resyncs > 0 || s.Connects < 5 || s.Digests == 0 {
			t.Errorf("proxy %d: %+v", i, s)
		}
		for _, target := range targets {
			if table, _ := p.store.Snapshot().Resolve(target); table != nil {
				x.same(p.store, target)
			} else if n := x.len(target); n != 0 {
				t.Errorf("proxy %d holds %d rows of %s, which is unknown", i, n, target)
			}
		}
	}
}

func change(x *state.Tx, rng *rand.Rand) {
	name := state.Name{Namespace: "shop", Name: string(rune('a' + rng.IntN(2)))}
	switch rng.IntN(6) {
	case 0:
		x.DeleteService(name)
	case 1, 2:
		x.PutService(&state.Service{
			Name: name, Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
			Selector: map[string]string{"app": fmt.Sprint(rng.IntN(2))},
			Ports:    []state.ServicePort{{Name: "x", Port: uint16(80 + rng.IntN(2)), Target: 8080}},
		})
	case 3:
		x.DeleteWorkload(state.Name{Namespace: "shop", Name: fmt.Sprint("w", rng.IntN(8))})
	default:
		n := rng.IntN(8)
		x.PutWorkload(&state.Workload{
			Name: state.Name{Namespace: "shop", Name: fmt.Sprint("w", n)}, Proxied: true, Identity: catalogID,
			Labels: map[string]string{"app": fmt.Sprint(rng.IntN(2))}, Terminating: rng.IntN(3) == 0,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})},
			Ports: []state.WorkloadPort{{Port: 8080}},
		})
	}
}
