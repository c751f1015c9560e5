package status

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

// Set holds the reports that are true now, by who made them.
type Set struct {
	log *zap.Logger

	mu   sync.Mutex // guards from
	from map[string]map[Report]bool
}

// NewSet returns an empty Set that logs to log; nil is silent.
func NewSet(log *zap.Logger) *Set {
	if log == nil {
		log = zap.NewNop()
	}
	return &Set{log: log, from: make(map[string]map[Report]bool)}
}

// Replace says that these, and no others, are the reports of a source now. What is new is logged,
// and what is gone, once each.
func (s *Set) Replace(source string, reports []Report) {
	now := make(map[Report]bool, len(reports))
	for _, r := range reports {
		now[r] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.from[source]
	for _, r := range sorted(now) {
		if !before[r] {
			s.tell(r)
		}
	}
	for _, r := range sorted(before) {
		if !now[r] {
			s.log.Info("settled", zap.String(logkey.Reason, r.String()))
		}
	}
	s.from[source] = now
}

func (s *Set) tell(r Report) {
	if r.Severity == Broken {
		s.log.Error("broken, its last good state holds", zap.String(logkey.Reason, r.String()))
		return
	}
	s.log.Warn("to be looked at", zap.String(logkey.Reason, r.String()), zap.String(logkey.Kind, string(r.Severity)))
}

// All returns every report, sorted by file, line and object.
func (s *Set) All() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[Report]bool)
	for _, rs := range s.from {
		maps.Copy(all, rs)
	}
	return sorted(all)
}

func sorted(rs map[Report]bool) []Report {
	return slices.SortedFunc(maps.Keys(rs), compare)
}

// ServeHTTP answers with all reports as JSON.
func (s *Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	all := s.All()
	if all == nil {
		all = []Report{}
	}
	_ = enc.Encode(all) // a reader who went away
}
