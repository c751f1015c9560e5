// Package discoveryv1 is the wire form of the stream between a proxy and the destination service.
// internal/discoverypb turns its messages into the nouns of internal/mesh and back.
package discoveryv1
