package state

import (
	"encoding/binary"
	"net/netip"
	"slices"
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

// Key names a Table: the port of a Service, or one address of a workload. It is comparable.
type Key struct {
	Service Name
	Port    uint16
	// Family is 4 or 6 where the Service has addresses of both, else 0.
	Family uint8
	// Node is the clients', of a Service that is local to its nodes. The table without one is empty
	// then, and holds for clients of nodes that never had an endpoint.
	Node string
	// Addr is a workload's; the other fields are zero.
	Addr netip.AddrPort
}

// String is "namespace/name:port" or "ip:port".
func (k Key) String() string {
	if k.Addr.IsValid() {
		return k.Addr.String()
	}
	s := k.Service.Namespace + "/" + mesh.NameTarget(k.Service.Name, k.Port).String()
	if k.Family != 0 {
		s += " IPv" + string('0'+rune(k.Family))
	}
	if k.Node != "" {
		s += " on " + k.Node
	}
	return s
}

func (k Key) bytes() []byte {
	if k.Addr.IsValid() {
		return appendAddr([]byte{'w'}, k.Addr)
	}
	b := append(portPrefix(k.Service, k.Port), k.Family)
	return append(append(b, k.Node...), 0)
}

// portPrefix: every table of a Service's port.
func portPrefix(service Name, port uint16) []byte {
	return binary.BigEndian.AppendUint16(append([]byte("s"+service.String()), 0), port)
}

// families are those of the Service's addresses, its name's first, where they are of both; else 0.
func (s *Service) families() []uint8 {
	var all []uint8
	for _, a := range s.Addrs {
		if f := family(a); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	if len(all) < 2 {
		return []uint8{0}
	}
	return all
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

// table is where an endpoint of a port belongs; false where no client may have it.
func (s *Service) table(port uint16, endpoint netip.Addr, node string) (Key, bool) {
	k := Key{Service: s.Name, Port: port}
	if len(s.families()) > 1 {
		k.Family = family(endpoint)
	}
	if s.NodeLocal {
		k.Node = node
		return k, node != ""
	}
	return k, true
}

// has reports whether a table is one of the Service's.
func (s *Service) has(k Key) bool {
	return slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.Port == k.Port }) &&
		slices.Contains(s.families(), k.Family) && (k.Node == "" || s.NodeLocal)
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
