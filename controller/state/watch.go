package state

import (
	"maps"
	"net/netip"
	"sync"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Dirty says what to look at again: targets in canonical form, every port of addresses, and workloads.
type Dirty struct {
	Targets map[mesh.Target]bool
	Addrs   map[netip.Addr]bool
	Inbound map[Name]bool
}

func newDirty() Dirty {
	return Dirty{
		Targets: make(map[mesh.Target]bool), Addrs: make(map[netip.Addr]bool), Inbound: make(map[Name]bool),
	}
}

// Empty reports whether nothing changed that a proxy could see.
func (d Dirty) Empty() bool { return len(d.Targets)+len(d.Addrs)+len(d.Inbound) == 0 }

// Watch collects what changes until somebody takes it, so that a slow watcher sees one sum and the
// writer never waits.
type Watch struct {
	store *Store
	ready chan struct{} // holds a token while something is there to take

	mu    sync.Mutex // guards dirty
	dirty Dirty
}

// Watch begins a watch, which the caller must Close.
func (s *Store) Watch() *Watch {
	w := &Watch{store: s, ready: make(chan struct{}, 1), dirty: newDirty()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[w] = true
	return w
}

// Close ends the watch.
func (w *Watch) Close() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	delete(w.store.watches, w)
}

// Ready has a value when there is something to Take.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

// Take returns what changed since the last Take. A Snapshot read afterwards has these changes and
// perhaps later ones.
func (w *Watch) Take() Dirty {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirty
	w.dirty = newDirty()
	return d
}

func (w *Watch) add(d Dirty) {
	if d.Empty() {
		return
	}
	w.mu.Lock()
	maps.Copy(w.dirty.Targets, d.Targets)
	maps.Copy(w.dirty.Addrs, d.Addrs)
	maps.Copy(w.dirty.Inbound, d.Inbound)
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default: // a token is there already
	}
}
