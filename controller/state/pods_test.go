package state

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// seen is what a client is told of a target.
type seen struct {
	version uint64
	digest  uint64
	policy  mesh.TargetPolicy
	known   bool
}

func look(s *Snapshot, t mesh.Target, node string) seen {
	table, since := s.ResolveFor(t, node)
	if table == nil {
		return seen{version: s.Version}
	}
	return seen{max(table.Version, since), table.Digest(), *table.Policy("a"), true}
}

// Whenever what a client is told of a target changes, its version grows and the target is announced:
// a client never stays on what is no longer so.
func TestWhatATargetMeansNeverChangesUnannounced(t *testing.T) {
	var targets []mesh.Target
	for port := range uint16(8) {
		for i := range byte(4) {
			targets = append(targets, mesh.AddrTarget(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), port)),
				mesh.AddrTarget(netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 15: i}), port)))
		}
		for _, n := range []string{"x.a", "y.a", "z.b"} {
			targets = append(targets, mesh.NameTarget(n, port))
		}
	}
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			s := NewStore(Settings{Pods: seed%2 == 0})
			w := s.Watch()
			defer w.Close()
			before := map[mesh.Target]seen{}
			for _, target := range targets {
				before[target] = look(s.Snapshot(), target, "n1")
			}
			for step := range 120 {
				s.Apply(func(x *Tx) {
					for range 1 + rng.IntN(3) {
						mutate(x, rng)
					}
				})
				dirty := w.Take()
				for _, target := range targets {
					was, is := before[target], look(s.Snapshot(), target, "n1")
					before[target] = is
					if was.known == is.known && was.digest == is.digest && reflect.DeepEqual(was.policy, is.policy) {
						continue
					}
					if is.version <= was.version {
						t.Errorf("step %d: %s is other than at version %d, at version %d", step, target, was.version, is.version)
					}
					if !dirty.Targets[target] && !dirty.Addrs[target.Addr.Addr()] {
						t.Errorf("step %d: %s changed, and nobody was told", step, target)
					}
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// podStore has a meshed pod web-1 of the namespace shop, and one of its own in the namespace other.
func podStore(settings Settings, more func(*Tx)) *Store {
	settings.Pods = true
	s := NewStore(settings)
	s.Apply(func(x *Tx) {
		x.PutWorkload(&Workload{
			Name: Name{"shop", "web-1"}, Pod: true, Proxied: true, Identity: "spiffe://cluster.local/ns/shop/sa/web",
			Labels: map[string]string{"app": "web"}, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
			Ports: []WorkloadPort{{Name: "http", Port: 8080}}, Node: "n1", Skipped: []PortRange{{9000, 9099}},
		})
		x.PutService(&Service{
			Name: Name{"shop", "web"}, Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Selector: map[string]string{"app": "web"},
			Ports: []ServicePort{{Name: "http", Port: 80, TargetName: "http"}},
		})
		if more != nil {
			more(x)
		}
	})
	return s
}

func webSlice(e ...SliceEndpoint) *Slice {
	return &Slice{Name: Name{"shop", "web-abc"}, Service: "web", Ports: []SlicePort{{Name: "http", Port: 8080}}, Endpoints: e}
}

func endpointsOf(s *Store, target string) []mesh.Endpoint {
	t, err := mesh.ParseTarget(target)
	if err != nil {
		panic(err)
	}
	table, _ := s.Snapshot().Resolve(t)
	if table == nil {
		return nil
	}
	var all []mesh.Endpoint
	for e := range table.Endpoints() {
		all = append(all, *e)
	}
	return all
}

func TestEveryPortOfAPodLeadsToItByItsAddress(t *testing.T) {
	s := podStore(Settings{}, nil)
	for port, want := range map[string]mesh.Endpoint{
		"8080": {Identity: "spiffe://cluster.local/ns/shop/sa/web"},
		"1234": {Identity: "spiffe://cluster.local/ns/shop/sa/web"}, // not in its spec
		"5432": {Identity: "spiffe://cluster.local/ns/shop/sa/web", Protocol: mesh.ProtocolOpaque},
		"9001": {NoTLS: mesh.NoTLSSkipped}, // R5.6
	} {
		got := endpointsOf(s, "10.1.0.1:"+port)
		if len(got) != 1 || got[0].Identity != want.Identity || got[0].NoTLS != want.NoTLS || got[0].Protocol != want.Protocol {
			t.Errorf("port %s: %+v, want %+v", port, got, want)
		}
	}
	if got := endpointsOf(s, "10.1.0.2:8080"); got != nil {
		t.Errorf("nobody's address: %+v", got)
	}
}

// A slice is told of separately from its pods: what it says of a pod counts while the pod is there.
func TestAnEndpointThatIsAPodWaitsForThePod(t *testing.T) { // R5.6: else it would be plaintext for a moment
	ref := SliceEndpoint{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, Pod: "web-2", Ref: true}
	s := podStore(Settings{}, func(x *Tx) { x.PutSlice(webSlice(ref)) })
	if got := endpointsOf(s, "web.shop:80"); len(got) != 0 {
		t.Fatalf("before its pod is known: %+v", got)
	}
	web2 := &Workload{
		Name: Name{"shop", "web-2"}, Pod: true, Proxied: true, Identity: "spiffe://cluster.local/ns/shop/sa/web",
		Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")},
	}
	s.Apply(func(x *Tx) { x.PutWorkload(web2) })
	if got := endpointsOf(s, "web.shop:80"); len(got) != 1 || got[0].Identity != web2.Identity {
		t.Fatalf("with its pod: %+v", got)
	}
	moved := *web2
	moved.Addrs = []netip.Addr{netip.MustParseAddr("10.1.0.3")}
	s.Apply(func(x *Tx) { x.PutWorkload(&moved) })
	if got := endpointsOf(s, "web.shop:80"); len(got) != 0 {
		t.Errorf("with its pod elsewhere: %+v", got)
	}
	s.Apply(func(x *Tx) { x.PutWorkload(web2) })
	s.Apply(func(x *Tx) { x.DeleteWorkload(web2.Name) })
	if got := endpointsOf(s, "web.shop:80"); len(got) != 0 {
		t.Errorf("after its pod: %+v", got)
	}
}

func TestASliceBorrowsNoIdentityFromAnotherNamespace(t *testing.T) { // R5.6
	s := podStore(Settings{}, func(x *Tx) {
		x.PutService(&Service{Name: Name{"other", "mine"}, Ports: []ServicePort{{Name: "http", Port: 80, Target: 8080}}})
		x.PutSlice(&Slice{
			Name: Name{"other", "mine-1"}, Service: "mine", Ports: []SlicePort{{Name: "http", Port: 8080}},
			Endpoints: []SliceEndpoint{{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}},
		})
	})
	if got := endpointsOf(s, "mine.other:80"); len(got) != 1 || got[0].Identity != "" || got[0].NoTLS != mesh.NoTLSNotMeshed {
		t.Errorf("%+v", got)
	}
}

func TestAPodOnItsNodesNetworkOwnsNoAddress(t *testing.T) {
	node := netip.MustParseAddr("192.0.2.1")
	s := podStore(Settings{}, func(x *Tx) {
		x.PutWorkload(&Workload{
			Name: Name{"shop", "agent"}, Pod: true, HostNetwork: true, Addrs: []netip.Addr{node}, Deployment: "agents",
		})
		x.PutSlice(webSlice(SliceEndpoint{Addrs: []netip.Addr{node}, Pod: "agent", Ref: true}))
	})
	if got := endpointsOf(s, "192.0.2.1:22"); got != nil {
		t.Errorf("the node's own ports: %+v", got)
	}
	if got := endpointsOf(s, "web.shop:80"); len(got) != 1 || got[0].Deployment != "agents" || got[0].NoTLS != mesh.NoTLSNotMeshed {
		t.Errorf("by its Service: %+v", got)
	}
}

func TestAnAddressGoesToThePodThatDoesNotEnd(t *testing.T) {
	s := podStore(Settings{}, func(x *Tx) {
		x.PutWorkload(&Workload{Name: Name{"shop", "aaa"}, Pod: true, Terminating: true, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}})
	})
	if got := endpointsOf(s, "10.1.0.1:8080"); len(got) != 1 || got[0].Pod != "web-1" {
		t.Errorf("%+v", got)
	}
}

func TestAServiceOfBothFamiliesAnswersInTheDialledOne(t *testing.T) {
	four, six := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00::1")
	s := podStore(Settings{}, func(x *Tx) {
		x.PutWorkload(&Workload{Name: Name{"shop", "web-1"}, Pod: true, Addrs: []netip.Addr{four, six}, Ports: []WorkloadPort{{Port: 8080}}})
		x.PutService(&Service{
			Name: Name{"shop", "web"}, Ports: []ServicePort{{Name: "http", Port: 80, Target: 8080}},
			Addrs: []netip.Addr{netip.MustParseAddr("fd00:96::1"), netip.MustParseAddr("10.96.0.1")},
		})
		x.PutSlice(webSlice(SliceEndpoint{Addrs: []netip.Addr{four, six}, Pod: "web-1", Ref: true}))
	})
	for target, want := range map[string]netip.Addr{"10.96.0.1:80": four, "[fd00:96::1]:80": six, "web.shop:80": six} {
		if got := endpointsOf(s, target); len(got) != 1 || got[0].Addr.Addr() != want {
			t.Errorf("%s: %+v, want %s", target, got, want)
		}
	}
}

func TestALocalServiceGivesEachNodeItsOwn(t *testing.T) { // R6.3
	s := podStore(Settings{}, func(x *Tx) {
		x.PutService(&Service{
			Name: Name{"shop", "web"}, Ports: []ServicePort{{Name: "http", Port: 80, Target: 8080}}, NodeLocal: true,
			Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		})
		x.PutSlice(webSlice(SliceEndpoint{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, Pod: "web-1", Ref: true, Node: "n1"}))
	})
	for node, want := range map[string]int{"n1": 1, "n2": 0, "": 0} {
		if table, _ := s.Snapshot().ResolveFor(mesh.NameTarget("web.shop", 80), node); table.Len() != want {
			t.Errorf("for clients on %q: %d endpoints, want %d", node, table.Len(), want)
		}
	}
}

func TestAnExternalAddressTakesNothingFromItsOwner(t *testing.T) {
	s := podStore(Settings{}, func(x *Tx) {
		x.PutSlice(webSlice(SliceEndpoint{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, Pod: "web-1", Ref: true}))
		x.PutService(&Service{
			Name: Name{"aaa", "thief"}, Ports: []ServicePort{{Port: 80, Target: 80}, {Port: 8080, Target: 80}},
			External: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("203.0.113.9")},
		})
	})
	for target, want := range map[string]string{"10.96.0.1:80": "web.shop:80", "10.1.0.1:8080": "web-1.shop:8080", "203.0.113.9:80": "thief.aaa:80"} {
		a, err := mesh.ParseTarget(target)
		if err != nil {
			t.Fatal(err)
		}
		if table, _ := s.Snapshot().Resolve(a); table == nil || table.Policy("").String() != want {
			t.Errorf("%s: want %s", target, want)
		}
	}
}

// What a Service says of a pod's port reaches those who dial the pod (a headless Service's clients),
// and the pod's own proxy, though the pod's spec does not have the port.
func TestAServicesWordOnAPortHoldsForThePodsAddress(t *testing.T) { // R2.4
	s := podStore(Settings{}, nil)
	w := s.Watch()
	defer w.Close()
	s.Apply(func(x *Tx) {
		x.PutService(&Service{
			Name: Name{"shop", "db"}, Selector: map[string]string{"app": "web"},
			Ports: []ServicePort{{Port: 15432, Target: 15432, Protocol: mesh.ProtocolOpaque}},
		})
	})
	if got := endpointsOf(s, "10.1.0.1:15432"); len(got) != 1 || got[0].Protocol != mesh.ProtocolOpaque {
		t.Errorf("who dials the pod: %+v", got)
	}
	if !w.Take().Addrs[netip.MustParseAddr("10.1.0.1")] {
		t.Error("nobody was told")
	}
	if got := speaksBy(s.Snapshot().Inbound(Name{"shop", "web-1"}).Policy, 15432); got != mesh.ProtocolOpaque {
		t.Errorf("the pod's own proxy: %v", got)
	}
}
