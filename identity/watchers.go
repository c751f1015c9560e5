package identity

import (
	"sync"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Standing counts the watchers of the trust bundle by what they said of its newest version.
type Standing struct {
	Current, Behind, Refused int
}

// watcher is one WatchTrust stream.
type watcher struct {
	identity mesh.Identity
	workload string

	// Guarded by watchers.mu.
	acked, refused uint64
}

// watchers are the streams that are open. A workload that reconnects has two for a moment; the
// newer one counts.
type watchers struct {
	mu sync.Mutex
	of map[watcherKey]*watcher // the newest of each workload
}

type watcherKey struct {
	identity mesh.Identity
	workload string
	unnamed  *watcher // the watcher itself, when it did not say which workload it is
}

func (w *watcher) key() watcherKey {
	if w.workload == "" {
		return watcherKey{identity: w.identity, unnamed: w}
	}
	return watcherKey{identity: w.identity, workload: w.workload}
}

func newWatchers() *watchers {
	return &watchers{of: map[watcherKey]*watcher{}}
}

func (ws *watchers) add(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.of[w.key()] = w
}

func (ws *watchers) remove(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.of[w.key()] == w {
		delete(ws.of, w.key())
	}
}

func (ws *watchers) ack(w *watcher, version uint64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.acked = max(w.acked, version)
}

func (ws *watchers) nack(w *watcher, version uint64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.refused = max(w.refused, version)
}

// standing counts against version.
func (ws *watchers) standing(version uint64) Standing {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var s Standing
	for _, w := range ws.of {
		switch {
		case w.acked >= version:
			s.Current++
		case w.refused >= version:
			s.Refused++
		default:
			s.Behind++
		}
	}
	return s
}

// allOn reports whether every watcher has acknowledged version or a later one.
func (ws *watchers) allOn(version uint64) bool {
	s := ws.standing(version)
	return s.Behind+s.Refused == 0
}

// Heard is how far the watchers of one replica are.
type Heard struct {
	// Watchers is their number, Lowest the version that all of them hold.
	Watchers int    `json:"watchers"`
	Lowest   uint64 `json:"lowest"`
}

func (ws *watchers) heard() Heard {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	h := Heard{Watchers: len(ws.of)}
	first := true
	for _, w := range ws.of {
		if first || w.acked < h.Lowest {
			h.Lowest, first = w.acked, false
		}
	}
	return h
}
