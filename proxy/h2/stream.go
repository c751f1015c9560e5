package h2

// Stream is one stream of a Conn. The owner gets it from EventHead or Open and
// may use it until EventReset, its own Reset, or until both ends have ended and
// Drained has reported that nothing is queued; calls on a stream that is closed
// do nothing as long as the turn lasts.
type Stream struct {
	ID uint32
	// User is the owner's.
	User any
}

// Shared holds what the connections of one worker lend each other: free streams
// and the memory in which heads are decoded. It is not safe for concurrent use.
type Shared struct {
}
