//go:build !linux

package loop

// NewPoller returns the best poller of this system; cfg is for Linux.
func NewPoller(EpollConfig) (Poller, error) { return NewGoroutines(GoroutinesConfig{}), nil }
