package discoverypb

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// EncodeEndpoint makes the message of a row.
func EncodeEndpoint(e mesh.Endpoint) *pb.Endpoint {
	m := &pb.Endpoint{
		Address:     EncodeAddr(e.Addr),
		Identity:    string(e.Identity),
		NoTlsReason: noTLSReasons[e.NoTLS],
		Weight:      e.Weight,
		Protocol:    protocols[e.Protocol],
		Terminating: e.Terminating,
		Zone:        e.Zone,
		Node:        e.Node,
		Cluster:     e.Cluster,
	}
	if e.ForZones != "" {
		m.ForZones = strings.Split(e.ForZones, ",")
	}
	if e.Namespace != "" || e.Deployment != "" || e.Pod != "" {
		m.Labels = &pb.EndpointLabels{Namespace: e.Namespace, Deployment: e.Deployment, Pod: e.Pod}
	}
	return m
}

// EncodeEndpoints makes the messages of rows.
func EncodeEndpoints(es []mesh.Endpoint) []*pb.Endpoint { return encodeAll(es, EncodeEndpoint) }

// DecodeEndpoint reads a row. An endpoint without an identity says why, one with an identity does
// not: silence is never read as plaintext (R5.6).
func DecodeEndpoint(m *pb.Endpoint) (mesh.Endpoint, error) {
	addr, err := DecodeAddr(m.GetAddress())
	if err != nil {
		return mesh.Endpoint{}, err
	}
	e := mesh.Endpoint{
		Addr:        addr,
		Identity:    mesh.Identity(m.GetIdentity()),
		Weight:      m.GetWeight(),
		Terminating: m.GetTerminating(),
		Zone:        m.GetZone(),
		ForZones:    strings.Join(m.GetForZones(), ","),
		Node:        m.GetNode(),
		Cluster:     m.GetCluster(),
		Namespace:   m.GetLabels().GetNamespace(),
		Deployment:  m.GetLabels().GetDeployment(),
		Pod:         m.GetLabels().GetPod(),
	}
	if err := decodeSecurity(m, &e); err != nil {
		return mesh.Endpoint{}, fmt.Errorf("endpoint %s: %w", addr, err)
	}
	e.Protocol, err = decodeEnum[pb.Protocol, mesh.Protocol](protocols[:], m.GetProtocol(), "protocol")
	if err != nil {
		return mesh.Endpoint{}, fmt.Errorf("endpoint %s: %w", addr, err)
	}
	if !slices.IsSorted(m.GetForZones()) || slices.ContainsFunc(m.GetForZones(), badZone) {
		return mesh.Endpoint{}, fmt.Errorf("endpoint %s: zones %q: want sorted names", addr, m.GetForZones())
	}
	return e, nil
}

func badZone(z string) bool { return z == "" || strings.Contains(z, ",") }

func decodeSecurity(m *pb.Endpoint, e *mesh.Endpoint) (err error) {
	if e.Identity != "" {
		if _, err := mesh.ParseIdentity(string(e.Identity)); err != nil {
			return err
		}
	}
	e.NoTLS, err = decodeEnum[pb.NoTlsReason, mesh.NoTLSReason](noTLSReasons[:], m.GetNoTlsReason(), "reason for no TLS")
	if err != nil {
		return err
	}
	if (e.Identity == "") == (e.NoTLS == mesh.NoTLSNone) {
		return fmt.Errorf("want an identity or a reason for none, got %q and %q", e.Identity, e.NoTLS)
	}
	return nil
}

// DecodeEndpoints reads rows.
func DecodeEndpoints(ms []*pb.Endpoint) ([]mesh.Endpoint, error) {
	return decodeAll(ms, "endpoint", DecodeEndpoint)
}

// EncodePolicy makes the message of a target's policy; nil for nil.
func EncodePolicy(p *mesh.TargetPolicy) *pb.TargetPolicy {
	if p == nil {
		return nil
	}
	return &pb.TargetPolicy{
		Kind:      kinds[p.Kind],
		Service:   p.Service,
		Namespace: p.Namespace,
		Port:      uint32(p.Port),
		Protocol:  protocols[p.Protocol],
		Balancing: balancings[p.Balancing],
		Routes:    encodeAll(p.Routes, encodeRoute),
		Retry:     encodeRetry(p.Retry),
		Timeouts:  encodeTimeouts(p.Timeouts),
	}
}

// DecodePolicy reads a target's policy; nil for nil.
func DecodePolicy(m *pb.TargetPolicy) (*mesh.TargetPolicy, error) {
	if m == nil {
		return nil, nil
	}
	if m.GetPort() > 65535 {
		return nil, fmt.Errorf("policy of port %d: want at most 65535", m.GetPort())
	}
	p := &mesh.TargetPolicy{Service: m.GetService(), Namespace: m.GetNamespace(), Port: uint16(m.GetPort())}
	if err := decodePolicy(m, p); err != nil {
		return nil, fmt.Errorf("policy of %s: %w", p, err)
	}
	return p, nil
}

