// Package metrics counts what a proxy does (rules R12.1, R12.2). A Store belongs to one worker and
// counts in plain fields: an update of a resolved series takes no lock and allocates nothing. A scrape
// asks each worker for a Snapshot, taken at the end of a turn; Collector makes constant metrics of
// them, with the names that dashboards already query.
//
// Labels are typed and bounded, and all of them are always present. Nothing that a client chooses
// becomes a label: a client's identity comes from its verified certificate, a route's or policy's name
// from the control plane. The number of label sets is bounded nevertheless: over it, all is counted
// under one set whose labels say "other". Sets that were not used for 10 minutes are forgotten.
//
// docs/metrics.md describes every metric; a test compares it with what is registered.
package metrics

import (
	"strconv"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Direction of traffic, as seen from the workload.
type Direction uint8

// Directions.
const (
	Inbound Direction = iota
	Outbound
	directions
)

// String is the value of the label direction.
func (d Direction) String() string {
	if d == Inbound {
		return "inbound"
	}
	return "outbound"
}

// Labels are what a series is counted under (rule R12.2). Comparable; the zero value of a field is
// the empty label.
type Labels struct {
	Direction Direction
	// TLS is mutual TLS of the mesh; NoTLS says why there is none.
	TLS   bool
	NoTLS mesh.NoTLSReason
	// ClientID and ServerID are the identities that were verified.
	ClientID, ServerID mesh.Identity
	// The destination, from discovery.
	Service, Namespace, Deployment, Zone string
	// Pod is used by tcp_open_connections alone.
	Pod string
	// Route and Policy are names of objects of the control plane, or "default".
	Route, Policy string
}

// other is the value of a label that stands for what is not told apart.
const other = "other"

// overflow is the set under which everything is counted that does not fit.
func (l Labels) overflow() Labels {
	o := Labels{
		Direction: l.Direction, TLS: l.TLS, ClientID: other, ServerID: other,
		Service: other, Namespace: other, Deployment: other, Zone: other, Route: other, Policy: other,
	}
	if l.Pod != "" {
		o.Pod = other
	}
	return o
}

// labelNames are the labels that every series of traffic has, in the order of values.
var labelNames = [...]string{
	"direction", "tls", "no_tls_reason", "client_id", "server_id",
	"dst_service", "dst_namespace", "dst_deployment", "dst_zone", "route", "policy",
}

func (l Labels) values() []string {
	return []string{
		l.Direction.String(), strconv.FormatBool(l.TLS), l.NoTLS.String(), string(l.ClientID), string(l.ServerID),
		l.Service, l.Namespace, l.Deployment, l.Zone, l.Route, l.Policy,
	}
}

// statusLabel is 100 to 599, or "other".
func statusLabel(status uint16) string {
	if status == 0 {
		return other
	}
	return strconv.Itoa(int(status))
}

func boundStatus(status int) uint16 {
	if status < 100 || status > 599 {
		return 0
	}
	return uint16(status)
}

// gRPC statuses are kept as a byte: 0 to 16, or one of these.
const (
	grpcNone  = -1
	grpcOther = -2
)

func boundGRPC(status int) int8 {
	switch {
	case status == grpcNone:
		return grpcNone
	case status < 0 || status > 16:
		return grpcOther
	}
	return int8(status)
}

// grpcLabel is 0 to 16, "other", or empty where there was no gRPC status.
func grpcLabel(status int8) string {
	switch status {
	case grpcNone:
		return ""
	case grpcOther:
		return other
	}
	return strconv.Itoa(int(status))
}

func classLabel(failure bool) string {
	if failure {
		return "failure"
	}
	return "success"
}
