package state

import (
	"net/netip"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// The index answers "which objects concern this", as prefixes of one tree whose values are names.

// ownersPrefix: the workloads that listen at an address, by name. A pod's are under port 0.
func ownersPrefix(a netip.AddrPort) []byte { return appendAddr([]byte{'o'}, a) }

// identityPrefix: the proxied workloads of an identity.
func identityPrefix(id mesh.Identity) []byte { return append([]byte("i"+string(id)), 0) }

// listersPrefix: the slices that list an address, with port 0 under any port. No slice has port 0.
func listersPrefix(a netip.AddrPort) []byte {
	b := appendAddr([]byte{'e'}, a)
	if a.Port() == 0 {
		b = b[:len(b)-2]
	}
	return b
}

// slicesPrefix: the slices of a Service.
func slicesPrefix(service Name) []byte { return append([]byte("v"+service.String()), 0) }

// routesPrefix: the routes of a Service.
func routesPrefix(service Name) []byte { return append([]byte("r"+service.String()), 0) }

// under is the entry of an object below a prefix.
func under(prefix []byte, n Name) []byte { return append(prefix, n.String()...) }

type indexTxn struct{ *iradix.Txn[Name] }

func (x indexTxn) put(prefix []byte, n Name) { x.Insert(under(prefix, n), n) }

func (x indexTxn) drop(prefix []byte, n Name) { x.Delete(under(prefix, n)) }

// list collects, so that the caller may change the tree meanwhile.
func (x indexTxn) list(prefix []byte) []Name {
	var names []Name
	for n := range scan(x.Root(), prefix) {
		names = append(names, n)
	}
	return names
}

// workload moves the entries of a workload from its old row to its new one.
func (x indexTxn) workload(old, now *Workload) {
	if old != nil {
		for a := range old.listens() {
			x.drop(ownersPrefix(a), old.Name)
		}
		x.drop(identityPrefix(old.Identity), old.Name)
	}
	if now != nil {
		for a := range now.listens() {
			x.put(ownersPrefix(a), now.Name)
		}
		if now.Proxied && now.Identity != "" {
			x.put(identityPrefix(now.Identity), now.Name)
		}
	}
}

// slice does the same for a slice.
func (x indexTxn) slice(old, now *Slice) {
	if old != nil {
		for a := range old.lists() {
			x.drop(listersPrefix(a), old.Name)
		}
		x.drop(slicesPrefix(old.service()), old.Name)
	}
	if now != nil {
		for a := range now.lists() {
			x.put(listersPrefix(a), now.Name)
		}
		x.put(slicesPrefix(now.service()), now.Name)
	}
}

// route does the same for a route.
func (x indexTxn) route(old, now *Route) {
	if old != nil {
		for _, p := range old.Parents {
			x.drop(routesPrefix(p.Service), old.Name)
		}
	}
	if now != nil {
		for _, p := range now.Parents {
			x.put(routesPrefix(p.Service), now.Name)
		}
	}
}