func decodePolicy(m *pb.TargetPolicy, p *mesh.TargetPolicy) (err error) {
	if p.Kind, err = decodeEnum[pb.TargetKind, mesh.TargetKind](kinds[:], m.GetKind(), "kind"); err != nil {
		return err
	}
	if p.Protocol, err = decodeEnum[pb.Protocol, mesh.Protocol](protocols[:], m.GetProtocol(), "protocol"); err != nil {
		return err
	}
	if p.Balancing, err = decodeEnum[pb.Balancing, mesh.Balancing](balancings[:], m.GetBalancing(), "balancing"); err != nil {
		return err
	}
	if p.Routes, err = decodeAll(m.GetRoutes(), "route", decodeRoute); err != nil {
		return err
	}
	if p.Retry, err = decodeRetry(m.GetRetry()); err != nil {
		return err
	}
	p.Timeouts, err = decodeTimeouts(m.GetTimeouts())
	return err
}

func encodeRoute(r mesh.Route) *pb.Route {
	return &pb.Route{Name: r.Name, Backends: encodeAll(r.Backends, func(b mesh.Backend) *pb.Backend {
		return &pb.Backend{Target: EncodeTarget(b.Target), Weight: b.Weight}
	})}
}

func decodeRoute(m *pb.Route) (mesh.Route, error) {
	backends, err := decodeAll(m.GetBackends(), "backend", func(b *pb.Backend) (mesh.Backend, error) {
		t, err := DecodeTarget(b.GetTarget())
		return mesh.Backend{Target: t, Weight: b.GetWeight()}, err
	})
	if err != nil {
		return mesh.Route{}, fmt.Errorf("%s: %w", m.GetName(), err)
	}
	return mesh.Route{Name: m.GetName(), Backends: backends}, nil
}

func encodeRetry(r mesh.Retry) *pb.Retry {
	m := &pb.Retry{
		Statuses:       encodeAll(r.Statuses, toUint32),
		GrpcCodes:      encodeAll(r.GRPC, toUint32),
		ConnectFailure: r.ConnectFailure,
		AnyMethod:      r.AnyMethod,
		Attempts:       r.Attempts,
	}
	if len(m.Statuses)+len(m.GrpcCodes) == 0 && !r.ConnectFailure && !r.AnyMethod && r.Attempts == 0 {
		return nil
	}
	return m
}

func toUint32(n int) uint32 { return uint32(n) }

func decodeRetry(m *pb.Retry) (r mesh.Retry, err error) {
	r = mesh.Retry{ConnectFailure: m.GetConnectFailure(), AnyMethod: m.GetAnyMethod(), Attempts: m.GetAttempts()}
	if r.Statuses, err = decodeAll(m.GetStatuses(), "retry status", within(100, 599)); err != nil {
		return mesh.Retry{}, err
	}
	r.GRPC, err = decodeAll(m.GetGrpcCodes(), "retry gRPC code", within(0, 16))
	return r, err
}

func within(first, last uint32) func(uint32) (int, error) {
	return func(n uint32) (int, error) {
		if n < first || n > last {
			return 0, fmt.Errorf("%d: want %d to %d", n, first, last)
		}
		return int(n), nil
	}
}

func encodeTimeouts(t mesh.Timeouts) *pb.Timeouts {
	if t == (mesh.Timeouts{}) {
		return nil
	}
	return &pb.Timeouts{
		Request:  encodeDuration(t.Request),
		Response: encodeDuration(t.Response),
		Idle:     encodeDuration(t.Idle),
		PerTry:   encodeDuration(t.PerTry),
	}
}

func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func decodeTimeouts(m *pb.Timeouts) (t mesh.Timeouts, err error) {
	for _, f := range []struct {
		name string
		from *durationpb.Duration
		to   *time.Duration
	}{
		{"request", m.GetRequest(), &t.Request},
		{"response", m.GetResponse(), &t.Response},
		{"idle", m.GetIdle(), &t.Idle},
		{"per-try", m.GetPerTry(), &t.PerTry},
	} {
		if *f.to, err = decodeDuration(f.from); err != nil {
			return mesh.Timeouts{}, fmt.Errorf("%s timeout: %w", f.name, err)
		}
	}
	return t, nil
}

func decodeDuration(m *durationpb.Duration) (time.Duration, error) {
	if m == nil {
		return 0, nil
	}
	if err := m.CheckValid(); err != nil {
		return 0, err
	}
	d := m.AsDuration()
	if d < 0 {
		return 0, fmt.Errorf("%s is negative", d)
	}
	return d, nil
}
