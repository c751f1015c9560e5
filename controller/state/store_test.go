package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/race"
)

func TestMain(m *testing.M) { leak.Main(m) }

func workload(i int) *Workload {
	return &Workload{
		Name: Name{"shop", fmt.Sprintf("catalog-%d", i)}, Proxied: true,
		Identity: "spiffe://cluster.local/ns/shop/sa/catalog",
		Labels:   map[string]string{"app": "catalog"},
		Addrs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
		Ports:    []WorkloadPort{{Name: "grpc", Port: 8080}},
	}
}

func catalog() *Service {
	return &Service{
		Name: Name{"shop", "catalog"}, Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports:    []ServicePort{{Name: "grpc", Port: 80, TargetName: "grpc", Protocol: mesh.ProtocolGRPC}},
		Selector: map[string]string{"app": "catalog"},
	}
}

func fill(s *Store, n int) {
	s.Apply(func(x *Tx) {
		x.PutService(catalog())
		for i := range n {
			x.PutWorkload(workload(i))
		}
	})
}

// Whatever happens to the base rows, step by step or at once, the derived tables are those that a
// derivation from nothing gives, and a delta leads from any version to the next.
func TestIncrementalIsWhatAFreshDerivationGives(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := NewStore(Settings{Pods: seed%2 == 0})
			held := map[Key]map[netip.AddrPort]mesh.Endpoint{}
			at := map[Key]uint64{}
			for step := range 120 {
				before := s.Snapshot()
				after := s.Apply(func(x *Tx) {
					for range 1 + rng.IntN(3) {
						mutate(x, rng)
					}
				})
				if a := after.audit(); len(a.problems) > 0 {
					t.Fatalf("step %d: %v", step, a.problems)
				}
				if after != before && after.Version != before.Version+1 {
					t.Fatalf("step %d: version %d follows %d", step, after.Version, before.Version)
				}
				if rng.IntN(4) == 0 {
					follow(t, after, held, at)
				}
			}
		})
	}
}

// follow brings copies of all tables up to date, by deltas where there are some.
func follow(t *testing.T, s *Snapshot, held map[Key]map[netip.AddrPort]mesh.Endpoint, at map[Key]uint64) {
	t.Helper()
	seen := map[Key]bool{}
	for table := range s.Tables() {
		seen[table.Key] = true
		rows, had := held[table.Key], at[table.Key] != 0
		d, ok := table.Since(at[table.Key])
		if !had || !ok {
			rows = map[netip.AddrPort]mesh.Endpoint{}
			for e := range table.Endpoints() {
				rows[e.Addr] = *e
			}
		} else {
			for _, e := range d.Added {
				rows[e.Addr] = *e
			}
			for _, a := range d.Removed {
				delete(rows, a)
			}
		}
		var digest mesh.Digest
		for _, e := range rows {
			digest.Add(e)
		}
		if digest.Value() != table.Digest() || len(rows) != table.Len() {
			t.Fatalf("table %v: delta from %d to %d leads elsewhere: %d rows, want %d",
				table.Key, at[table.Key], table.Version, len(rows), table.Len())
		}
		held[table.Key], at[table.Key] = rows, table.Version
	}
	maps.DeleteFunc(at, func(k Key, _ uint64) bool { return !seen[k] })
}

func mutate(x *Tx, rng *rand.Rand) {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	ns := pick("a", "b")
	addr := func() netip.Addr {
		if rng.IntN(4) == 0 {
			return netip.AddrFrom16([16]byte{0xfd, 15: byte(rng.IntN(3))})
		}
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(4))})
	}
	rules := func() PortRules {
		var r PortRules
		if rng.IntN(3) == 0 {
			r.Opaque = []PortRange{{uint16(1 + rng.IntN(3)), 3}}
		}
		if d := mesh.Default(rng.IntN(5)); rng.IntN(3) == 0 {
			r.Default = &d
		}
		if rng.IntN(3) == 0 {
			r.PortDefaults = []PortDefault{{uint16(1 + rng.IntN(4)), mesh.DefaultDeny}}
		}
		return r
	}
	switch n := (Name{ns, pick("x", "y", "z")}); rng.IntN(10) {
	case 0:
		x.PutNamespace(&Namespace{Name: ns, Rules: rules()})
	case 1:
		x.DeleteNamespace(ns)
	case 2, 3:
		s := &Service{Name: n, Addrs: []netip.Addr{addr()}, Rules: rules(), SameZone: rng.IntN(2) == 0, NodeLocal: rng.IntN(4) == 0}
		if a := addr(); a != s.Addrs[0] && rng.IntN(3) == 0 {
			s.Addrs = append(s.Addrs, a)
		}
		if rng.IntN(3) == 0 {
			s.External = append(s.External, addr())
		}
		if rng.IntN(4) > 0 {
			s.Selector = map[string]string{"app": pick("p", "q")}
		}
		for p := range 1 + rng.IntN(2) {
			s.Ports = append(s.Ports, ServicePort{
				Name: fmt.Sprint(p), Port: uint16(1 + p + rng.IntN(2)*5), Target: uint16(1 + rng.IntN(3)),
				Protocol: mesh.Protocol(rng.IntN(7)),
			})
		}
		x.PutService(s)
	case 4:
		x.DeleteService(n)
	case 5, 6:
		w := &Workload{
			Name: n, Identity: mesh.NewIdentity("cluster.local", ns, pick("s", "t")), Proxied: rng.IntN(3) > 0,
			Labels: map[string]string{"app": pick("p", "q")}, Zone: pick("", "z1"), Rules: rules(),
			Terminating: rng.IntN(4) == 0, Pod: rng.IntN(2) == 0, Node: pick("", "n1", "n2"),
		}
		if w.Pod {
			w.HostNetwork = rng.IntN(4) == 0
			w.Skipped = []PortRange{{2, uint16(1 + rng.IntN(2))}}
		}
		for range 1 + rng.IntN(2) {
			if a := addr(); !slices.Contains(w.Addrs, a) {
				w.Addrs = append(w.Addrs, a)
			}
		}
		for p := range rng.IntN(4) {
			w.Ports = append(w.Ports, WorkloadPort{Name: fmt.Sprint(p), Port: uint16(1 + p), Skipped: rng.IntN(3) == 0})
		}
		x.PutWorkload(w)
	case 7:
		x.DeleteWorkload(n)
	case 8:
		if rng.IntN(3) == 0 {
			x.DeleteSlice(n)
			return
		}
		sl := &Slice{Name: n, Service: pick("x", "y", "z"), Ports: []SlicePort{{Name: pick("0", "1"), Port: uint16(1 + rng.IntN(3))}}}
		for range rng.IntN(3) {
			sl.Endpoints = append(sl.Endpoints, SliceEndpoint{
				Addrs: []netip.Addr{addr()}, Terminating: rng.IntN(2) == 0,
				Node: pick("", "n1", "n2"), Pod: pick("x", "y", "z"), Ref: rng.IntN(2) == 0,
			})
		}
		x.PutSlice(sl)
	case 9:
		if rng.IntN(3) == 0 {
			x.DeleteRoute(n)
			return
		}
		x.PutRoute(&Route{
			Name: n, Created: time.Unix(int64(rng.IntN(2)), 0),
			Parents:  []RouteParent{{Service: Name{pick("a", "b"), pick("x", "y")}, Port: uint16(rng.IntN(2))}},
			Backends: []mesh.Backend{{Target: mesh.NameTarget("z."+ns, 2), Weight: 1}},
		})
	}
}

