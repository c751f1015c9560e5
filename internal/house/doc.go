// Package house holds the house together: tests that enforce what house-style.md and
// architecture.md decided, each with the reason in its failure message. Nothing imports it.
//
// Where a rule has an exception, the exception stands where it is needed, with its reason, as a
// comment on the line or on the one before it:
//
//	//house:maprange the sum does not depend on the order
//
// The words are maprange, goroutine, clock, lock, sleep, init, background, length.
package house
