package state

import (
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Name names a namespaced object.
type Name struct{ Namespace, Name string }

// String is "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// PortRange is a range of ports, both ends included.
type PortRange struct{ From, To uint16 }

// PortDefault is a default inbound policy for one port.
type PortDefault struct {
	Port    uint16
	Default mesh.Default
}

// PortRules is what the annotations of a Namespace, Service or workload say of ports. The zero value
// says nothing: what the next wider scope says holds.
type PortRules struct {
	// Opaque are the ports that the operator declared to be bytes; nil when not said, empty when said
	// to be none.
	Opaque []PortRange
	// Default is the default inbound policy, nil when not said.
	Default *mesh.Default
	// PortDefaults are its exceptions, sorted by port.
	PortDefaults []PortDefault
}

// Namespace is what the mesh knows of a namespace.
type Namespace struct {
	Name  string
	Rules PortRules
	// Inject: it asks for proxies.
	Inject bool
}

// Service is a Service. Rows are immutable once put.
type Service struct {
	Name Name
	// Addrs are its cluster addresses; none for a headless one. Where they are of both families, each
	// leads to endpoints of its own, and the name to those of the first one's.
	Addrs []netip.Addr
	// External are addresses that lead to it unless they are somebody's own (externalIPs).
	External []netip.Addr
	// NodeLocal: clients get the endpoints of their own node alone (internalTrafficPolicy).
	NodeLocal bool
	Ports     []ServicePort
	// Selector selects workloads; empty selects none, and endpoints come from slices alone.
	Selector map[string]string
	Rules    PortRules // only Opaque counts
	// SameZone asks that endpoints serve their own zone (trafficDistribution).
	SameZone bool
	// Sticky: each client stays with one endpoint (sessionAffinity).
	Sticky bool
}

// ServicePort is one port of a Service. Exactly one of Target and TargetName is set.
type ServicePort struct {
	Name       string
	Port       uint16
	Target     uint16
	TargetName string
	Protocol   mesh.Protocol // by appProtocol; ProtocolDetect when not said
}

// Workload is one running instance of an application.
type Workload struct {
	Name Name
	// Pod: every port of its addresses is its own, whether Ports has it or not, and it is an endpoint
	// of Services where slices say so. Of other workloads Ports are all, and selectors choose them.
	Pod bool
	// HostNetwork: its addresses are its node's, and lead to nobody.
	HostNetwork bool
	Identity    mesh.Identity
	// Proxied says that a proxy stands before it, whether or not that proxy is healthy (rule R5.6).
	Proxied     bool
	Labels      map[string]string
	Addrs       []netip.Addr
	Ports       []WorkloadPort
	Weight      uint32
	Terminating bool
	Zone        string
	Node        string
	Cluster     string
	Deployment  string
	Rules       PortRules
	// Skipped are ports that its proxy does not stand before, besides those of Ports.
	Skipped []PortRange
}

// WorkloadPort is one port of a workload.
type WorkloadPort struct {
	Name     string
	Port     uint16
	Protocol mesh.Protocol
	// Skipped: the workload's proxy does not stand before this port.
	Skipped bool
}

// Slice is an EndpointSlice: endpoints that somebody else found for a Service.
type Slice struct {
	Name      Name
	Service   string // in the slice's namespace
	Ports     []SlicePort
	Endpoints []SliceEndpoint
}

// SlicePort is one port of all endpoints of a Slice; its name is that of the Service's port.
type SlicePort struct {
	Name     string
	Port     uint16
	Protocol mesh.Protocol
}

// SliceEndpoint is one endpoint of a Slice that serves.
type SliceEndpoint struct {
	Addrs       []netip.Addr
	Terminating bool
	Zone, Node  string
	ForZones    string // comma-separated and sorted
	Pod         string
	// Ref: the slice says that it is this Pod of its own namespace.
	Ref bool
}

// Route sends what is meant for its parents to its backends.
type Route struct {
	Name     Name
	Created  time.Time // the older of two routes of one parent wins, then the first by name
	Parents  []RouteParent
	Backends []mesh.Backend
}

// RouteParent is a Service that a route attaches to. A route from another namespace than its
// parent's holds for clients of the route's namespace alone (GEP-1426, consumer routes).
type RouteParent struct {
	Service Name
	Port    uint16 // 0: every port
}

// Settings are what holds for the whole mesh. They never change while a Store lives.
type Settings struct {
	// TrustDomain is the cluster's own; "" is cluster.local.
	TrustDomain string
	// ClusterDomain ends the long names of Services; "" is cluster.local.
	ClusterDomain string
	// Default is the inbound policy where no annotation says one.
	Default mesh.Default
	// Opaque are the ports that are bytes where nothing else is said (rule R2.4); nil is
	// DefaultOpaque().
	Opaque []PortRange
	// ClusterNetworks are the networks whose unknown addresses proxies refuse (rule R11.4).
	ClusterNetworks []netip.Prefix
	// NoMutualTLS withholds every identity, so that the mesh speaks plaintext.
	NoMutualTLS bool
	// Pods: the source tells of pods, so an endpoint that a slice says is one waits until it is known
	// at that address. A slice is told of separately: before its pod or long after the pod has gone.
	Pods bool
}

// DefaultOpaque returns the ports of protocols in which the server speaks first or that cannot be
// detected (rule R2.4).
func DefaultOpaque() []PortRange {
	var r []PortRange
	for _, p := range []uint16{25, 587, 3306, 4444, 5432, 6379, 9300, 11211} {
		r = append(r, PortRange{p, p})
	}
	return r
}

func (s Settings) withDefaults() Settings {
	if s.TrustDomain == "" {
		s.TrustDomain = "cluster.local"
	}
	if s.ClusterDomain == "" {
		s.ClusterDomain = "cluster.local"
	}
	if s.Opaque == nil {
		s.Opaque = DefaultOpaque()
	}
	return s
}

func contains(r []PortRange, port uint16) bool {
	for _, x := range r {
		if x.From <= port && port <= x.To {
			return true
		}
	}
	return false
}
