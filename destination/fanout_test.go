package destination

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

// counter is a Sink that counts rows instead of keeping them, so that many proxies fit into a test.
type counter struct {
	mu      sync.Mutex
	digest  mesh.Digest
	version uint64
	seen    func(u discover.Update)
}

func (c *counter) Target(u discover.Update, done func(error)) {
	c.mu.Lock()
	if u.Full {
		c.digest = mesh.Digest{}
		for _, e := range u.Added {
			c.digest.Add(e)
		}
	}
	c.version = u.Version
	c.mu.Unlock()
	c.seen(u)
	done(nil)
}

func (c *counter) Inbound(_ *mesh.InboundPolicy, _ uint64, done func(error)) { done(nil) }
func (c *counter) Connected(bool)                                            {}

// Digest never compares: rows are not kept, and this test is about time.
func (c *counter) Digest(_ mesh.Target, _ uint64, answer func(uint64, bool)) { go answer(0, false) }

// 200 simulated proxies see a change among 10,000 endpoints in 250 ms; the test fails at twenty times that, since it does
// not have the machine to itself. The race detector gets a smaller mesh; make test runs the whole one without it.
func TestAChangeAmongManyEndpointsReachesManyProxiesSoon(t *testing.T) {
	const goal, bound = 250 * time.Millisecond, 5 * time.Second
	endpoints, proxies := 10_000, 200
	if race.Enabled {
		endpoints, proxies = 2_000, 40
	}
	registry := prometheus.NewRegistry()
	// Nobody is told anything twice because this machine is slow.
	p := newPlane(t, Config{Registerer: registry, DigestInterval: time.Hour, AckTimeout: time.Hour})
	defer p.stop()
	fill(p.store, endpoints)

	var begun time.Time
	var mu sync.Mutex
	var took []time.Duration
	var round sync.WaitGroup
	change := func(i int) time.Duration {
		mu.Lock()
		begun, took = time.Now(), nil
		mu.Unlock()
		round.Add(proxies)
		terminate(p.store, i)
		round.Wait()
		slices.Sort(took)
		return took[len(took)-1]
	}
	seen := func(discover.Update) {
		mu.Lock()
		took = append(took, time.Since(begun))
		mu.Unlock()
		round.Done()
	}
	round.Add(proxies)
	began := time.Now()
	for i := range proxies {
		stop := p.count(discover.Config{Namespace: "shop", Name: fmt.Sprintf("catalog-%d", i)}, &counter{seen: seen})
		defer stop()
	}
	round.Wait()
	t.Logf("%d proxies were told %d endpoints in %v", proxies, endpoints, time.Since(began))
	runtime.GC()

	var worst time.Duration
	for i := range 10 {
		last := change(i)
		worst = max(worst, last)
		t.Logf("change %d: first %v, median %v, last %v", i, took[0], took[len(took)/2], last)
	}
	t.Logf("the slowest proxy saw a change after %v, goal %v", worst, goal)
	if worst > bound {
		t.Errorf("the slowest proxy saw a change after %v, want %v", worst, bound)
	}
	if n := value(t, registry, "discovery_encodings_total"); n != 1+10 {
		t.Errorf("%v encodings for one whole and 10 changes: bytes are not shared", n)
	}
}

// count connects a proxy that subscribes to the catalog.
func (p *plane) count(cfg discover.Config, c *counter) (stop func()) {
	x := p.connectTo(catalogID, cfg, c, nil)
	x.client.Subscribe(catalogTarget)
	return x.stop
}

func value(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		t.Fatalf("no metric %s", name)
	}
	return families[i].GetMetric()[0].GetCounter().GetValue()
}

// One encoding of a change, and one planning per stream.
func BenchmarkPlan(b *testing.B) {
	store := state.NewStore(state.Settings{})
	fill(store, 10_000)
	table, _ := store.Snapshot().Resolve(catalogTarget)
	base := table.Version
	terminate(store, 1)
	for b.Loop() {
		s := &subject{id: 1, target: catalogTarget, acked: told{version: base}}
		if _, ok := s.next(store.Snapshot(), "", time.Time{}); !ok {
			b.Fatal("nothing to say")
		}
	}
}
