package redirect

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/injector/skip"
)

// rule is one line of a chain. It stands for TCP alone: every other protocol passes by.
type rule struct {
	comment string
	match   []expr.Any
	// to is the port that connections are redirected to; 0: they are let go as they are.
	to uint16
}

// chain is one chain with a hook of its own.
type chain struct {
	name  string
	hook  *nftables.ChainHook
	rules []rule
}

// register is where matches put what they compare.
const register = 1

// plan is the table's content. The first rule that matches decides.
func plan(cfg Config) []chain {
	// What the pod sends to itself comes in over loopback and does not meet this chain: connection tracking
	// knows it from the way out, and a connection's destination is translated once.
	var in []rule
	for _, p := range cfg.ProxyPorts {
		in = append(in, rule{"the proxy's own port", port(skip.PortRange{From: p, To: p}), 0})
	}
	out := []rule{
		{"the proxy's own connections", meta(expr.MetaKeySKUID, binaryutil.NativeEndian.PutUint32(cfg.ProxyUID)), 0},
		{"loopback", meta(expr.MetaKeyOIFNAME, ifname("lo")), 0},
	}
	for _, r := range cfg.SkipInbound {
		in = append(in, rule{"skip-inbound-ports", port(r), 0})
	}
	for _, r := range cfg.SkipOutbound {
		out = append(out, rule{"skip-outbound-ports", port(r), 0})
	}
	for _, n := range cfg.SkipSubnets {
		in = append(in, rule{"skip-subnets", subnet(n, true), 0})
		out = append(out, rule{"skip-subnets", subnet(n, false), 0})
	}
	in = append(in, rule{"inbound", nil, cfg.Inbound})
	out = append(out, rule{"outbound", nil, cfg.Outbound})
	return []chain{{"prerouting", nftables.ChainHookPrerouting, in}, {"output", nftables.ChainHookOutput, out}}
}

// exprs is the rule as the kernel wants it.
func (r *rule) exprs() []expr.Any {
	all := append(meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP}), r.match...)
	if r.to != 0 {
		all = append(all, begins()...)
	}
	all = append(all, &expr.Counter{})
	if r.to == 0 {
		return append(all, &expr.Verdict{Kind: expr.VerdictAccept})
	}
	return append(all,
		&expr.Immediate{Register: register, Data: binary.BigEndian.AppendUint16(nil, r.to)},
		&expr.Redir{RegisterProtoMin: register, RegisterProtoMax: register})
}

// write puts the plan into the connection's batch, in place of what the table held.
func write(c *nftables.Conn, chains []chain) {
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	remove(c)
	t = c.AddTable(t)
	for _, ch := range chains {
		made := c.AddChain(&nftables.Chain{
			Name: ch.name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: ch.hook, Priority: nftables.ChainPriorityNATDest,
		})
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{
				Table: t, Chain: made, Exprs: r.exprs(),
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment),
			})
		}
	}
}

// remove takes the table away, whether it is there or not.
func remove(c *nftables.Conn) {
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	c.AddTable(t) // deleting what is not there would fail
	c.DelTable(t)
}

func meta(key expr.MetaKey, data []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data},
	}
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// port matches the destination port, the third and fourth byte of a TCP header.
func port(r skip.PortRange) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{
			Op: expr.CmpOpEq, Register: register,
			FromData: binary.BigEndian.AppendUint16(nil, r.From), ToData: binary.BigEndian.AppendUint16(nil, r.To),
		},
	}
}

// begins matches a connection's first packet: SYN without ACK, FIN or RST (RFC 9293, 3.1). The proxy asks for
// its certificate before the redirect stands. Connection tracking takes the next packet of such a connection for
// a new one's first, and if it comes from the network the connection would be redirected, and reset.
func begins() []expr.Any {
	const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{syn}},
	}
}

// subnet matches the source or the destination address (RFC 791, RFC 8200: where each is in the header).
func subnet(n netip.Prefix, source bool) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	switch {
	case n.Addr().Is6() && source:
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	case n.Addr().Is6():
		family, offset, size = unix.NFPROTO_IPV6, 24, 16
	case source:
		offset = 12
	}
	mask := make([]byte, size)
	for i := range n.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return append(meta(expr.MetaKeyNFPROTO, []byte{family}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: n.Addr().AsSlice()})
}
