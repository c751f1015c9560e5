package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridge makes the host's end of the nodes' network.
func (i instance) makeBridge() error {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: i.bridge()}}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("bridge %s: %w", i.bridge(), err)
	}
	for _, a := range i.families() {
		if err := addAddr(&netlink.Handle{}, link, a.host); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// removeNetwork takes the bridge and what hangs on it away; their routes go with them.
func (i instance) removeNetwork(nodes int) error {
	var errs []error
	names := []string{i.bridge()}
	for n := 1; n <= nodes; n++ {
		names = append(names, i.veth(n))
	}
	for _, name := range names {
		errs = append(errs, removeLink(name))
	}
	return errors.Join(errs...)
}

// removeLink takes a device away that may be gone already.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return nil
	} else if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func (i instance) veth(n int) string { return i.bridge() + nodeName(n) }

// connect plugs the n-th node, whose first process is pid, into the bridge. A node that comes back has
// the same hardware address, so that no neighbour's cache sends to one that is gone.
func (i instance) connect(n, pid, nodes int) error {
	bridge, err := netlink.LinkByName(i.bridge())
	if err != nil {
		return err
	}
	// The device of a node that was killed lives until the kernel gets round to its namespace.
	if old, err := netlink.LinkByName(i.veth(n)); err == nil {
		_ = netlink.LinkDel(old) // it may go by itself meanwhile
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: i.veth(n), MasterIndex: bridge.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsPid(pid),
		PeerHardwareAddr: net.HardwareAddr{0x02, 0x74, 0, 0, byte(i), byte(n)},
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth %s: %w", i.veth(n), err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	inside, err := handleAt(pid)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s in node %s: %w", name, nodeName(n), err)
		}
		if name == "eth0" {
			for _, a := range i.families() {
				if err := addAddr(inside, link, netip.PrefixFrom(a.node(n), a.host.Bits())); err != nil {
					return err
				}
			}
		}
		if err := inside.LinkSetUp(link); err != nil {
			return err
		}
	}
	return i.routes(inside, n, nodes)
}

// disconnect takes a node's cable away.
func (i instance) disconnect(n int) error { return removeLink(i.veth(n)) }

func (i instance) routes(inside *netlink.Handle, n, nodes int) error {
	host := &netlink.Handle{}
	for _, a := range i.families() {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if a.v6 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := addRoute(inside, all, a.host.Addr()); err != nil {
			return err
		}
		for other := 1; other <= nodes; other++ {
			if other == n {
				continue
			}
			if err := addRoute(inside, a.podsOf(other), a.node(other)); err != nil {
				return err
			}
		}
		if err := addRoute(host, a.podsOf(n), a.node(n)); err != nil {
			return err
		}
		if n == 1 {
			if err := addRoute(host, a.services, a.node(1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// handleAt speaks netlink in the network namespace of a process.
func handleAt(pid int) (*netlink.Handle, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func addAddr(h *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := h.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("address %s: %w", p, err)
	}
	return nil
}

func addRoute(h *netlink.Handle, to netip.Prefix, via netip.Addr) error {
	if err := h.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("route to %s via %s: %w", to, via, err)
	}
	return nil
}
