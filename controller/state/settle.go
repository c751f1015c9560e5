package state

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// settle derives what follows from the changed rows. Each step may add work to later ones, never
// to earlier ones.
func (x *Tx) settle() {
	x.spreadNamespaces()
	x.settleIndex()
	for n, old := range x.oldServices {
		x.rebuild[n] = old
		x.policies[n] = true
	}
	for n, old := range x.rebuild {
		x.rebuildService(n, old)
	}
	for n, old := range x.oldWorkloads {
		x.moveWorkload(old, x.workload(n))
	}
	for n, old := range x.oldSlices {
		x.moveSlice(old, x.slice(n))
	}
	x.settleTables()
	for _, n := range sorted(x.policies) {
		x.settlePolicies(n)
	}
	x.settleFronts()
	for _, n := range sorted(x.inbounds) {
		x.settleInbound(n)
	}
}

// spreadNamespaces marks all that the rules of a namespace reach.
func (x *Tx) spreadNamespaces() {
	for ns := range x.oldNamespaces {
		for s := range scan(x.services.Root(), namespacePrefix(ns)) {
			x.rebuild[s.Name] = s
			x.policies[s.Name] = true
		}
		for w := range scan(x.workloads.Root(), namespacePrefix(ns)) {
			if _, changed := x.oldWorkloads[w.Name]; !changed {
				x.oldWorkloads[w.Name] = w
			}
		}
	}
}

// settleIndex brings the index up to date. A change of who listens at an address is a change of
// the slices that list it.
func (x *Tx) settleIndex() {
	moved := make(map[netip.AddrPort]bool)
	for n, old := range x.oldWorkloads {
		now := x.workload(n)
		x.index.workload(old, now)
		for _, w := range []*Workload{old, now} {
			if w != nil {
				for a := range w.Listens() { // a slice may list a pod at its node's address
					moved[a] = true
				}
			}
		}
	}
	for n, old := range x.oldSlices {
		x.index.slice(old, x.slice(n))
	}
	for n, old := range x.oldRoutes {
		now, _ := x.routes.Get(nameKey(n))
		x.index.route(old, now)
		for _, r := range []*Route{old, now} {
			if r != nil {
				for _, p := range r.Parents {
					x.policies[p.Service] = true
				}
			}
		}
	}
	for a := range moved {
		if a.Port() == 0 {
			x.settlePod(a.Addr())
		} else {
			x.settleOwner(a)
		}
		for _, n := range x.index.list(listersPrefix(a)) {
			if _, changed := x.oldSlices[n]; !changed {
				x.relist(x.slice(n), a)
			}
		}
	}
}

// settleOwner derives what a workload's own address means.
func (x *Tx) settleOwner(a netip.AddrPort) {
	const source = "" // one source: the first of the workloads that listen there
	key, target := Key{Addr: a}, mesh.AddrTarget(a)
	w := x.listener(a)
	if w == nil {
		x.unsay(key, a, source)
		x.unclaim(target, claimant{key, claimWorkload})
		return
	}
	e := x.settings.rowOf(w, x.namespace(w.Name.Namespace), a, mesh.ProtocolDetect)
	x.say(key, &e, source)
	x.claim(target, claimant{key, claimWorkload})
}

// say records what a source says of a row.
func (x *Tx) say(k Key, e *mesh.Endpoint, source string) {
	x.says.Insert(rowKey(k, e.Addr, source), e)
	x.touch(k, e.Addr)
}

// unsay takes it back.
func (x *Tx) unsay(k Key, a netip.AddrPort, source string) {
	x.says.Delete(rowKey(k, a, source))
	x.touch(k, a)
}

func (x *Tx) touch(k Key, a netip.AddrPort) {
	if x.touched[k] == nil {
		x.touched[k] = make(map[netip.AddrPort]bool)
	}
	x.touched[k][a] = true
}

// A workload's own word about an address comes before what slices say ("0" < "1").
func workloadSource(n Name) string { return "0" + n.String() }
func sliceSource(n Name) string    { return "1" + n.String() }

