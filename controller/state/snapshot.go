package state

import (
	"iter"
	"net/netip"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Snapshot is everything that is known at a version. It is immutable and safe for any number of
// readers.
type Snapshot struct {
	Version  uint64
	Settings Settings
	base     base
	derived  derived
}

// base is what the sources told.
type base struct {
	namespaces *iradix.Tree[*Namespace]
	services   *iradix.Tree[*Service]
	workloads  *iradix.Tree[*Workload]
	slices     *iradix.Tree[*Slice]
	routes     *iradix.Tree[*Route]
}

// derived is what follows from base.
type derived struct {
	tables  *iradix.Tree[*Table]         // Key
	fronts  *iradix.Tree[Front]          // target
	inbound *iradix.Tree[*Inbound]       // workload
	says    *iradix.Tree[*mesh.Endpoint] // Key, address, source: what each source says of a row
	claims  *iradix.Tree[claimant]       // target, rank, table: what would like to be a target's table
	pods    *iradix.Tree[podFront]       // address
	index   *iradix.Tree[Name]           // see index.go
}

// Front is what a target resolves to.
type Front struct {
	Key Key
	// Since is the version from which the target means this table.
	Since uint64

	rank rank
}

// Inbound is the inbound policy of a workload.
type Inbound struct {
	Version uint64
	Policy  *mesh.InboundPolicy // immutable
}

func emptySnapshot(s Settings) *Snapshot {
	return &Snapshot{
		Version:  1, // 0 is "no version" in the discovery API
		Settings: s,
		base: base{
			namespaces: iradix.New[*Namespace](),
			services:   iradix.New[*Service](),
			workloads:  iradix.New[*Workload](),
			slices:     iradix.New[*Slice](),
			routes:     iradix.New[*Route](),
		},
		derived: derived{
			tables:  iradix.New[*Table](),
			fronts:  iradix.New[Front](),
			inbound: iradix.New[*Inbound](),
			says:    iradix.New[*mesh.Endpoint](),
			claims:  iradix.New[claimant](),
			pods:    iradix.New[podFront](),
			index:   iradix.New[Name](),
		},
	}
}

// Resolve returns the table of a target and the version since which the target means it; nil when
// the target is unknown.
func (s *Snapshot) Resolve(t mesh.Target) (table *Table, since uint64) {
	t = s.Settings.Canonical(t)
	f, ok := s.derived.fronts.Get(targetKey(t))
	if t.Name == "" && (!ok || f.rank != claimService) {
		if table, since = s.podTable(t.Addr); table != nil {
			return table, since
		}
	}
	if !ok {
		return nil, 0
	}
	return s.Table(f.Key), f.Since
}

// ResolveFor is Resolve for a client on a node.
func (s *Snapshot) ResolveFor(t mesh.Target, node string) (table *Table, since uint64) {
	table, since = s.Resolve(t)
	if table == nil || node == "" || table.Key.Addr.IsValid() || !s.Service(table.Key.Service).NodeLocal {
		return table, since
	}
	k := table.Key
	k.Node = node
	if own := s.Table(k); own != nil {
		return own, max(since, own.created)
	}
	return table, since
}

// Table returns a table, or nil.
func (s *Snapshot) Table(k Key) *Table {
	t, _ := s.derived.tables.Get(k.bytes())
	return t
}

// TablesOf are the tables of a Service's port: one, or one for each family and node.
func (s *Snapshot) TablesOf(service Name, port uint16) iter.Seq[*Table] {
	return scan(s.derived.tables.Root(), portPrefix(service, port))
}

// Inbound returns the inbound policy of a workload, or nil when there is no such workload.
func (s *Snapshot) Inbound(n Name) *Inbound {
	i, _ := s.derived.inbound.Get(nameKey(n))
	return i
}

// Workload returns a workload, or nil.
func (s *Snapshot) Workload(n Name) *Workload {
	w, _ := s.base.workloads.Get(nameKey(n))
	return w
}

// Service returns a Service, or nil.
func (s *Snapshot) Service(n Name) *Service {
	v, _ := s.base.services.Get(nameKey(n))
	return v
}

// Owner returns the workload that listens at an address, or nil.
func (s *Snapshot) Owner(a netip.AddrPort) *Workload {
	return ownerOf(s.derived.index.Root(), s.Workload, a)
}

// WorkloadsOf are the proxied workloads with an identity, by name.
func (s *Snapshot) WorkloadsOf(id mesh.Identity) iter.Seq[*Workload] {
	return func(yield func(*Workload) bool) {
		for n := range scan(s.derived.index.Root(), identityPrefix(id)) {
			if !yield(s.Workload(n)) {
				return
			}
		}
	}
}

// Namespaces, Services, Workloads, Slices, Routes and Tables are all rows of their kind, in the
// order of their keys. Rows must not be changed.
func (s *Snapshot) Namespaces() iter.Seq[*Namespace] { return scan(s.base.namespaces.Root(), nil) }

// Services: see Namespaces.
func (s *Snapshot) Services() iter.Seq[*Service] { return scan(s.base.services.Root(), nil) }

// Workloads: see Namespaces.
func (s *Snapshot) Workloads() iter.Seq[*Workload] { return scan(s.base.workloads.Root(), nil) }

// Slices: see Namespaces.
func (s *Snapshot) Slices() iter.Seq[*Slice] { return scan(s.base.slices.Root(), nil) }

// Routes: see Namespaces.
func (s *Snapshot) Routes() iter.Seq[*Route] { return scan(s.base.routes.Root(), nil) }

// Tables: see Namespaces.
func (s *Snapshot) Tables() iter.Seq[*Table] { return scan(s.derived.tables.Root(), nil) }

// Targets are all targets that resolve to something, with what they resolve to.
func (s *Snapshot) Targets() iter.Seq2[mesh.Target, Front] {
	return func(yield func(mesh.Target, Front) bool) {
		it := s.derived.fronts.Root().Iterator()
		for k, f, ok := it.Next(); ok; k, f, ok = it.Next() {
			if !yield(targetOf(k), f) {
				return
			}
		}
	}
}

// scan yields the values below a prefix in the order of their keys.
func scan[T any](root *iradix.Node[T], prefix []byte) iter.Seq[T] {
	return func(yield func(T) bool) {
		it := root.Iterator()
		it.SeekPrefix(prefix)
		for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
			if !yield(v) {
				return
			}
		}
	}
}
