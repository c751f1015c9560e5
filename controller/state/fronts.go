package state

import (
	"iter"
	"net/netip"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Targets of Services and workloads may collide: a cluster address that is also a workload's.
// Every claimant is kept, and the first in order wins, Services before workloads.

func claimKey(t mesh.Target, k Key) []byte { return append(targetKey(t), k.bytes()...) }

func (x *Tx) claim(t mesh.Target, k Key) {
	if old, ok := x.claims.Get(claimKey(t, k)); !ok || old != k {
		x.claims.Insert(claimKey(t, k), k)
		x.targets[t] = true
	}
}

func (x *Tx) unclaim(t mesh.Target, k Key) {
	if _, ok := x.claims.Delete(claimKey(t, k)); ok {
		x.targets[t] = true
	}
}

// Targets yields what a Service's ports are called, canonically.
func (s *Service) Targets() iter.Seq2[mesh.Target, Key] {
	return func(yield func(mesh.Target, Key) bool) {
		for _, p := range s.Ports {
			k := Key{Service: s.Name, Port: p.Port}
			if !yield(mesh.NameTarget(s.Name.Name+"."+s.Name.Namespace, p.Port), k) {
				return
			}
			for _, ip := range s.Addrs {
				if !yield(mesh.AddrTarget(netip.AddrPortFrom(ip, p.Port)), k) {
					return
				}
			}
		}
	}
}

// reclaim moves the claims of a Service from its old row to its new one.
func (x *Tx) reclaim(old, now *Service) {
	if old != nil {
		for t, k := range old.Targets() {
			x.unclaim(t, k)
		}
	}
	if now != nil {
		for t, k := range now.Targets() {
			x.claim(t, k)
		}
	}
}

// settleFronts decides what targets mean, and notes which targets readers should look at again.
func (x *Tx) settleFronts() {
	for t := range x.targets {
		x.settleFront(t)
	}
	for k := range x.dirtyTables {
		for t := range x.called(k) {
			x.dirty.Targets[t] = true
		}
	}
}

func (x *Tx) settleFront(t mesh.Target) {
	old, had := x.fronts.Get(targetKey(t))
	for k := range scan(x.claims.Root(), targetKey(t)) {
		if !had || old.Key != k {
			x.fronts.Insert(targetKey(t), Front{Key: k, Since: x.version})
			x.dirty.Targets[t] = true
		}
		return
	}
	if had {
		x.fronts.Delete(targetKey(t))
		x.dirty.Targets[t] = true
	}
}

// called yields the targets by which a table is known now. Those by which it was known before are
// in x.targets.
func (x *Tx) called(k Key) iter.Seq[mesh.Target] {
	return func(yield func(mesh.Target) bool) {
		if k.Addr.IsValid() {
			yield(mesh.AddrTarget(k.Addr))
			return
		}
		s := x.service(k.Service)
		if s == nil {
			return
		}
		for t, key := range s.Targets() {
			if key == k && !yield(t) {
				return
			}
		}
	}
}