// rebuildService derives a Service anew.
func (x *Tx) rebuildService(n Name, old *Service) {
	now := x.service(n)
	if old != nil {
		for _, p := range old.Ports {
			x.clear(n, p.Port)
		}
	}
	x.reclaim(old, now)
	for w := range scan(x.workloads.Root(), namespacePrefix(n.Namespace)) {
		if old != nil && old.Selects(w) || now != nil && now.Selects(w) {
			x.inbounds[w.Name] = true
		}
		if now != nil && now.Selects(w) {
			x.choose(now, w)
		}
	}
	if now == nil {
		return
	}
	for _, p := range now.Ports {
		for _, f := range now.families() {
			k := Key{Service: n, Port: p.Port, Family: f}
			x.touched[k] = orEmpty(x.touched[k])
		}
	}
	for _, sl := range x.index.list(slicesPrefix(n)) {
		x.list(now, x.slice(sl))
	}
}

func orEmpty(m map[netip.AddrPort]bool) map[netip.AddrPort]bool {
	if m == nil {
		m = make(map[netip.AddrPort]bool)
	}
	return m
}

// clear takes back everything that was said of the tables of a Service's port.
func (x *Tx) clear(service Name, port uint16) {
	for t := range scan(x.tables.Root(), portPrefix(service, port)) {
		k := t.Key
		x.touched[k] = orEmpty(x.touched[k])
		for e := range scan(x.says.Root(), k.bytes()) {
			x.touch(k, e.Addr)
		}
	}
	x.says.DeletePrefix(portPrefix(service, port))
}

// choose adds the endpoints that a workload gives to a Service.
func (x *Tx) choose(s *Service, w *Workload) {
	for _, p := range s.Ports {
		for e := range x.settings.selected(s, p, w, x.namespace(s.Name.Namespace)) {
			if k, ok := s.table(p.Port, e.Addr.Addr(), w.Node); ok {
				x.say(k, e, workloadSource(w.Name))
			}
		}
	}
}

// unchoose takes them back.
func (x *Tx) unchoose(s *Service, w *Workload) {
	for _, p := range s.Ports {
		for e := range x.settings.selected(s, p, w, x.namespace(s.Name.Namespace)) {
			if k, ok := s.table(p.Port, e.Addr.Addr(), w.Node); ok {
				x.unsay(k, e.Addr, workloadSource(w.Name))
			}
		}
	}
}

// list adds the endpoints that a slice gives to a Service.
func (x *Tx) list(s *Service, sl *Slice) {
	for _, p := range s.Ports {
		for l := range sl.listings(p) {
			x.sayListing(s, p, l)
		}
	}
}

func (x *Tx) sayListing(s *Service, p ServicePort, l listing) {
	k, ok := s.table(p.Port, l.addr.Addr(), l.from.Node)
	if !ok {
		return
	}
	owner, known := x.listed(l)
	if !known {
		x.unsay(k, l.addr, sliceSource(l.slice.Name))
		return
	}
	own := x.namespace(s.Name.Namespace)
	l.said = x.settings.protocolOf(s, own, p)
	x.say(k, x.settings.listed(l, owner, own), sliceSource(l.slice.Name))
}

// listed is the workload that a slice's address belongs to, nil for none or another namespace's,
// whose identity a slice must not borrow. It is not known while the slice says that it is a pod which
// is not (yet, or any more) there.
func (x *Tx) listed(l listing) (owner *Workload, known bool) {
	if l.from.Ref && x.settings.Pods {
		w := x.workload(Name{l.slice.Name.Namespace, l.from.Pod})
		return w, w != nil && w.Pod && slices.Contains(w.Addrs, l.addr.Addr())
	}
	if w := x.owner(l.addr); w != nil && w.Name.Namespace == l.slice.Name.Namespace {
		return w, true
	}
	return nil, true
}

