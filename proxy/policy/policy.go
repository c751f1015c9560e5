// Package policy decides who may talk to this workload (rule R9.2): pure decisions over the inbound
// policy that discovery sent. Today there are the five defaults, by workload and port.
package policy

import (
	"slices"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// NameDefault is the name of every decision that no policy object made (rule R9.4).
const NameDefault = "default"

// Decision is what was decided and by what; metrics, logs and tap show it (rule R9.4).
type Decision struct {
	Allow bool
	// Audit: the policy wants allowed requests told.
	Audit bool
	// Policy is the name of what decided: namespace/name, or "default".
	Policy string
	// Reason says why, for logs and for the answer to a peer in the mesh; a constant.
	Reason string
}

// Decide decides on a client of a port of this workload. client is the identity from its
// certificate, empty when it has none. Without a policy nothing is allowed: a proxy is not ready
// before it has one (rule R11.1).
func Decide(p *mesh.InboundPolicy, port uint16, client mesh.Identity) Decision {
	if p == nil {
		return Decision{Policy: NameDefault, Reason: "no inbound policy was received yet"}
	}
	d := Decision{Policy: NameDefault}
	switch DefaultOf(p, port) {
	case mesh.DefaultAllUnauthenticated:
		d.Allow, d.Reason = true, "all-unauthenticated: every client is allowed"
	case mesh.DefaultAllAuthenticated:
		d.Allow, d.Reason = authenticated(client)
	case mesh.DefaultClusterAuthenticated:
		d.Allow, d.Reason = ofCluster(p.TrustDomain, client)
	case mesh.DefaultAudit:
		d.Allow, d.Audit, d.Reason = true, true, "audit: allowed and told"
	case mesh.DefaultDeny:
		d.Reason = "deny: no client is allowed"
	default: // what this version does not know, it does not allow
		d.Reason = "the default policy is unknown to this proxy"
	}
	return d
}

// DefaultOf is the default that holds for a port: the port's own, or the workload's.
func DefaultOf(p *mesh.InboundPolicy, port uint16) mesh.Default {
	if pp, ok := Port(p, port); ok {
		return pp.Default
	}
	return p.Default
}

// Port finds what the policy says of one port.
func Port(p *mesh.InboundPolicy, port uint16) (mesh.PortPolicy, bool) {
	i, ok := slices.BinarySearchFunc(p.Ports, port, func(e mesh.PortPolicy, port uint16) int {
		return int(e.Port) - int(port)
	})
	if !ok {
		return mesh.PortPolicy{}, false
	}
	return p.Ports[i], true
}

func authenticated(client mesh.Identity) (bool, string) {
	if client == "" {
		return false, "all-authenticated: the client has no identity"
	}
	return true, "all-authenticated: the client has an identity"
}

func ofCluster(domain string, client mesh.Identity) (bool, string) {
	switch {
	case client == "":
		return false, "cluster-authenticated: the client has no identity"
	case domain == "" || client.TrustDomain() != domain:
		return false, "cluster-authenticated: the client is of another trust domain"
	}
	return true, "cluster-authenticated: the client is of this trust domain"
}
