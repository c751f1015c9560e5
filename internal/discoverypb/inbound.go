package discoverypb

import (
	"errors"
	"fmt"
	"net/netip"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Cluster is what a server's hello and every inbound policy say of the cluster.
type Cluster struct {
	TrustDomain string
	Networks    []netip.Prefix
}

// EncodeCluster makes the message of a cluster.
func EncodeCluster(c Cluster) *pb.Cluster {
	return &pb.Cluster{
		TrustDomain: c.TrustDomain,
		Networks: encodeAll(c.Networks, func(p netip.Prefix) *pb.Prefix {
			return &pb.Prefix{Ip: p.Masked().Addr().AsSlice(), Bits: uint32(p.Bits())}
		}),
	}
}

// DecodeCluster reads a cluster.
func DecodeCluster(m *pb.Cluster) (Cluster, error) {
	networks, err := decodeAll(m.GetNetworks(), "cluster network", decodePrefix)
	return Cluster{TrustDomain: m.GetTrustDomain(), Networks: networks}, err
}

func decodePrefix(m *pb.Prefix) (netip.Prefix, error) {
	ip, ok := netip.AddrFromSlice(m.GetIp())
	if !ok || m.GetBits() > uint32(ip.BitLen()) {
		return netip.Prefix{}, fmt.Errorf("network of %d bytes and %d bits", len(m.GetIp()), m.GetBits())
	}
	p := netip.PrefixFrom(ip, int(m.GetBits()))
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("network %s has bits beyond its length", p)
	}
	return p, nil
}

// EncodeInbound makes the message of an inbound policy; nil for nil.
func EncodeInbound(p *mesh.InboundPolicy) *pb.InboundPolicy {
	if p == nil {
		return nil
	}
	return &pb.InboundPolicy{
		Default: defaults[p.Default],
		Ports: encodeAll(p.Ports, func(q mesh.PortPolicy) *pb.PortPolicy {
			return &pb.PortPolicy{Port: uint32(q.Port), Default: defaults[q.Default], Protocol: protocols[q.Protocol]}
		}),
		Terminating: p.Terminating,
		Cluster:     EncodeCluster(Cluster{TrustDomain: p.TrustDomain, Networks: p.ClusterNetworks}),
	}
}

// DecodeInbound reads an inbound policy. A missing one is an error: there is no policy that is safe
// to assume.
func DecodeInbound(m *pb.InboundPolicy) (*mesh.InboundPolicy, error) {
	if m == nil {
		return nil, errors.New("inbound policy is missing")
	}
	def, err := decodeDefault(m.GetDefault())
	if err != nil {
		return nil, fmt.Errorf("inbound policy: %w", err)
	}
	ports, err := decodeAll(m.GetPorts(), "inbound port", decodePortPolicy)
	if err != nil {
		return nil, err
	}
	for i := range ports {
		if i > 0 && ports[i-1].Port >= ports[i].Port {
			return nil, fmt.Errorf("inbound port %d follows %d: want them sorted, each once", ports[i].Port, ports[i-1].Port)
		}
	}
	c, err := DecodeCluster(m.GetCluster())
	if err != nil {
		return nil, err
	}
	return &mesh.InboundPolicy{
		Default: def, Ports: ports, Terminating: m.GetTerminating(),
		TrustDomain: c.TrustDomain, ClusterNetworks: c.Networks,
	}, nil
}

func decodePortPolicy(m *pb.PortPolicy) (p mesh.PortPolicy, err error) {
	if p.Port, err = decodePort(m.GetPort()); err != nil {
		return mesh.PortPolicy{}, err
	}
	if p.Default, err = decodeDefault(m.GetDefault()); err != nil {
		return mesh.PortPolicy{}, fmt.Errorf("port %d: %w", p.Port, err)
	}
	p.Protocol, err = decodeEnum[pb.Protocol, mesh.Protocol](protocols[:], m.GetProtocol(), "protocol")
	if err != nil {
		return mesh.PortPolicy{}, fmt.Errorf("port %d: %w", p.Port, err)
	}
	return p, nil
}

func decodeDefault(d pb.DefaultPolicy) (mesh.Default, error) {
	return decodeEnum[pb.DefaultPolicy, mesh.Default](defaults[:], d, "default policy")
}
