package state

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Keys of the trees. Names hold neither '/' nor NUL, so that a key which ends in either is a prefix
// of exactly what belongs to it.

func nameKey(n Name) []byte { return []byte(n.Namespace + "/" + n.Name) }

func namespacePrefix(ns string) []byte { return []byte(ns + "/") }

func appendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As16()
	return binary.BigEndian.AppendUint16(append(b, ip[:]...), a.Port())
}

func addrKey(a netip.AddrPort) []byte { return appendAddr(make([]byte, 0, 18), a) }

// Key names a Table: the port of a Service, or one address of a workload.
type Key struct {
	Service Name
	Port    uint16
	Addr    netip.AddrPort // of a workload; Service and Port are zero
}

// String is "namespace/name:port" or "ip:port".
func (k Key) String() string {
	if k.Addr.IsValid() {
		return k.Addr.String()
	}
	return k.Service.Namespace + "/" + mesh.NameTarget(k.Service.Name, k.Port).String()
}

func (k Key) bytes() []byte {
	if k.Addr.IsValid() {
		return appendAddr([]byte{'w'}, k.Addr)
	}
	return binary.BigEndian.AppendUint16(append([]byte("s"+k.Service.String()), 0), k.Port)
}

// rowKey is the key of what one source says of one address in a table.
func rowKey(k Key, a netip.AddrPort, source string) []byte {
	return append(appendAddr(k.bytes(), a), source...)
}

func targetKey(t mesh.Target) []byte {
	if t.Name == "" {
		return appendAddr([]byte{'a'}, t.Addr)
	}
	return binary.BigEndian.AppendUint16(append([]byte("n"+t.Name), 0), t.Port)
}

// Canonical returns the one form in which the tables know t: the names "web.shop.svc" and
// "web.shop.svc.cluster.local" become "web.shop".
func (s Settings) Canonical(t mesh.Target) mesh.Target {
	if t.Name == "" {
		return mesh.AddrTarget(t.Addr)
	}
	name := strings.TrimSuffix(strings.ToLower(strings.TrimSuffix(t.Name, ".")), "."+s.ClusterDomain)
	if short, ok := strings.CutSuffix(name, ".svc"); ok {
		name = short
	}
	return mesh.NameTarget(name, t.Port)
}

// targetOf reads what targetKey wrote.
func targetOf(k []byte) mesh.Target {
	port := binary.BigEndian.Uint16(k[len(k)-2:])
	if k[0] == 'a' {
		ip := netip.AddrFrom16([16]byte(k[1:17]))
		return mesh.AddrTarget(netip.AddrPortFrom(ip, port))
	}
	return mesh.NameTarget(string(k[1:len(k)-3]), port)
}
