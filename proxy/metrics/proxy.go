package metrics

import (
	"sync/atomic"
	"time"
)

// Proxy is what one worker counts for the proxy as a whole. Counters only grow; gauges are set
// before a Snapshot is taken.
type Proxy struct {
	Timeouts             [timeouts]uint64
	Refused              [refusals]uint64
	Evicted              uint64 // streams and connections reset because others wanted their memory (R4.2)
	RetryBudgetExhausted uint64
	CircuitOpen          uint64
	// Discovery, as the worker sees it.
	UpdatesAcked     uint64
	UpdatesRefused   uint64
	Digests          uint64
	DigestMismatches uint64
	Resyncs          uint64

	// Gauges.
	InFlight     [directions]int64 // requests
	Queued       [directions]int64 // requests and connections that wait for discovery or an endpoint
	BuffersUsed  int64             // bytes of R4.2's budget; of the proxy, so every worker says the same
	BuffersLent  int64             // to windows
	BuffersLimit int64
	Busy         float64 // share of time that the worker was not waiting, 0 to 1, since the last snapshot

	// Times of a request (rule R12.4).
	Phases [directions][phases]Spent
	Added  [directions]Added
}

// Timeout is a kind of timeout (rule R7.4).
type Timeout uint8

// Kinds of timeout.
const (
	TimeoutConnect Timeout = iota
	TimeoutHandshake
	TimeoutHeader   // a request's head did not come
	TimeoutDetect   // a begun prefix stayed undecidable
	TimeoutResolve  // discovery did not say what a target is
	TimeoutEndpoint // no endpoint became ready
	TimeoutRequest
	TimeoutResponse
	TimeoutIdle
	TimeoutTry
	timeouts
)

var timeoutNames = [timeouts]string{
	"connect", "handshake", "header", "detect", "resolve", "endpoint", "request", "response", "idle", "try",
}

// Refusal is a reason for which the proxy refused work (rules R1.5, R1.6).
type Refusal uint8

// Reasons to refuse.
const (
	RefusedConnections Refusal = iota
	RefusedHandshakes
	RefusedRequests
	RefusedHead // too large, too many fields, too long a target
	RefusedMalformed
	RefusedMemory
	RefusedQueue
	RefusedLoop // the destination is the proxy itself
	RefusedTarget
	RefusedPeer // the wrong identity, a foreign root, an expired certificate
	RefusedFlood
	RefusedDraining
	RefusedRate // more requests in a second than the application is to get
	refusals
)

var refusalNames = [refusals]string{
	"connections", "handshakes", "requests", "head", "malformed", "memory", "queue", "loop", "target", "peer",
	"flood", "draining", "rate",
}

// Phase is a part of a request's time (rule R12.4).
type Phase uint8

// Phases of a request.
const (
	PhaseQueue       Phase = iota // waiting for discovery, an endpoint, a stream
	PhaseConnect                  // TCP
	PhaseTLS                      // the handshake
	PhaseUpstream                 // outbound: from the request's last write to the response's first byte
	PhaseApplication              // inbound: the same, of the application
	PhaseRetries                  // attempts before the last, with their backoff
	phases
)

var phaseNames = [phases]string{
	"queue", "connect", "tls", "upstream", "application", "retries",
}

// Spent is how much time was spent how often.
type Spent struct {
	Count uint64
	Sum   time.Duration
}

// Observe adds one.
func (s *Spent) Observe(d time.Duration) { s.Count++; s.Sum += d }

func (s *Spent) add(o Spent) { s.Count += o.Count; s.Sum += o.Sum }

// Outcome is what a connection was detected to be (rule R2.6).
type Outcome uint8

// Outcomes of detection.
const (
	DetectedHTTP1 Outcome = iota
	DetectedHTTP2
	DetectedTLS
	DetectedMesh
	DetectedOpaque
	DetectedServerFirst // opaque, because the server spoke first
	DetectedDeclared    // nothing was detected: the port is declared
	DetectedRefused     // undecidable or foreign bytes on a port with an L7 rule
	DetectedSilent      // the connection ended before anybody spoke
	outcomes
)

var outcomeNames = [outcomes]string{
	"http1", "http2", "tls", "mesh", "opaque", "server_first", "declared", "refused", "silent",
}

// portsMost is how many ports are told apart; the rest is counted under "other".
const portsMost = 64

// Detected counts outcomes on one port.
type Detected struct {
	direction Direction
	port      uint16 // 0: all that did not fit
	n         [outcomes]uint64
}

// Detection counts what a connection to port was detected to be.
func (s *Store) Detection(d Direction, port uint16, o Outcome) {
	for i := range s.detected {
		if e := &s.detected[i]; e.direction == d && e.port == port {
			e.n[o]++
			return
		}
	}
	if len(s.detected) >= portsMost && port != 0 {
		s.Detection(d, 0, o)
		return
	}
	s.detected = append(s.detected, Detected{direction: d, port: port})
	s.detected[len(s.detected)-1].n[o]++
}

// Process is what is known beside the workers, by ordinary goroutines. What identity counts is in its
// own package, on the same registry.
type Process struct {
	connected atomic.Bool
}

// Connected tells whether the stream to discovery is up.
func (p *Process) Connected(up bool) { p.connected.Store(up) }
