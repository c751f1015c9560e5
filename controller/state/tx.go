package state

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Tx is a set of changes that become visible at once. It belongs to the function that Store.Apply
// calls and must not outlive it.
type Tx struct {
	settings Settings
	version  uint64 // of the snapshot to be

	namespaces *iradix.Txn[*Namespace]
	services   *iradix.Txn[*Service]
	workloads  *iradix.Txn[*Workload]
	slices     *iradix.Txn[*Slice]
	routes     *iradix.Txn[*Route]

	tables  *iradix.Txn[*Table]
	fronts  *iradix.Txn[Front]
	inbound *iradix.Txn[*Inbound]
	says    *iradix.Txn[*mesh.Endpoint]
	claims  *iradix.Txn[claimant]
	pods    *iradix.Txn[podFront]
	index   indexTxn

	// What the sources changed: the rows as they were, nil for none.
	oldNamespaces map[string]*Namespace
	oldServices   map[Name]*Service
	oldWorkloads  map[Name]*Workload
	oldSlices     map[Name]*Slice
	oldRoutes     map[Name]*Route

	// What follows: see settle.
	rebuild     map[Name]*Service // Services that are derived anew, with the row as it was
	policies    map[Name]bool     // Services whose policies are
	inbounds    map[Name]bool     // workloads whose inbound policies are
	touched     map[Key]map[netip.AddrPort]bool
	targets     map[mesh.Target]bool // whose claims changed
	dirtyTables map[Key]bool
	dirty       Dirty
}

func newTx(s *Snapshot) *Tx {
	return &Tx{
		settings: s.Settings, version: s.Version + 1,
		namespaces: s.base.namespaces.Txn(), services: s.base.services.Txn(),
		workloads: s.base.workloads.Txn(), slices: s.base.slices.Txn(), routes: s.base.routes.Txn(),
		tables: s.derived.tables.Txn(), fronts: s.derived.fronts.Txn(), inbound: s.derived.inbound.Txn(),
		says: s.derived.says.Txn(), claims: s.derived.claims.Txn(), pods: s.derived.pods.Txn(), index: indexTxn{s.derived.index.Txn()},
		oldNamespaces: map[string]*Namespace{}, oldServices: map[Name]*Service{},
		oldWorkloads: map[Name]*Workload{}, oldSlices: map[Name]*Slice{}, oldRoutes: map[Name]*Route{},
		rebuild: map[Name]*Service{}, policies: map[Name]bool{}, inbounds: map[Name]bool{},
		touched: map[Key]map[netip.AddrPort]bool{}, targets: map[mesh.Target]bool{},
		dirtyTables: map[Key]bool{}, dirty: newDirty(),
	}
}

// put writes a row, or removes it when now is nil, and remembers the row as it was before the
// transaction. A row that is equal to what is there changes nothing.
func put[K comparable, T any](txn *iradix.Txn[*T], olds map[K]*T, name K, key []byte, now *T) {
	old, _ := txn.Get(key)
	if old == now || old != nil && now != nil && reflect.DeepEqual(old, now) {
		return
	}
	if _, seen := olds[name]; !seen {
		olds[name] = old
	}
	if now == nil {
		txn.Delete(key)
	} else {
		txn.Insert(key, now)
	}
}

// PutNamespace and its siblings take a row, which must not be changed afterwards. Their Delete
// forms remove one; a row that is not there is no error.
func (x *Tx) PutNamespace(n *Namespace) {
	put(x.namespaces, x.oldNamespaces, n.Name, []byte(n.Name), n)
}

// DeleteNamespace: see PutNamespace.
func (x *Tx) DeleteNamespace(name string) {
	put(x.namespaces, x.oldNamespaces, name, []byte(name), nil)
}

// PutService: see PutNamespace.
func (x *Tx) PutService(s *Service) { put(x.services, x.oldServices, s.Name, nameKey(s.Name), s) }

// DeleteService: see PutNamespace.
func (x *Tx) DeleteService(n Name) { put(x.services, x.oldServices, n, nameKey(n), nil) }

// PutWorkload: see PutNamespace.
func (x *Tx) PutWorkload(w *Workload) { put(x.workloads, x.oldWorkloads, w.Name, nameKey(w.Name), w) }

// DeleteWorkload: see PutNamespace.
func (x *Tx) DeleteWorkload(n Name) { put(x.workloads, x.oldWorkloads, n, nameKey(n), nil) }

// PutSlice: see PutNamespace.
func (x *Tx) PutSlice(s *Slice) { put(x.slices, x.oldSlices, s.Name, nameKey(s.Name), s) }

// DeleteSlice: see PutNamespace.
func (x *Tx) DeleteSlice(n Name) { put(x.slices, x.oldSlices, n, nameKey(n), nil) }

// PutRoute: see PutNamespace.
func (x *Tx) PutRoute(r *Route) { put(x.routes, x.oldRoutes, r.Name, nameKey(r.Name), r) }

// DeleteRoute: see PutNamespace.
func (x *Tx) DeleteRoute(n Name) { put(x.routes, x.oldRoutes, n, nameKey(n), nil) }

func (x *Tx) empty() bool {
	return len(x.oldNamespaces)+len(x.oldServices)+len(x.oldWorkloads)+len(x.oldSlices)+len(x.oldRoutes) == 0
}

func (x *Tx) namespace(name string) *Namespace { n, _ := x.namespaces.Get([]byte(name)); return n }
func (x *Tx) service(n Name) *Service          { s, _ := x.services.Get(nameKey(n)); return s }
func (x *Tx) workload(n Name) *Workload        { w, _ := x.workloads.Get(nameKey(n)); return w }
func (x *Tx) slice(n Name) *Slice              { s, _ := x.slices.Get(nameKey(n)); return s }

// snapshot closes the transaction.
func (x *Tx) snapshot() *Snapshot {
	return &Snapshot{
		Version: x.version, Settings: x.settings,
		base: base{
			namespaces: x.namespaces.Commit(), services: x.services.Commit(),
			workloads: x.workloads.Commit(), slices: x.slices.Commit(), routes: x.routes.Commit(),
		},
		derived: derived{
			tables: x.tables.Commit(), fronts: x.fronts.Commit(), inbound: x.inbound.Commit(),
			says: x.says.Commit(), claims: x.claims.Commit(), pods: x.pods.Commit(), index: x.index.Commit(),
		},
	}
}

// sorted makes the order of derivation, and with it every table, independent of map order.
func sorted(m map[Name]bool) []Name {
	names := slices.Collect(maps.Keys(m))
	slices.SortFunc(names, func(a, b Name) int {
		if a.Namespace != b.Namespace {
			if a.Namespace < b.Namespace {
				return -1
			}
			return 1
		}
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})
	return names
}
