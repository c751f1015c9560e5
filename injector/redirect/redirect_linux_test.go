package redirect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/injector/skip"
)

const proxyUser = 2102

func plain() Config {
	return Config{Inbound: 4143, Outbound: 4140, ProxyUID: proxyUser, ProxyPorts: []uint16{4190, 4191}}
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// TestConnectionsComeToTheProxy: both directions, both families, and the proxy can know where they were going.
func TestConnectionsComeToTheProxy(t *testing.T) { // R13.3, R1.2
	w := newWorld(t)
	w.do(w.pod, func() error { return Apply(plain()) })
	proxy := w.listen(w.pod, 4143, 4140)
	for i := range podIPs {
		in := at(podIPs[i], 8080)
		if a, err := w.dial(w.peer, 0, in, proxy); err != nil || a.port != 4143 || a.dst != in || a.err != nil {
			t.Errorf("inbound to %s: %+v, %v", in, a, err)
		}
		out := at(peerIPs[i], 80)
		if a, err := w.dial(w.pod, 0, out, proxy); err != nil || a.port != 4140 || a.dst != out || a.err != nil {
			t.Errorf("outbound to %s: %+v, %v", out, a, err)
		}
		if a, err := w.dial(w.pod, 1000, out, proxy); err != nil || a.port != 4140 || a.dst != out || a.err != nil {
			t.Errorf("outbound to %s as a user: %+v, %v", out, a, err)
		}
		far := at(families[i].addr, 443)
		if a, err := w.dial(w.pod, 0, far, proxy); err != nil || a.port != 4140 || a.dst != far {
			t.Errorf("far away to %s: %+v, %v", far, a, err)
		}
	}
}

// TestWhatIsExemptGoesRoundTheProxy: the proxy's ports and own connections, loopback, and what is skipped.
func TestWhatIsExemptGoesRoundTheProxy(t *testing.T) { // R13.3
	w := newWorld(t)
	cfg := plain()
	cfg.SkipInbound = []skip.PortRange{{From: 22, To: 22}, {From: 9000, To: 9010}}
	cfg.SkipOutbound = []skip.PortRange{{From: 3306, To: 3306}, {From: 7000, To: 7002}}
	w.do(w.pod, func() error { return Apply(cfg) })
	pod := w.listen(w.pod, 4143, 4140, 4190, 4191, 22, 9000, 9010, 9011, 8080)
	peer := w.listen(w.peer, 3306, 7002, 80)
	lo := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	for i := range podIPs {
		for _, port := range []uint16{4190, 4191, 22, 9000, 9010} {
			if a, err := w.dial(w.peer, 0, at(podIPs[i], port), pod); err != nil || a.port != port {
				t.Errorf("inbound %s: %+v, %v", at(podIPs[i], port), a, err)
			}
		}
		if a, err := w.dial(w.peer, 0, at(podIPs[i], 9011), pod); err != nil || a.port != 4143 {
			t.Errorf("beside a range: %+v, %v", a, err)
		}
		for _, port := range []uint16{3306, 7002} {
			if a, err := w.dial(w.pod, 0, at(peerIPs[i], port), peer); err != nil || a.port != port {
				t.Errorf("outbound %s: %+v, %v", at(peerIPs[i], port), a, err)
			}
		}
		if a, err := w.dial(w.pod, proxyUser, at(peerIPs[i], 80), peer); err != nil || a.port != 80 {
			t.Errorf("the proxy's own: %+v, %v", a, err)
		}
		for _, own := range []netip.Addr{lo[i], podIPs[i]} {
			if a, err := w.dial(w.pod, 0, at(own, 8080), pod); err != nil || a.port != 8080 {
				t.Errorf("to the pod itself at %s: %+v, %v", own, a, err)
			}
		}
	}
}

func TestSkippedSubnetsGoRoundTheProxyBothWays(t *testing.T) { // R13.3
	w := newWorld(t)
	cfg := plain()
	cfg.SkipSubnets = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/31"), netip.MustParsePrefix("fd09::/127")}
	w.do(w.pod, func() error { return Apply(cfg) })
	pod, peer := w.listen(w.pod, 4143, 4140, 8080), w.listen(w.peer, 80)
	for i := range podIPs {
		if a, err := w.dial(w.peer, 0, at(podIPs[i], 8080), pod); err != nil || a.port != 8080 {
			t.Errorf("inbound: %+v, %v", a, err)
		}
		if a, err := w.dial(w.pod, 0, at(peerIPs[i], 80), peer); err != nil || a.port != 80 {
			t.Errorf("outbound: %+v, %v", a, err)
		}
		far := at(families[i].addr, 80)
		if a, err := w.dial(w.pod, 0, far, pod); err != nil || a.port != 4140 {
			t.Errorf("another network: %+v, %v", a, err)
		}
	}
}

// TestAConnectionFromBeforeTheRedirectGoesOn: the proxy has asked for its certificate before tulle-init runs.
func TestAConnectionFromBeforeTheRedirectGoesOn(t *testing.T) { // R13.3
	w := newWorld(t)
	w.listen(w.pod, 4143, 4140)
	for i := range podIPs {
		server, client := w.connection(at(peerIPs[i], 80))
		w.do(w.pod, func() error { return Apply(plain()) })
		if _, err := io.WriteString(server, "news"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "news" {
			t.Errorf("from %s the proxy hears %q, %v", peerIPs[i], got, err)
		}
		w.do(w.pod, Remove)
	}
}

// connection is one that the proxy dials, both its ends.
func (w *world) connection(to netip.AddrPort) (server, client net.Conn) {
	w.t.Helper()
	var l net.Listener
	w.do(w.peer, func() (err error) {
		l, err = net.Listen("tcp", to.String())
		return err
	})
	defer l.Close()
	var err error
	w.in(w.pod, proxyUser, func() { client, err = net.Dial("tcp", to.String()) })
	if err == nil {
		server, err = l.Accept()
	}
	if err == nil {
		err = client.SetDeadline(time.Now().Add(10 * time.Second))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// TestTwiceIsOnce: another run replaces what the first one wrote.
func TestTwiceIsOnce(t *testing.T) { // R13.3
	w := newWorld(t)
	first := plain()
	first.SkipInbound = []skip.PortRange{{From: 22, To: 22}}
	for _, cfg := range []Config{first, plain(), plain()} {
		w.do(w.pod, func() error { return Apply(cfg) })
	}
	if n := w.rules(); n != len(plan(plain())[0].rules)+len(plan(plain())[1].rules) {
		t.Errorf("%d rules after three runs", n)
	}
	proxy := w.listen(w.pod, 4143, 22)
	if a, err := w.dial(w.peer, 0, at(podIPs[0], 22), proxy); err != nil || a.port != 4143 {
		t.Errorf("the first run's exemption is still there: %+v, %v", a, err)
	}
}

func TestRemoveLeavesNothing(t *testing.T) { // R13.3
	w := newWorld(t)
	w.do(w.pod, Remove)
	w.do(w.pod, func() error { return Apply(plain()) })
	w.do(w.pod, Remove)
	if n := w.rules(); n != 0 {
		t.Errorf("%d rules are left", n)
	}
	app := w.listen(w.pod, 8080)
	if a, err := w.dial(w.peer, 0, at(podIPs[0], 8080), app); err != nil || a.port != 8080 {
		t.Errorf("%+v, %v", a, err)
	}
}

// rules counts what is in all chains of the pod.
func (w *world) rules() (n int) {
	w.t.Helper()
	w.do(w.pod, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := c.ListChains()
		if err != nil {
			return err
		}
		for _, ch := range chains {
			rules, err := c.GetRules(ch.Table, ch)
			if err != nil {
				return err
			}
			n += len(rules)
		}
		return nil
	})
	return n
}

func TestUDPPassesBy(t *testing.T) {
	w := newWorld(t)
	w.do(w.pod, func() error { return Apply(plain()) })
	var server net.PacketConn
	w.do(w.pod, func() (err error) { server, err = net.ListenPacket("udp", "10.9.0.2:53"); return })
	defer server.Close()
	w.do(w.peer, func() error {
		c, err := net.Dial("udp", "10.9.0.2:53")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("query"))
		return err
	})
	buf := make([]byte, 16)
	if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "query" {
		t.Errorf("%q %v", buf[:n], err)
	}
}

// prove runs Prove in the pod.
func (w *world) prove(cfg Config) (found Checked, err error) {
	w.t.Helper()
	w.in(w.pod, 0, func() { found, err = Prove(w.t.Context(), cfg) })
	return found, err
}

func TestProveDialsThroughTheRedirect(t *testing.T) { // R13.3
	w := newWorld(t)
	w.listen(w.pod, 4143, 4140) // the proxy, which runs already
	found, err := w.prove(plain())
	if err != nil || strings.Join(found.Dialled, " ") != "IPv4 IPv6" || found.NotDialled != nil {
		t.Errorf("%+v, %v", found, err)
	}
	w.do(w.pod, Remove)
	cfg := plain()
	cfg.SkipSubnets = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	cfg.SkipOutbound = []skip.PortRange{{From: 9, To: 65535}, {From: 1, To: 8}}
	found, err = w.prove(cfg)
	if err != nil || strings.Join(found.NotDialled, "; ") != "IPv4: skip-subnets has 0.0.0.0/0; IPv6: skip-outbound-ports has every port" {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestAProofThatFailedIsTriedAgain: the kubelet runs a failed init container again.
func TestAProofThatFailedIsTriedAgain(t *testing.T) { // R13.3
	w := newWorld(t)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	w.in(w.pod, 0, func() {
		if _, err := Prove(stopped, plain()); err == nil {
			t.Error("a proof that could not be made")
		}
	})
	if n := w.rules(); n != 0 {
		t.Errorf("%d rules are left", n)
	}
}

// TestProveLeavesARunningPodAlone: the init containers of a pod may be run again beside its application, none
// of whose connections may go anywhere but to the proxy.
func TestProveLeavesARunningPodAlone(t *testing.T) { // R13.3
	w := newWorld(t)
	w.do(w.pod, func() error { return Apply(plain()) })
	found, err := w.prove(plain())
	if err != nil || strings.Join(found.NotDialled, "; ") != "the redirect stands already" || found.Dialled != nil {
		t.Errorf("%+v, %v", found, err)
	}
	proxy, out := w.listen(w.pod, 4140), at(peerIPs[0], 80)
	if a, err := w.dial(w.pod, 0, out, proxy); err != nil || a.port != 4140 || a.dst != out {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestCheckFindsWhatIsBroken: the address that is dialled has somebody who refuses; the redirect is gone,
// or goes elsewhere.
func TestCheckFindsWhatIsBroken(t *testing.T) { // R13.3
	w := newWorld(t)
	w.do(w.peer, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(32, 32)}})
	})
	checked := func() (err error) {
		w.in(w.pod, 0, func() {
			var l net.Listener
			if l, err = net.Listen("tcp", ":4140"); err == nil {
				_, err = check(t.Context(), plain(), l)
			}
		})
		return err
	}
	if err := checked(); !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), "IPv4: dial 192.0.2.1:9 through the redirect") {
		t.Errorf("without a redirect: %v", err)
	}
	other := plain()
	other.Outbound = 4999
	w.do(w.pod, func() error { return Apply(other) })
	if err := checked(); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("with a redirect elsewhere: %v", err)
	}
}