// relist derives one address of an unchanged slice anew.
func (x *Tx) relist(sl *Slice, a netip.AddrPort) {
	s := x.service(sl.service())
	if s == nil {
		return
	}
	if _, changed := x.oldServices[s.Name]; changed {
		return // it is rebuilt
	}
	for _, p := range s.Ports {
		for l := range sl.listings(p) {
			if l.addr == a || a.Port() == 0 && l.addr.Addr() == a.Addr() {
				x.sayListing(s, p, l)
			}
		}
	}
}

// moveWorkload brings a changed workload's endpoints up to date in Services that are not rebuilt.
func (x *Tx) moveWorkload(old, now *Workload) {
	w := now
	if w == nil {
		w = old
	}
	if w == nil {
		return // put and deleted within the transaction
	}
	x.inbounds[w.Name] = true
	for s := range scan(x.services.Root(), namespacePrefix(w.Name.Namespace)) {
		if _, rebuilt := x.rebuild[s.Name]; rebuilt {
			continue
		}
		if s.Selects(old) {
			x.unchoose(s, old)
		}
		if s.Selects(now) {
			x.choose(s, now)
		}
	}
}

// moveSlice does the same for a slice.
func (x *Tx) moveSlice(old, now *Slice) {
	if old != nil {
		if s := x.unbuilt(old.service()); s != nil {
			for _, p := range s.Ports {
				for l := range old.listings(p) {
					if k, ok := s.table(p.Port, l.addr.Addr(), l.from.Node); ok {
						x.unsay(k, l.addr, sliceSource(old.Name))
					}
				}
			}
		}
	}
	if now != nil {
		if s := x.unbuilt(now.service()); s != nil {
			x.list(s, now)
		}
	}
}

// unbuilt returns a Service that exists and is not rebuilt in this transaction.
func (x *Tx) unbuilt(n Name) *Service {
	if _, rebuilt := x.rebuild[n]; rebuilt {
		return nil
	}
	return x.service(n)
}

// settleTables folds what sources say into the rows of the touched tables.
func (x *Tx) settleTables() {
	left := make(map[Key]bool) // tables whose clients were given a node's own, which is gone
	for k, addrs := range x.touched {
		old, _ := x.tables.Get(k.bytes())
		if !x.wanted(k) {
			if old != nil {
				x.tables.Delete(k.bytes())
				x.dirtyTables[k] = true
				k.Node = ""
				left[k] = true
			}
			continue
		}
		d := newEdit(old, k)
		for a := range addrs {
			d.set(a, x.best(k, a))
		}
		if old != nil && !d.changed() {
			continue
		}
		d.commit(x.version)
		if k.Addr.IsValid() {
			x.setPodPolicy(d.table)
		} else if old == nil {
			x.policies[k.Service] = true
		}
		x.tables.Insert(k.bytes(), d.table)
		x.dirtyTables[k] = true
	}
	for k := range left {
		x.renewTable(k)
	}
}

// renewTable makes a table news, whole: what stood before it for some clients went.
func (x *Tx) renewTable(k Key) {
	if old, ok := x.tables.Get(k.bytes()); ok {
		t := *old
		t.Version, t.logStart, t.log = x.version, x.version, nil
		x.tables.Insert(k.bytes(), &t)
		x.dirtyTables[k] = true
	}
}

// wanted reports whether a table should be there.
func (x *Tx) wanted(k Key) bool {
	if k.Addr.IsValid() {
		return x.listener(k.Addr) != nil
	}
	s := x.service(k.Service)
	return s != nil && s.has(k)
}

// best is the row of an address: the first source's that does not call it terminating, else the
// first source's; nil when nobody speaks of it. (An address moves between slices by being in both
// for a moment.)
func (x *Tx) best(k Key, a netip.AddrPort) *mesh.Endpoint {
	var first *mesh.Endpoint
	for e := range scan(x.says.Root(), appendAddr(k.bytes(), a)) {
		if first == nil || first.Terminating && !e.Terminating {
			first = e
		}
	}
	return first
}

