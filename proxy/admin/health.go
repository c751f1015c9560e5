// Package admin is the proxy's own door at port 4191: ordinary net/http beside the workers. From
// anywhere it serves /ready, /live, /metrics and /probe; everything that tells more, or does something, is for
// loopback alone (rule R12.5): a heap dump holds keys. /probe performs
// the application's probes for the kubelet (rule R9.3).
package admin

import (
	"strings"
	"sync"
	"time"
)

// Condition is something that must be before the proxy is ready (rule R11.1).
type Condition uint8

// Conditions of being ready.
const (
	Certificate Condition = iota
	Discovery             // the stream was up once
	Policy                // the first inbound policy was received
	Listeners
	conditions
)

var conditionNames = [conditions]string{"certificate", "discovery", "inbound policy", "listeners"}

// Health says whether the proxy is ready and what is missing or degraded (rules R10.2, R11.1). Once
// ready, it stays so whatever its control plane does, until it is told to end or its certificate has
// expired. Safe for concurrent use.
type Health struct {
	now func() time.Time

	mu       sync.Mutex
	met      [conditions]bool
	why      [conditions]string // of what is not met, or is degraded
	ready    bool               // was once
	ending   bool
	notAfter time.Time // of the certificate; zero: there is none
}

// NewHealth returns a Health to which nothing is known yet.
func NewHealth(now func() time.Time) *Health { return &Health{now: now} }

// Met tells that a condition holds.
func (h *Health) Met(c Condition) { h.set(c, true, "") }

// Missing tells that a condition does not hold, or not any more, and why. After the proxy was ready
// that is called degraded.
func (h *Health) Missing(c Condition, why string) { h.set(c, false, why) }

func (h *Health) set(c Condition, met bool, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.met[c], h.why[c] = met, why
	h.latch()
}

// latch remembers that the proxy was ready.
func (h *Health) latch() {
	for _, met := range h.met {
		if !met {
			return
		}
	}
	h.ready = true
}

// Certified tells that there is a certificate, and until when.
func (h *Health) Certified(notAfter time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notAfter = notAfter
	h.met[Certificate], h.why[Certificate] = true, ""
	h.latch()
}

// Ready tells whether every condition held once.
func (h *Health) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready
}

// End tells that the proxy was asked to end.
func (h *Health) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending = true
}

// Report says whether the proxy is ready; the body names what is missing or degraded.
func (h *Health) Report() (ready bool, body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	expired := !h.notAfter.IsZero() && !h.now().Before(h.notAfter)
	ready = h.ready && !h.ending && !expired
	var s strings.Builder
	if ready {
		s.WriteString("ready\n")
	} else {
		s.WriteString("not ready\n")
	}
	if h.ending {
		s.WriteString("ending: the proxy was asked to end\n")
	}
	if expired {
		s.WriteString("certificate: expired at " + h.notAfter.UTC().Format(time.RFC3339) + "\n")
	}
	word := "missing"
	if h.ready {
		word = "degraded"
	}
	for c := range conditions {
		if h.met[c] {
			continue
		}
		s.WriteString(word + ": " + conditionNames[c])
		if h.why[c] != "" {
			s.WriteString(": " + h.why[c])
		}
		s.WriteByte('\n')
	}
	return ready, s.String()
}