func TestWithoutARouteAFamilyIsNotDialled(t *testing.T) {
	w := newWorld(t)
	w.do(w.pod, func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
		for i := range routes {
			if routes[i].Dst == nil || routes[i].Dst.IP.IsUnspecified() {
				err = errors.Join(err, netlink.RouteDel(&routes[i]))
			}
		}
		return err
	})
	found, err := w.prove(plain())
	if err != nil || strings.Join(found.Dialled, " ") != "IPv4" || strings.Join(found.NotDialled, " ") != "IPv6: there is no route" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestAMissingModuleIsNamed(t *testing.T) { // R13.3
	all := stages()
	for i, want := range []string{"nf_tables", "nft_chain_nat", "nft_redir"} {
		n := 0
		err := explain(unix.ENOENT, func(func(*nftables.Conn)) error {
			n++
			if n <= i {
				return nil
			}
			return unix.EOPNOTSUPP
		})
		if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "lacks the module "+want) || len(all) != 3 {
			t.Errorf("stage %d: %v", i, err)
		}
	}
	if err := explain(unix.EPERM, nil); !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Error(err)
	}
	if err := explain(unix.ENOBUFS, func(func(*nftables.Conn)) error { return nil }); err.Error() != unix.ENOBUFS.Error() {
		t.Error(err)
	}
}

// TestEveryStageWorksHere: what explain tries is what a kernel that has everything accepts, and leaves nothing.
func TestEveryStageWorksHere(t *testing.T) {
	w := newWorld(t)
	for _, s := range stages() {
		w.do(w.pod, func() error { return commit(s.build) })
	}
	if n := w.rules(); n != 0 {
		t.Errorf("%d rules are left", n)
	}
}

func TestWhatIsRequired(t *testing.T) {
	for _, cfg := range []Config{{}, {Inbound: 1, Outbound: 2}, {Inbound: 1, ProxyUID: 3}, {Outbound: 2, ProxyUID: 3}} {
		if err := Apply(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
