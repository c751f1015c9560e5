package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
)

// Config is what Up is asked for; its zero is a cluster of two nodes.
type Config struct {
	// Instance tells clusters on one machine apart, 0 to 9; each has names and addresses of its own.
	Instance int
	// Nodes is their number, at most 9; zero means 2. The first also runs the control plane.
	Nodes int
	// Images are OCI archives that every node loads before it starts its kubelet.
	Images []string
	// Cache is where built programs are kept; empty means tulle/cluster in the user's cache directory.
	Cache string
	// Detached leaves the cluster up when the process ends; Down of this instance ends it.
	Detached bool
	// Progress is told each step with its time; nil means nobody wants to know.
	Progress io.Writer
}

// ErrDetached is what Up answers while a detached cluster of the same instance is up.
var ErrDetached = errors.New("a detached cluster of this instance is up: use it by Attach, or end it (make cluster-down)")

func (c Config) checked() (Config, error) {
	if c.Nodes == 0 {
		c.Nodes = 2
	}
	if c.Instance < 0 || c.Instance > 9 || c.Nodes < 1 || c.Nodes > 9 {
		return c, fmt.Errorf("instance %d with %d nodes: there are instances 0 to 9 with 1 to 9 nodes", c.Instance, c.Nodes)
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c, nil
}

// stateRoot holds a directory per instance. It is on a disk, for containerd's snapshots, and outside
// of what a node hides behind mounts of its own (/run, /var/lib, /var/log).
const stateRoot = "/var/tmp/tulle-cluster"

// instance is the number from which all names and addresses of a cluster follow, so that a later
// process finds what an earlier one left without being told.
type instance int

func (i instance) dir() string    { return filepath.Join(stateRoot, fmt.Sprint(int(i))) }
func (i instance) pki() string    { return filepath.Join(i.dir(), "pki") }
func (i instance) bridge() string { return fmt.Sprintf("tulle%d", int(i)) }
func (i instance) cgroup() string { return fmt.Sprintf("tulle-%d", int(i)) }

// addresses are those of one family.
type addresses struct {
	host     netip.Prefix // the host's on the bridge
	services netip.Prefix
	pods     netip.Prefix // of all nodes
	v6       bool
}

func (i instance) v4() addresses {
	n := byte(i)
	return addresses{
		host:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, n, 1}), 24),
		services: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96 - n, 0, 0}), 16),
		pods:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244 - n, 0, 0}), 16),
	}
}

func (i instance) v6() addresses {
	n := byte(i)
	at := func(kind, last byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x74, 2: n, 5: kind, 15: last})
	}
	return addresses{
		host:     netip.PrefixFrom(at(1, 1), 64),
		services: netip.PrefixFrom(at(2, 0), 112),
		pods:     netip.PrefixFrom(at(3, 0), 48),
		v6:       true,
	}
}

// families are both; kube-apiserver takes the first for what has one address only.
func (i instance) families() []addresses { return []addresses{i.v4(), i.v6()} }

// service is the address of the n-th Service: 1 is the API server's, 10 is DNS.
func (a addresses) service(n byte) netip.Addr {
	b := a.services.Addr().AsSlice()
	b[len(b)-1] = n
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// node is the address of the n-th node on the bridge, counted from 1.
func (a addresses) node(n int) netip.Addr {
	b := a.host.Addr().AsSlice()
	b[len(b)-1] = byte(10 + n)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// podsOf is the range from which the n-th node gives addresses to its pods.
func (a addresses) podsOf(n int) netip.Prefix {
	b := a.pods.Addr().AsSlice()
	if a.v6 {
		b[7] = byte(n)
	} else {
		b[2] = byte(n)
	}
	addr, _ := netip.AddrFromSlice(b)
	if a.v6 {
		return netip.PrefixFrom(addr, 64)
	}
	return netip.PrefixFrom(addr, 24)
}

func nodeName(n int) string { return fmt.Sprintf("n%d", n) }
