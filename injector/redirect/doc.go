// Package redirect writes the redirect of a pod's own network (rule R13.3) with nftables, through netlink:
// no program of nftables or iptables is needed. tulle-init is its main. (The page on architecture calls the
// place injector/init; Go imports no package of that name.)
//
// Everything is in one table of its own, which is replaced as a whole: running twice is running once.
package redirect

import (
	"net/netip"

	"github.com/tulle-mesh/tulle/injector/skip"
)

// Table is the table's name, of the family inet.
const Table = "tulle"

// Config of a redirect. It is immutable once passed.
type Config struct {
	// Inbound and Outbound are the ports that connections from the network and from the application are
	// redirected to. Required.
	Inbound, Outbound uint16
	// ProxyUID is the user whose own connections are not redirected. Required.
	ProxyUID uint32
	// ProxyPorts are the proxy's other ports, which are reached directly.
	ProxyPorts []uint16
	// SkipInbound and SkipOutbound are ports that go round the proxy.
	SkipInbound, SkipOutbound []skip.PortRange
	// SkipSubnets go round it as sources inbound and as destinations outbound.
	SkipSubnets []netip.Prefix
}

// Checked is what Prove found.
type Checked struct {
	// Dialled are the families of which a connection was dialled and came out where the proxy's would.
	Dialled []string
	// NotDialled says why a family was not dialled: there is no route, everything is skipped.
	NotDialled []string
}
