package metrics

import "time"

// latencyBounds are the upper bounds of response_latency_ms: 0.1, 0.2, 0.5, 1 … 50000 ms (R12.1).
var latencyBounds = [...]time.Duration{
	100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second, 20 * time.Second, 50 * time.Second,
}

// addedBounds are those of proxy_added_seconds: what a proxy adds is small.
var addedBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
}

// latencies is a histogram over latencyBounds; counts are not cumulative, the last is everything
// above.
type latencies struct {
	counts [len(latencyBounds) + 1]uint64
	sum    time.Duration
}

func (h *latencies) observe(d time.Duration) {
	h.counts[bucket(latencyBounds[:], d)]++
	h.sum += d
}

func (h *latencies) add(o *latencies) {
	for i := range h.counts {
		h.counts[i] += o.counts[i]
	}
	h.sum += o.sum
}

// Added is the histogram of the time that the proxy itself adds.
type Added struct {
	counts [len(addedBounds) + 1]uint64
	sum    time.Duration
}

// Observe counts one request.
func (h *Added) Observe(d time.Duration) {
	h.counts[bucket(addedBounds[:], d)]++
	h.sum += d
}

func (h *Added) add(o *Added) {
	for i := range h.counts {
		h.counts[i] += o.counts[i]
	}
	h.sum += o.sum
}

// bucket is the index of the first bound that is not below d, or their number.
func bucket(bounds []time.Duration, d time.Duration) int {
	lo, hi := 0, len(bounds)
	for lo < hi {
		if mid := (lo + hi) / 2; bounds[mid] < d {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// cumulative makes what Prometheus wants: how many were at most each bound, in units of one unit.
func cumulative(bounds []time.Duration, counts []uint64, unit time.Duration) (uint64, map[float64]uint64) {
	le := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, b := range bounds {
		n += counts[i]
		le[float64(b)/float64(unit)] = n
	}
	return n + counts[len(bounds)], le
}
