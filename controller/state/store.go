package state

import (
	"sync"
	"sync/atomic"
)

// Store holds the current Snapshot. Reading is free of locks; transactions follow one another.
type Store struct {
	settings Settings
	current  atomic.Pointer[Snapshot]
	synced   chan struct{} // closed once

	mu      sync.Mutex // guards below; held through a transaction
	watches map[*Watch]bool
	once    sync.Once
}

// NewStore returns an empty store that is not synced.
func NewStore(settings Settings) *Store {
	s := &Store{
		settings: settings.withDefaults(),
		synced:   make(chan struct{}),
		watches:  make(map[*Watch]bool),
	}
	s.current.Store(emptySnapshot(s.settings))
	return s
}

// Settings returns what holds for the whole mesh, defaults filled in.
func (s *Store) Settings() Settings { return s.settings }

// Snapshot returns what is known now.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// Apply runs change and publishes what it did as one new snapshot, which it returns. When nothing
// differs, that is the present one. Whoever watches learns of it before Apply returns.
func (s *Store) Apply(change func(*Tx)) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.current.Load()
	tx := newTx(now)
	change(tx)
	if tx.empty() {
		return now
	}
	tx.settle()
	next := tx.snapshot()
	s.publish(next, tx.dirty)
	return next
}

// publish is called with mu held.
func (s *Store) publish(next *Snapshot, dirty Dirty) {
	s.current.Store(next)
	for w := range s.watches {
		w.add(dirty)
	}
}

// MarkSynced says that every source has told what it knew at the start. Nothing is served before.
func (s *Store) MarkSynced() { s.once.Do(func() { close(s.synced) }) }

// Synced is closed once every source has synced.
func (s *Store) Synced() <-chan struct{} { return s.synced }
