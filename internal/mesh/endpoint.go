package mesh

import (
	"encoding/binary"
	"net/netip"
)

// Protocol is what a port is known or declared to speak (rule R2.4).
type Protocol uint8

// Protocols.
const (
	ProtocolDetect Protocol = iota // nothing is known: detect
	ProtocolHTTP                   // HTTP/1 or HTTP/2: which one is detected
	ProtocolHTTP1
	ProtocolHTTP2
	ProtocolGRPC
	ProtocolTLS    // the application's own TLS
	ProtocolOpaque // bytes
)

var protocolNames = [...]string{"detect", "http", "http/1", "http/2", "grpc", "tls", "opaque"}

// String returns the name that logs and tables show.
func (p Protocol) String() string { return nameOf(protocolNames[:], int(p)) }

// NoTLSReason says why an endpoint has no identity (rule R5.6).
type NoTLSReason uint8

// Reasons.
const (
	NoTLSNone       NoTLSReason = iota // there is an identity
	NoTLSNotMeshed                     // the workload has no proxy in its spec
	NoTLSSkipped                       // the port is skipped by annotation
	NoTLSLoopback                      // the endpoint is the caller itself
	NoTLSUnresolved                    // the target is unknown to the control plane
	NoTLSDisabled                      // mutual TLS was switched off by the operator
	NoTLSNoEndpoint                    // the request never reached an endpoint
	NoTLSPlaintext                     // the client came in plaintext (inbound)
)

var noTLSNames = [...]string{"", "not_meshed", "port_skipped", "loopback", "not_resolved", "disabled", "no_endpoint", "plaintext"}

// String returns the value of the label no_tls_reason.
func (r NoTLSReason) String() string { return nameOf(noTLSNames[:], int(r)) }

// Endpoint is one address that can serve a target. It is a value: two equal
// rows describe the same endpoint in the same state.
type Endpoint struct {
	Addr     netip.AddrPort
	Identity Identity
	NoTLS    NoTLSReason
	// Weight is the endpoint's share among its siblings; 0 counts as 1.
	Weight   uint32
	Protocol Protocol
	// Terminating endpoints still serve; they are chosen when nothing else is left.
	Terminating bool
	Zone        string
	// ForZones are the zones that EndpointSlice hints name, comma-separated and sorted.
	ForZones string
	Node     string
	Cluster  string
	// What metrics say of the endpoint.
	Namespace, Deployment, Pod string
}

// Hash is a hash of the canonical row, the same in every process and version
// (FNV-1a, 64 bits, finished with a mixer so that sums of hashes are usable as
// order-free digests).
func (e Endpoint) Hash() uint64 {
	h := newHash()
	a := e.Addr.Addr().Unmap().As16()
	h.bytes(a[:])
	h.num(uint64(e.Addr.Port()))
	h.str(string(e.Identity))
	h.num(uint64(e.NoTLS))
	h.num(uint64(max(e.Weight, 1)))
	h.num(uint64(e.Protocol))
	if e.Terminating {
		h.num(1)
	} else {
		h.num(0)
	}
	for _, s := range []string{e.Zone, e.ForZones, e.Node, e.Cluster, e.Namespace, e.Deployment, e.Pod} {
		h.str(s)
	}
	return h.sum()
}

// Digest is the order-free digest of a set of endpoints: the sum of the hashes
// of its rows, mixed with their number.
type Digest struct {
	sum uint64
	n   uint64
}

// Add puts a row in, Remove takes it out.
func (d *Digest) Add(e Endpoint) { d.sum += e.Hash(); d.n++ }

// Remove takes a row out.
func (d *Digest) Remove(e Endpoint) { d.sum -= e.Hash(); d.n-- }

// AddHash puts a row in whose Hash is known, RemoveHash takes it out.
func (d *Digest) AddHash(h uint64) { d.sum += h; d.n++ }

// RemoveHash takes out a row whose Hash is known.
func (d *Digest) RemoveHash(h uint64) { d.sum -= h; d.n-- }

// Value is the digest of what is in.
func (d *Digest) Value() uint64 { return mix(d.sum ^ mix(d.n)) }

type hash uint64

func newHash() hash { return 14695981039346656037 }

func (h *hash) bytes(b []byte) {
	for _, c := range b {
		*h = (*h ^ hash(c)) * 1099511628211
	}
}

func (h *hash) str(s string) {
	h.num(uint64(len(s)))
	for i := range len(s) {
		*h = (*h ^ hash(s[i])) * 1099511628211
	}
}

func (h *hash) num(n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	h.bytes(b[:])
}

func (h *hash) sum() uint64 { return mix(uint64(*h)) }

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "other"
}
