// Package discover is the proxy's end of the discovery stream: what its workload talks to, and the
// inbound policy of the workload itself. It is ordinary Go beside the workers: the Sink it feeds
// hands everything on to them.
//
// There is one stream at a time. While it is away everything that was told stays in force (rule
// R11.4), and the next stream begins where the last one stood. A version is acknowledged when the
// Sink calls done, not when it arrives, so that an acknowledgement means "in force". Digests are
// compared with what the Sink's balancers hold; a difference, or a digest of a version that never
// came, asks for the target whole.
package discover
