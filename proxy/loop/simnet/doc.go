// Package simnet is a network that exists in memory and in simulated time: the
// third poller of proxy/loop, and what test/sim runs a whole mesh on.
//
// A World holds a clock, a queue of events and one stream of randomness. Hosts
// have an IP address each; a Host makes pollers, whose workers the World turns
// when something is ready for them, and endpoints: clients and servers written
// as callbacks. Everything happens on the caller's goroutine inside Run, and
// the same seed with the same calls gives the same events, which Hash proves.
//
// Connections behave like TCP: bytes arrive in order after a delay, in pieces;
// send and receive buffers are bounded; a FIN follows the last byte; a RST
// discards what its sender had not sent and overtakes what is in flight; data
// for a closed socket is answered by a RST; closing with unread data resets.
// The weather (Config) adds delays, short reads and writes, readiness that comes
// late, in another order or without cause; scripts add the rest (faults.go).
package simnet
