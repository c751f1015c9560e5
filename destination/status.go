package destination

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Status is what the server tells people of itself.
type Status struct {
	Epoch    string          `json:"epoch"`
	Version  uint64          `json:"version"`
	Streams  []StreamStatus  `json:"streams"`
	Failures []FailureReport `json:"failures,omitempty"`
}

// StreamStatus is one proxy's stream.
type StreamStatus struct {
	Proxy    string          `json:"proxy"`
	Identity string          `json:"identity"`
	Version  string          `json:"proxyVersion,omitempty"`
	Since    time.Time       `json:"since"`
	Refused  string          `json:"refused,omitempty"` // why it gets no inbound policy
	Subjects []SubjectStatus `json:"subjects"`
}

// SubjectStatus is what one proxy was told of one target, or of its inbound policy.
type SubjectStatus struct {
	Target   string `json:"target"`
	Sent     uint64 `json:"sent"`
	Acked    uint64 `json:"acked"`
	InFlight bool   `json:"inFlight,omitempty"`
	// Nack is the refusal of the last version that was sent.
	Nack *NackStatus `json:"nack,omitempty"`
}

// NackStatus is a refused version.
type NackStatus struct {
	Version uint64    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Status returns what every proxy was told.
func (s *Server) Status() Status {
	out := Status{Epoch: s.cfg.Epoch, Version: s.cfg.Store.Snapshot().Version, Streams: []StreamStatus{}}
	for _, st := range s.hub.all() {
		out.Streams = append(out.Streams, st.status())
	}
	slices.SortFunc(out.Streams, func(a, b StreamStatus) int {
		return cmp.Or(
			strings.Compare(a.Proxy, b.Proxy), strings.Compare(a.Identity, b.Identity), a.Since.Compare(b.Since),
		)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Failures = slices.Clone(s.failures)
	return out
}

func (st *stream) status() StreamStatus {
	st.mu.Lock()
	defer st.mu.Unlock()
	out := StreamStatus{
		Proxy: st.name(), Identity: string(st.identity), Version: st.version, Since: st.since,
		Refused: st.bound.reason,
	}
	for _, s := range st.subjects {
		sub := SubjectStatus{Target: s.name(), Sent: s.sent.version, Acked: s.acked.version, InFlight: s.inFlight}
		if r := s.refused; r != nil {
			sub.Nack = &NackStatus{Version: r.version, Reason: r.reason, At: r.at}
		}
		out.Subjects = append(out.Subjects, sub)
	}
	slices.SortFunc(out.Subjects, func(a, b SubjectStatus) int { return strings.Compare(a.Target, b.Target) })
	return out
}

// ServeHTTP answers with the Status as JSON.
func (s *Server) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(s.Status()) // a reader who went away
}