// setPodPolicy gives the table of a workload's address its policy.
func (x *Tx) setPodPolicy(t *Table) {
	w := x.listener(t.Key.Addr)
	p := &mesh.TargetPolicy{
		Kind: mesh.TargetPod, Service: w.Name.Name, Namespace: w.Name.Namespace,
		Port: t.Key.Addr.Port(), Protocol: x.best(t.Key, t.Key.Addr).Protocol,
	}
	if !reflect.DeepEqual(p, t.policy) {
		t.policy, t.PolicyVersion = p, x.version
	}
}

// settlePolicies derives the policies of all ports of a Service.
func (x *Tx) settlePolicies(n Name) {
	s := x.service(n)
	if s == nil {
		return
	}
	own, other := x.routesOf(n)
	ns := x.namespace(n.Namespace)
	for _, p := range s.Ports {
		policy := x.settings.policyOf(s, ns, p, own)
		var consumers map[string]*mesh.TargetPolicy
		for from, routes := range other {
			if winner(routes, n, p.Port) == nil {
				continue
			}
			if consumers == nil {
				consumers = make(map[string]*mesh.TargetPolicy)
			}
			consumers[from] = x.settings.policyOf(s, ns, p, routes)
		}
		x.setPolicy(portPrefix(n, p.Port), policy, consumers)
	}
}

// setPolicy gives a policy to all tables of a Service's port.
func (x *Tx) setPolicy(prefix []byte, policy *mesh.TargetPolicy, consumers map[string]*mesh.TargetPolicy) {
	tables := slices.Collect(scan(x.tables.Root(), prefix)) // the tree changes below
	for _, old := range tables {
		if reflect.DeepEqual(policy, old.policy) && reflect.DeepEqual(consumers, old.consumers) {
			continue
		}
		t := *old
		t.Version, t.PolicyVersion, t.policy, t.consumers = x.version, x.version, policy, consumers
		x.tables.Insert(t.Key.bytes(), &t)
		x.dirtyTables[t.Key] = true
	}
}

// routesOf are the routes of a Service's own namespace, and those of others by their namespace.
func (x *Tx) routesOf(n Name) (own []*Route, other map[string][]*Route) {
	other = make(map[string][]*Route)
	for _, name := range x.index.list(routesPrefix(n)) {
		r, _ := x.routes.Get(nameKey(name))
		if name.Namespace == n.Namespace {
			own = append(own, r)
		} else {
			other[name.Namespace] = append(other[name.Namespace], r)
		}
	}
	return own, other
}

// settleInbound derives the inbound policy of a workload.
func (x *Tx) settleInbound(n Name) {
	w := x.workload(n)
	old, _ := x.inbound.Get(nameKey(n))
	if w == nil {
		if old != nil {
			x.inbound.Delete(nameKey(n))
			x.dirty.Inbound[n] = true
		}
		return
	}
	ns := x.namespace(n.Namespace)
	p := x.settings.inboundOf(w, ns, x.saidOf(w, ns))
	if old != nil && reflect.DeepEqual(old.Policy, p) {
		return
	}
	x.inbound.Insert(nameKey(n), &Inbound{Version: x.version, Policy: p})
	x.dirty.Inbound[n] = true
	x.dirtyPod(w) // what its ports speak is also told to those who dial it
}

// saidOf is what the Services that select a workload say of its ports. Where two differ, the first
// by name that says anything wins.
func (x *Tx) saidOf(w *Workload, ns *Namespace) map[uint16]mesh.Protocol {
	said := make(map[uint16]mesh.Protocol)
	for s := range scan(x.services.Root(), namespacePrefix(w.Name.Namespace)) {
		if !s.Selects(w) {
			continue
		}
		for _, p := range s.Ports {
			protocol := x.settings.protocolOf(s, ns, p)
			if to := p.leadsTo(w); to != nil && said[to.Port] == mesh.ProtocolDetect {
				said[to.Port] = protocol
			}
		}
	}
	return said
}
