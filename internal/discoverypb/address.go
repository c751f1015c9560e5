// Package discoverypb turns the messages of api/discovery/v1 into the nouns of internal/mesh and
// back, once for the destination service and for the proxy's client. It is pure.
//
// Encoding never fails: what mesh can say, the wire can. Decoding refuses what mesh cannot say, with
// an error that names the field and is fit to be a Nack's reason; enum values that this version does
// not know are refused too, since a peer may send them only to who announced the feature. Fields that
// it does not know are ignored.
package discoverypb

import (
	"errors"
	"fmt"
	"net/netip"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// EncodeAddr makes the message of an address; a is valid.
func EncodeAddr(a netip.AddrPort) *pb.SocketAddress {
	return &pb.SocketAddress{Ip: a.Addr().Unmap().AsSlice(), Port: uint32(a.Port())}
}

// DecodeAddr reads an address. IPv4 mapped into IPv6 comes out as IPv4.
func DecodeAddr(m *pb.SocketAddress) (netip.AddrPort, error) {
	ip, ok := netip.AddrFromSlice(m.GetIp())
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes, want 4 or 16", len(m.GetIp()))
	}
	port, err := decodePort(m.GetPort())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %s: %w", ip, err)
	}
	return netip.AddrPortFrom(ip.Unmap(), port), nil
}

// EncodeAddrs and DecodeAddrs do the same for lists.
func EncodeAddrs(as []netip.AddrPort) []*pb.SocketAddress { return encodeAll(as, EncodeAddr) }

// DecodeAddrs reads a list of addresses.
func DecodeAddrs(ms []*pb.SocketAddress) ([]netip.AddrPort, error) {
	return decodeAll(ms, "address", DecodeAddr)
}

// EncodeTarget makes the message of a target.
func EncodeTarget(t mesh.Target) *pb.Target {
	if t.Name != "" {
		return &pb.Target{Form: &pb.Target_Authority{
			Authority: &pb.Authority{Name: t.Name, Port: uint32(t.Port)},
		}}
	}
	return &pb.Target{Form: &pb.Target_Address{Address: EncodeAddr(t.Addr)}}
}

// DecodeTarget reads a target.
func DecodeTarget(m *pb.Target) (mesh.Target, error) {
	switch f := m.GetForm().(type) {
	case *pb.Target_Address:
		a, err := DecodeAddr(f.Address)
		return mesh.Target{Addr: a}, err
	case *pb.Target_Authority:
		port, err := decodePort(f.Authority.GetPort())
		if err != nil {
			return mesh.Target{}, fmt.Errorf("target %q: %w", f.Authority.GetName(), err)
		}
		return decodeAuthority(f.Authority.GetName(), port)
	default:
		return mesh.Target{}, errors.New("target without a form")
	}
}

// decodeAuthority accepts the names that mesh.ParseTarget accepts, in the one form that it keeps.
func decodeAuthority(name string, port uint16) (mesh.Target, error) {
	want := mesh.NameTarget(name, port)
	got, err := mesh.ParseTarget(want.String())
	if err != nil {
		return mesh.Target{}, err
	}
	if got != want || got.Name != name {
		return mesh.Target{}, fmt.Errorf("target %q: want a lower-case name without a trailing dot", name)
	}
	return got, nil
}

func decodePort(n uint32) (uint16, error) {
	if n == 0 || n > 65535 {
		return 0, fmt.Errorf("port %d: want 1 to 65535", n)
	}
	return uint16(n), nil
}

func encodeAll[A, B any](in []A, encode func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = encode(a)
	}
	return out
}

func decodeAll[A, B any](in []A, what string, decode func(A) (B, error)) ([]B, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]B, len(in))
	for i, a := range in {
		b, err := decode(a)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i, err)
		}
		out[i] = b
	}
	return out, nil
}
