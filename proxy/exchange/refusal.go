package exchange

import (
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// refusal is how a request that was answered with status by its parser is counted (R1.5).
func refusal(status int) metrics.Refusal {
	if status == 431 || status == 414 {
		return metrics.RefusedHead
	}
	return metrics.RefusedMalformed
}

// brokenBy is how the end of a connection because of what its peer did is counted (R4.5).
func brokenBy(code h2.ErrCode) metrics.Refusal {
	if code == h2.ErrCodeEnhanceYourCalm {
		return metrics.RefusedFlood
	}
	return metrics.RefusedMalformed
}

// refusedStream is how a stream that the engine refused by itself is counted, and why it did.
func refusedStream(ev *h2.Event) (metrics.Refusal, string) {
	switch ev.Reason {
	case h2.ReasonLeaving:
		return metrics.RefusedDraining, ev.Reason
	case h2.ReasonStreams:
		return metrics.RefusedRequests, ev.Reason
	case h2.ReasonMemory:
		return metrics.RefusedMemory, ev.Reason
	}
	return refusal(ev.N), ev.Reason
}
