package state

import (
	"iter"
	"net/netip"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// logLength bounds the changes that a Table remembers; a reader who stands further back gets the
// table whole.
const logLength = 32

// Table is the endpoints of one target and its policy at a version. It is immutable.
type Table struct {
	Key     Key
	Version uint64
	// PolicyVersion is the version at which the policy (of any client namespace) changed last.
	PolicyVersion uint64

	policy    *mesh.TargetPolicy
	consumers map[string]*mesh.TargetPolicy // by the client's namespace, where it differs
	rows      *iradix.Tree[*mesh.Endpoint]  // by address
	digest    mesh.Digest
	log       []change
	logStart  uint64 // the log holds every change after this version
	created   uint64 // the version that it began with
}

type change struct {
	version uint64
	added   []*mesh.Endpoint
	removed []netip.AddrPort
}

// Policy is what holds for clients of a namespace.
func (t *Table) Policy(clientNamespace string) *mesh.TargetPolicy {
	if p := t.consumers[clientNamespace]; p != nil {
		return p
	}
	return t.policy
}

// HasConsumer reports whether clients of a namespace have a policy of their own.
func (t *Table) HasConsumer(clientNamespace string) bool { return t.consumers[clientNamespace] != nil }

// Len is the number of endpoints.
func (t *Table) Len() int { return t.rows.Len() }

// Digest is the digest of all endpoints (form 1 of the discovery API).
func (t *Table) Digest() uint64 { return t.digest.Value() }

// Endpoints are all rows, in the order of their addresses. They must not be changed.
func (t *Table) Endpoints() iter.Seq[*mesh.Endpoint] {
	return func(yield func(*mesh.Endpoint) bool) {
		it := t.rows.Root().Iterator()
		for _, e, ok := it.Next(); ok; _, e, ok = it.Next() {
			if !yield(e) {
				return
			}
		}
	}
}

// Get returns the row of an address, or nil.
func (t *Table) Get(a netip.AddrPort) *mesh.Endpoint {
	e, _ := t.rows.Get(addrKey(a))
	return e
}

// Delta is the difference between two versions of a Table.
type Delta struct {
	Added   []*mesh.Endpoint // new or changed rows
	Removed []netip.AddrPort
	Policy  bool // the policy differs
}

// Since returns what changed after version base, each address at most once. It is not ok when base
// is too old, or when the difference is larger than the table itself.
func (t *Table) Since(base uint64) (d Delta, ok bool) {
	if base < t.logStart {
		return Delta{}, false
	}
	last := make(map[netip.AddrPort]*mesh.Endpoint)
	var order []netip.AddrPort
	note := func(a netip.AddrPort, e *mesh.Endpoint) {
		if _, seen := last[a]; !seen {
			order = append(order, a)
		}
		last[a] = e
	}
	for _, c := range t.log {
		if c.version <= base {
			continue
		}
		for _, e := range c.added {
			note(e.Addr, e)
		}
		for _, a := range c.removed {
			note(a, nil)
		}
	}
	for _, a := range order {
		if e := last[a]; e != nil {
			d.Added = append(d.Added, e)
		} else {
			d.Removed = append(d.Removed, a)
		}
	}
	d.Policy = t.PolicyVersion > base
	return d, len(order) <= max(t.Len(), 16)
}

// edit is a Table under change.
type edit struct {
	table *Table
	rows  *iradix.Txn[*mesh.Endpoint]
	next  change
}

func newEdit(old *Table, key Key) *edit {
	if old == nil {
		old = &Table{Key: key, rows: iradix.New[*mesh.Endpoint]()}
	}
	t := *old
	return &edit{table: &t, rows: old.rows.Txn()}
}

// set puts the row of an address, or removes it when e is nil.
func (d *edit) set(a netip.AddrPort, e *mesh.Endpoint) {
	old, had := d.rows.Get(addrKey(a))
	switch {
	case e == nil && had:
		d.rows.Delete(addrKey(a))
		d.table.digest.Remove(*old)
		d.next.removed = append(d.next.removed, a)
	case e != nil && (!had || *old != *e):
		if had {
			d.table.digest.Remove(*old)
		}
		d.rows.Insert(addrKey(a), e)
		d.table.digest.Add(*e)
		d.next.added = append(d.next.added, e)
	}
}

// changed reports whether rows differ from those of the table that the edit began with.
func (d *edit) changed() bool { return len(d.next.added)+len(d.next.removed) > 0 }

// commit closes the rows of the edit at a version.
func (d *edit) commit(version uint64) {
	t := d.table
	if t.Version == 0 { // new: its first state is no change
		t.logStart, t.created = version, version
	} else if d.changed() {
		d.next.version = version
		slices.SortFunc(d.next.added, func(a, b *mesh.Endpoint) int { return a.Addr.Compare(b.Addr) })
		slices.SortFunc(d.next.removed, netip.AddrPort.Compare)
		log := t.log
		if drop := len(log) + 1 - logLength; drop > 0 {
			t.logStart = log[drop-1].version
			log = log[drop:]
		}
		t.log = append(append(make([]change, 0, len(log)+1), log...), d.next)
	}
	t.Version = version
	t.rows = d.rows.Commit()
}
