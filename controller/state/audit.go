package state

import (
	"fmt"
	"reflect"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Audit derives everything anew from the base tables and compares it with what the writer derived
// step by step. Differences are repaired at a new version, without a delta, and returned for a
// person to read; there are none unless the program has a bug or the machine's memory has.
func (s *Store) Audit() []string {
	if len(s.Snapshot().audit().problems) == 0 {
		return nil // the usual case, without holding the writer up
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.current.Load()
	a := now.audit()
	if len(a.problems) == 0 {
		return nil
	}
	s.publish(a.repaired(now))
	return a.problems
}

type audit struct {
	fresh    *Snapshot
	problems []string
	tables   map[Key]bool
	dirty    Dirty
}

// audit compares the derived tables of a snapshot with fresh ones.
func (s *Snapshot) audit() *audit {
	a := &audit{fresh: s.rederive(), tables: make(map[Key]bool), dirty: newDirty()}
	for _, pair := range join(s.derived.tables, a.fresh.derived.tables) {
		if pair[1] == nil && pair[0].Key.Node != "" && pair[0].Len() == 0 {
			continue // a node's last endpoint went; its clients stand on this table
		}
		if !sameTable(pair[0], pair[1]) {
			t := pair[0]
			if t == nil {
				t = pair[1]
			}
			a.tables[t.Key] = true
			a.problem("table", t.Key.String())
		}
	}
	for k, pair := range join(s.derived.fronts, a.fresh.derived.fronts) {
		if pair[0].Key != pair[1].Key || pair[0].rank != pair[1].rank {
			a.dirty.Targets[targetOf([]byte(k))] = true
			a.problem("target", targetOf([]byte(k)).String())
		}
	}
	for k, pair := range join(s.derived.pods, a.fresh.derived.pods) {
		if pair[0].Workload != pair[1].Workload {
			ip := addrOf([]byte(k))
			a.dirty.Addrs[ip] = true
			a.problem("pod address", ip.String())
		}
	}
	for k, pair := range join(s.derived.inbound, a.fresh.derived.inbound) {
		if pair[0] == nil || pair[1] == nil || !reflect.DeepEqual(pair[0].Policy, pair[1].Policy) {
			a.problem("inbound policy", k)
			if w, ok := s.base.workloads.Get([]byte(k)); ok {
				a.dirty.Inbound[w.Name] = true
			}
		}
	}
	return a
}

func (a *audit) problem(kind, name string) {
	a.problems = append(a.problems, fmt.Sprintf("%s %s differs from what its sources say", kind, name))
}

// rederive builds a snapshot of the same base rows from nothing.
func (s *Snapshot) rederive() *Snapshot {
	x := newTx(emptySnapshot(s.Settings))
	x.version = s.Version
	for n := range s.Namespaces() {
		x.PutNamespace(n)
	}
	for v := range s.Services() {
		x.PutService(v)
	}
	for w := range s.Workloads() {
		x.PutWorkload(w)
	}
	for sl := range s.Slices() {
		x.PutSlice(sl)
	}
	for r := range s.Routes() {
		x.PutRoute(r)
	}
	x.settle()
	return x.snapshot()
}

// join pairs the values of two trees by key; a missing one is zero.
func join[T any](a, b *iradix.Tree[T]) map[string][2]T {
	m := make(map[string][2]T, max(a.Len(), b.Len()))
	for i, t := range []*iradix.Tree[T]{a, b} {
		it := t.Root().Iterator()
		for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
			pair := m[string(k)]
			pair[i] = v
			m[string(k)] = pair
		}
	}
	return m
}

func sameTable(a, b *Table) bool {
	if a == nil || b == nil || a.Len() != b.Len() || a.Digest() != b.Digest() {
		return false
	}
	for e := range a.Endpoints() {
		if o := b.Get(e.Addr); o == nil || *o != *e {
			return false
		}
	}
	return reflect.DeepEqual(a.policy, b.policy) && reflect.DeepEqual(a.consumers, b.consumers)
}

// repaired takes the fresh tables where they differ, at the next version, and keeps the others
// with their versions and logs.
func (a *audit) repaired(now *Snapshot) (*Snapshot, Dirty) {
	next := *a.fresh
	next.Version = now.Version + 1
	tables := next.derived.tables.Txn()
	for t := range a.fresh.Tables() {
		if a.tables[t.Key] {
			fixed := *t
			fixed.Version, fixed.PolicyVersion, fixed.logStart, fixed.log = next.Version, next.Version, next.Version, nil
			fixed.created = next.Version
			tables.Insert(t.Key.bytes(), &fixed)
		} else {
			tables.Insert(t.Key.bytes(), now.Table(t.Key))
		}
	}
	next.derived.tables = tables.Commit()

	fronts := next.derived.fronts.Txn()
	for t, f := range a.fresh.Targets() {
		old, ok := now.derived.fronts.Get(targetKey(t))
		if !ok || old.Key != f.Key {
			old = Front{Key: f.Key, Since: next.Version, rank: f.rank}
		}
		fronts.Insert(targetKey(t), old)
		if a.tables[f.Key] {
			a.dirty.Targets[t] = true
		}
	}
	next.derived.fronts = fronts.Commit()

	pods := next.derived.pods.Txn()
	for k, pair := range join(now.derived.pods, a.fresh.derived.pods) {
		if f := pair[1]; f.Workload != (Name{}) {
			if pair[0].Workload == f.Workload {
				f.Since = pair[0].Since
			} else {
				f.Since = next.Version
			}
			pods.Insert([]byte(k), f)
		}
	}
	next.derived.pods = pods.Commit()

	inbound := next.derived.inbound.Txn()
	for w := range a.fresh.Workloads() {
		old, fresh := now.Inbound(w.Name), a.fresh.Inbound(w.Name)
		if old == nil || a.dirty.Inbound[w.Name] {
			old = &Inbound{Version: next.Version, Policy: fresh.Policy}
		}
		inbound.Insert(nameKey(w.Name), old)
	}
	next.derived.inbound = inbound.Commit()
	return &next, a.dirty
}
