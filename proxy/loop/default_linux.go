package loop

// NewPoller returns the best poller of this system.
func NewPoller(cfg EpollConfig) (Poller, error) { return NewEpoll(cfg) }
