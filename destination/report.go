package destination

import (
	"time"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/discoverypb"
)

// FailureReport is what a proxy met at an endpoint.
type FailureReport struct {
	At        time.Time `json:"at"`
	Proxy     string    `json:"proxy"`
	Target    string    `json:"target,omitempty"`
	Address   string    `json:"address"`
	Kind      string    `json:"kind"`
	Count     uint32    `json:"count"`
	Presented string    `json:"presented,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// Bounds of what reports may cost.
const (
	keptFailures = 256
	maxFailures  = 64 // per report, as the API says
)

var failureKinds = map[pb.FailureKind]string{
	pb.FailureKind_FAILURE_KIND_CONNECT:           "connect",
	pb.FailureKind_FAILURE_KIND_IDENTITY_MISMATCH: "identity_mismatch",
	pb.FailureKind_FAILURE_KIND_HANDSHAKE:         "handshake",
}

// reported counts what a proxy saw and marks the addresses for a re-check. It takes nothing out of a
// table on a proxy's word.
func (s *Server) reported(st *stream, m *pb.Report) {
	failures := m.GetFailures()
	for _, f := range failures[:min(len(failures), maxFailures)] {
		addr, err := discoverypb.DecodeAddr(f.GetAddress())
		if err != nil {
			continue
		}
		kind := failureKinds[f.GetKind()]
		if kind == "" {
			kind = "other"
		}
		s.metrics.failures.WithLabelValues(kind).Add(float64(f.GetCount()))
		r := FailureReport{
			At: time.Now(), Proxy: st.name(), Target: st.targetOf(f.GetSubject()), Address: addr.String(),
			Kind: kind, Count: f.GetCount(), Presented: cut(f.GetPresented(), 256), Error: cut(f.GetError(), 256),
		}
		s.mu.Lock()
		s.suspects[addr] = true
		if len(s.failures) >= keptFailures {
			s.failures = append(s.failures[:0], s.failures[1:]...)
		}
		s.failures = append(s.failures, r)
		s.mu.Unlock()
	}
}

func (st *stream) targetOf(id uint64) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s := st.subjects[id]; s != nil && id != 0 {
		return s.target.String()
	}
	return ""
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
