// Package oracle judges what a mesh did to requests. Whoever sends and whoever
// serves tells it what they saw; at the end Judge compares. test/sim, test/mesh
// and the end-to-end tests share it.
//
// Requests are numbered, bodies are patterns made from that number and the
// position of each byte, so that a byte that was lost, doubled, moved, or meant
// for another request is recognised for what it is. An error is a finding
// unless the script holds a cause for that very request: an Excusef, or a Cause
// that covers it by time and place. Some things nothing excuses: wrong bytes, a
// cut body that ends cleanly, a request processed twice, a response that
// belongs to another request, and whatever never ends.
//
// An Oracle may be used by many goroutines.
package oracle
