package mesh

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Target is what an application dialled: an original destination (Addr) or an
// authority (Name and Port). Exactly one form is set. It is comparable.
type Target struct {
	Addr netip.AddrPort
	Name string // "catalog.shop", lower case
	Port uint16 // of Name
}

// AddrTarget and NameTarget make the two forms.
func AddrTarget(a netip.AddrPort) Target {
	return Target{Addr: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
}

// NameTarget makes a target of the form name:port.
func NameTarget(name string, port uint16) Target {
	return Target{Name: strings.ToLower(strings.TrimSuffix(name, ".")), Port: port}
}

// ParseTarget reads "ip:port" or "name:port".
func ParseTarget(s string) (Target, error) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return AddrTarget(a), nil
	}
	name, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	t := NameTarget(name, uint16(n))
	if !ok || err != nil || n == 0 || !validName(t.Name) {
		return Target{}, fmt.Errorf("target %q: want ip:port or name:port", s)
	}
	return t, nil
}

// String is the form that ParseTarget reads.
func (t Target) String() string {
	if t.Name != "" {
		return t.Name + ":" + strconv.Itoa(int(t.Port))
	}
	return t.Addr.String()
}

// TargetKind says what a target turned out to be.
type TargetKind uint8

// Kinds of target.
const (
	TargetUnknown TargetKind = iota // nothing that the control plane knows
	TargetService                   // a Service's port
	TargetPod                       // one workload, dialled by its own address
)

// Balancing is how endpoints are chosen (rules R6.1, R6.2).
type Balancing uint8

// Ways of balancing.
const (
	BalanceEWMA Balancing = iota // power of two choices over peak EWMA
	BalanceRoundRobin
	BalanceLeastRequests
	BalanceRandom
	BalanceSource // each workload stays with one endpoint (sessionAffinity: ClientIP)
)

// Backend is one weighted backend of a route.
type Backend struct {
	Target Target
	Weight uint32
}

// Route sends requests to backends instead of the target's own endpoints.
type Route struct {
	Name     string // namespace/name of the HTTPRoute
	Backends []Backend
}

// Retry is what may be retried after bytes were written (rule R7.2); the zero
// value retries only what certainly was not processed.
type Retry struct {
	Statuses       []int  // HTTP statuses
	GRPC           []int  // gRPC codes
	ConnectFailure bool   // resets before the response's head
	AnyMethod      bool   // also methods that are not idempotent
	Attempts       uint32 // in all; 0 is 3
}

// Timeouts of a target; zero fields mean none (rule R7.4).
type Timeouts struct {
	Request, Response, Idle, PerTry time.Duration
}

// TargetPolicy is what the control plane says of a target besides its
// endpoints. It is immutable once published.
type TargetPolicy struct {
	Kind      TargetKind
	Service   string // metrics and messages: the Service's name and namespace
	Namespace string
	Port      uint16
	Protocol  Protocol
	Balancing Balancing
	Routes    []Route
	Retry     Retry
	Timeouts  Timeouts
}

// String names the target the way that errors show it: "web.shop:80".
func (p *TargetPolicy) String() string {
	return p.Service + "." + p.Namespace + ":" + strconv.Itoa(int(p.Port))
}

// Default is a default inbound policy (rule R9.2).
type Default uint8

// The five defaults.
const (
	DefaultAllUnauthenticated Default = iota
	DefaultAllAuthenticated
	DefaultClusterAuthenticated
	DefaultDeny
	DefaultAudit
)

var defaultNames = [...]string{"all-unauthenticated", "all-authenticated", "cluster-authenticated", "deny", "audit"}

// String returns the name that annotations use.
func (d Default) String() string { return nameOf(defaultNames[:], int(d)) }

// ParseDefault reads the name of a default policy.
func ParseDefault(s string) (Default, error) {
	for i, n := range defaultNames {
		if n == s {
			return Default(i), nil
		}
	}
	return 0, fmt.Errorf("default inbound policy %q: want one of %s", s, strings.Join(defaultNames[:], ", "))
}

// PortPolicy is what holds for one port of a workload.
type PortPolicy struct {
	Port     uint16
	Default  Default
	Protocol Protocol
}

// InboundPolicy is what a workload's own proxy enforces and knows of its
// workload. It is immutable once published.
type InboundPolicy struct {
	Default Default
	Ports   []PortPolicy // sorted by Port
	// Terminating is set once the workload's own end has begun (rule R11.2).
	Terminating bool
	// ClusterNetworks are the networks whose unknown addresses are refused (R11.4).
	ClusterNetworks []netip.Prefix
	// TrustDomain is the cluster's own, for cluster-authenticated.
	TrustDomain string
}