func TestAuditFindsAndRepairsACorruptedRow(t *testing.T) {
	s := NewStore(Settings{})
	fill(s, 3)
	table, _ := s.Snapshot().Resolve(mesh.NameTarget("catalog.shop", 80))
	if p := s.Audit(); p != nil {
		t.Fatalf("audit of a sound store: %v", p)
	}
	for e := range table.Endpoints() {
		e.Identity = "spiffe://cluster.local/ns/shop/sa/mallory" // what no correct program does
		break
	}
	w := s.Watch()
	defer w.Close()
	if p := s.Audit(); len(p) != 1 || p[0] != "table shop/catalog:80 differs from what its sources say" {
		t.Fatalf("audit: %v", p)
	}
	if d := w.Take(); !d.Targets[mesh.NameTarget("catalog.shop", 80)] {
		t.Errorf("the repair is not announced: %v", d)
	}
	after, _ := s.Snapshot().Resolve(mesh.NameTarget("catalog.shop", 80))
	if _, ok := after.Since(table.Version); ok || after.Version <= table.Version {
		t.Errorf("a repaired table must go out whole at a later version, got %d after %d", after.Version, table.Version)
	}
	if p := s.Audit(); p != nil {
		t.Errorf("audit after the repair: %v", p)
	}
}

func TestOneWorkloadIsOneRowAmongTenThousand(t *testing.T) {
	s := NewStore(Settings{})
	fill(s, 10_000)
	before, _ := s.Snapshot().Resolve(mesh.NameTarget("catalog.shop", 80))
	w := workload(77)
	w.Terminating = true
	start := time.Now()
	s.Apply(func(x *Tx) { x.PutWorkload(w) })
	took := time.Since(start)
	after, _ := s.Snapshot().Resolve(mesh.NameTarget("catalog.shop", 80))
	d, ok := after.Since(before.Version)
	if !ok || len(d.Added) != 1 || len(d.Removed) != 0 || d.Policy {
		t.Fatalf("delta: %+v, %v; want the one row", d, ok)
	}
	if before.Get(d.Added[0].Addr).Terminating {
		t.Error("the older table changed")
	}
	if took > 5*time.Millisecond && !race.Enabled {
		t.Errorf("one change took %v", took)
	}
}

func TestTooOldABaseGetsTheWhole(t *testing.T) {
	s := NewStore(Settings{})
	fill(s, 100)
	first, _ := s.Snapshot().Resolve(mesh.NameTarget("catalog.shop", 80))
	for i := range logLength + 1 {
		w := workload(i)
		w.Terminating = true
		s.Apply(func(x *Tx) { x.PutWorkload(w) })
	}
	now, _ := s.Snapshot().Resolve(mesh.NameTarget("catalog.shop", 80))
	if _, ok := now.Since(first.Version); ok {
		t.Error("a delta over more changes than the log holds")
	}
	if d, ok := now.Since(first.Version + 1); !ok || len(d.Added) != logLength {
		t.Errorf("the oldest base within the log: %d rows, %v", len(d.Added), ok)
	}
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			s := NewStore(Settings{})
			fill(s, n)
			i := 0
			for b.Loop() {
				w := workload(i % n)
				w.Terminating = i/n%2 == 0
				s.Apply(func(x *Tx) { x.PutWorkload(w) })
				i++
			}
		})
	}
}

func BenchmarkAudit(b *testing.B) {
	s := NewStore(Settings{})
	fill(s, 10_000)
	for b.Loop() {
		if p := s.Audit(); p != nil {
			b.Fatal(p)
		}
	}
}
