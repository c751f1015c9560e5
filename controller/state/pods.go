package state

import (
	"iter"
	"net/netip"
	"reflect"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Every port of a pod's address is the pod's, so there is one entry per address, and the table of a
// port is made when somebody asks for it.

// podFront is the pod that an address belongs to.
type podFront struct {
	Workload Name
	// Since is the version at which what clients are told of the address changed last, but for what
	// its ports speak, which changes with the pod's inbound policy.
	Since uint64
}

func podKey(a netip.Addr) []byte {
	ip := a.As16()
	return ip[:]
}

// addrOf reads what podKey wrote.
func addrOf(k []byte) netip.Addr { return netip.AddrFrom16([16]byte(k)).Unmap() }

// ownerOf finds the workload that listens at an address. A pod comes before others: where pods are,
// their addresses are the cluster's to give.
func ownerOf(index *iradix.Node[Name], workload func(Name) *Workload, a netip.AddrPort) *Workload {
	if w := first(index, workload, netip.AddrPortFrom(a.Addr(), 0)); w != nil {
		return w
	}
	return first(index, workload, a)
}

// first is the first workload by name at an entry of the index, and before it the first that does not
// terminate: an address may be given to the next pod while the one before still ends.
func first(index *iradix.Node[Name], workload func(Name) *Workload, a netip.AddrPort) *Workload {
	var found *Workload
	for n := range scan(index, ownersPrefix(a)) {
		w := workload(n)
		if !w.Terminating {
			return w
		}
		if found == nil {
			found = w
		}
	}
	return found
}

func (x *Tx) owner(a netip.AddrPort) *Workload { return ownerOf(x.index.Root(), x.workload, a) }

// listener is the workload that listens at an address and is no pod.
func (x *Tx) listener(a netip.AddrPort) *Workload { return first(x.index.Root(), x.workload, a) }

// pod is the pod that an address belongs to.
func (x *Tx) pod(a netip.Addr) *Workload { return x.listener(netip.AddrPortFrom(a, 0)) }

// settlePod derives whose an address is.
func (x *Tx) settlePod(a netip.Addr) {
	now := x.pod(a)
	old, had := x.pods.Get(podKey(a))
	switch {
	case now == nil && !had:
	case now == nil:
		x.pods.Delete(podKey(a))
		x.dirty.Addrs[a] = true
		x.renewFronts(a)
	case !had || old.Workload != now.Name || x.looksOther(now):
		x.pods.Insert(podKey(a), podFront{Workload: now.Name, Since: x.version})
		x.dirty.Addrs[a] = true
	}
}

// looksOther reports whether clients of a pod are told something else than before.
func (x *Tx) looksOther(now *Workload) bool {
	before, changed := x.oldWorkloads[now.Name]
	if !changed {
		return false
	}
	if before == nil || before == now { // new, or its namespace's rules changed
		return true
	}
	a, b := *before, *now
	a.Labels, b.Labels = nil, nil
	return !reflect.DeepEqual(a, b)
}

// renewPod makes an address's pod news: what stood before it went.
func (x *Tx) renewPod(a netip.Addr) {
	if f, ok := x.pods.Get(podKey(a)); ok {
		f.Since = x.version
		x.pods.Insert(podKey(a), f)
	}
}

// renewFronts makes targets news that a pod stood before.
func (x *Tx) renewFronts(a netip.Addr) {
	prefix := appendAddr([]byte{'a'}, netip.AddrPortFrom(a, 0))
	fronts := x.fronts.Clone()
	it := fronts.Root().Iterator()
	it.SeekPrefix(prefix[:len(prefix)-2])
	for k, f, ok := it.Next(); ok; k, f, ok = it.Next() {
		f.Since = x.version
		x.fronts.Insert(slices.Clone(k), f)
	}
}

// dirtyPod notes that those who dial a pod should look again.
func (x *Tx) dirtyPod(w *Workload) {
	if !w.Pod || w.HostNetwork {
		return
	}
	for _, a := range w.Addrs {
		x.dirty.Addrs[a] = true
	}
}

// podAddrs are the addresses of pods.
func (s *Snapshot) podAddrs() iter.Seq2[netip.Addr, podFront] {
	return func(yield func(netip.Addr, podFront) bool) {
		it := s.derived.pods.Root().Iterator()
		for k, f, ok := it.Next(); ok; k, f, ok = it.Next() {
			if !yield(addrOf(k), f) {
				return
			}
		}
	}
}

// podTable makes the table of a pod's port: the pod.
func (s *Snapshot) podTable(a netip.AddrPort) (*Table, uint64) {
	f, ok := s.derived.pods.Get(podKey(a.Addr()))
	if !ok {
		return nil, 0
	}
	w, in := s.Workload(f.Workload), s.Inbound(f.Workload)
	ns, _ := s.base.namespaces.Get([]byte(f.Workload.Namespace))
	e := s.Settings.rowOf(w, ns, a, speaksBy(in.Policy, a.Port()))
	version := max(f.Since, in.Version)
	t := &Table{
		Key: Key{Addr: a}, Version: version, PolicyVersion: version, logStart: version, created: version,
		policy: &mesh.TargetPolicy{
			Kind: mesh.TargetPod, Service: w.Name.Name, Namespace: w.Name.Namespace, Port: a.Port(), Protocol: e.Protocol,
		},
	}
	t.rows, _, _ = iradix.New[*mesh.Endpoint]().Insert(addrKey(a), &e)
	t.digest.Add(e)
	return t, version
}

// speaksBy is what an inbound policy says that a port speaks.
func speaksBy(p *mesh.InboundPolicy, port uint16) mesh.Protocol {
	for _, q := range p.Ports {
		if q.Port == port {
			return q.Protocol
		}
	}
	return mesh.ProtocolDetect
}
