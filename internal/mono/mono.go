// Package mono is the monotonic clock of the data path: nanoseconds since an
// arbitrary start, passed as a parameter so that pure code never reads a clock
// and a simulation can supply its own.
package mono

import "time"

// Time is a point on a monotonic clock in nanoseconds. The zero Time means
// "not set"; clocks start above it.
type Time int64

var start = time.Now()

// Now reads the process's monotonic clock. It is never zero.
func Now() Time { return Time(time.Since(start)) + 1 }

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }
