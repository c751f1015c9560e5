package traffic

import (
	"math"
	"time"
)

// A Histogram counts durations in buckets that are 1 % wide, from 10 µs to 100 s; what is outside
// falls into the first or the last. The zero Histogram is empty.
type Histogram struct {
	buckets [1622]int64
	n       int64
}

const (
	lowest = 10 * time.Microsecond
	growth = 1.01
)

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	if d > lowest {
		i = int(math.Log(float64(d)/float64(lowest)) / math.Log(growth))
	}
	h.buckets[min(i, len(h.buckets)-1)]++
	h.n++
}

// Quantile returns the duration under which a share q of what was added lies, to 1 %; zero where
// nothing was added.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.n)))
	var seen int64
	for i, n := range &h.buckets {
		seen += n
		if n > 0 && seen >= rank {
			return time.Duration(float64(lowest) * math.Pow(growth, float64(i)+0.5))
		}
	}
	return 0
}
