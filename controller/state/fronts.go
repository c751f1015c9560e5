package state

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Targets of Services and workloads may collide: a cluster address that is also a workload's. Every
// claimant is kept, and the first in order wins.

// rank orders claims.
type rank byte

const (
	claimService  rank = iota // a name or a cluster address
	claimWorkload             // an address of a workload that is no pod
	claimExternal             // an address that a Service says is its own
)

// claimant is what would like to be a target's table.
type claimant struct {
	key  Key
	rank rank
}

func claimKey(t mesh.Target, c claimant) []byte {
	return append(append(targetKey(t), byte(c.rank)), c.key.bytes()...)
}

func (x *Tx) claim(t mesh.Target, c claimant) {
	if old, ok := x.claims.Get(claimKey(t, c)); !ok || old != c {
		x.claims.Insert(claimKey(t, c), c)
		x.targets[t] = true
	}
}

func (x *Tx) unclaim(t mesh.Target, c claimant) {
	if _, ok := x.claims.Delete(claimKey(t, c)); ok {
		x.targets[t] = true
	}
}

// Targets yields what a Service's ports are called, canonically.
func (s *Service) Targets() iter.Seq2[mesh.Target, Key] {
	return func(yield func(mesh.Target, Key) bool) {
		for t, c := range s.claims() {
			if !yield(t, c.key) {
				return
			}
		}
	}
}

func (s *Service) claims() iter.Seq2[mesh.Target, claimant] {
	return func(yield func(mesh.Target, claimant) bool) {
		for _, p := range s.Ports {
			k := Key{Service: s.Name, Port: p.Port, Family: s.families()[0]}
			if !yield(mesh.NameTarget(s.Name.Name+"."+s.Name.Namespace, p.Port), claimant{k, claimService}) {
				return
			}
			for i, ip := range slices.Concat(s.Addrs, s.External) {
				c := claimant{k, claimService}
				if i >= len(s.Addrs) {
					c.rank = claimExternal
				}
				if k.Family != 0 {
					c.key.Family = family(ip)
				}
				if !yield(mesh.AddrTarget(netip.AddrPortFrom(ip, p.Port)), c) {
					return
				}
			}
		}
	}
}

// reclaim moves the claims of a Service from its old row to its new one.
func (x *Tx) reclaim(old, now *Service) {
	if old != nil {
		for t, c := range old.claims() {
			x.unclaim(t, c)
		}
	}
	if now != nil {
		for t, c := range now.claims() {
			x.claim(t, c)
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
	var now Front
	for c := range scan(x.claims.Root(), targetKey(t)) {
		now = Front{Key: c.key, Since: x.version, rank: c.rank}
		break
	}
	switch {
	case old.Key == now.Key && old.rank == now.rank:
		return
	case now.Since != 0:
		x.fronts.Insert(targetKey(t), now)
	default:
		x.fronts.Delete(targetKey(t))
	}
	x.dirty.Targets[t] = true
	if had && t.Name == "" {
		x.renewPod(t.Addr.Addr()) // it may be what the target means from now on
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
		k.Node = ""
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
