package redirect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// world is a pod's network namespace and that of its peer, which is the rest of the world to it.
type world struct {
	t         *testing.T
	pod, peer netns.NsHandle
}

// Addresses of the two.
var (
	podIPs  = []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")}
	peerIPs = []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")}
)

// newWorld connects two namespaces, or skips the test with the reason.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	w := &world{t: t}
	for _, ns := range []*netns.NsHandle{&w.pod, &w.peer} {
		var err error
		onThread(func() { *ns, err = netns.New() })
		if err != nil {
			t.Skip("no network namespaces here: ", err)
		}
		t.Cleanup(func() { ns.Close() })
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pod, err := netlink.NewHandleAt(w.pod)
	must(err)
	defer pod.Close()
	peer, err := netlink.NewHandleAt(w.peer)
	must(err)
	defer peer.Close()
	must(pod.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "veth0"}))
	other, err := pod.LinkByName("veth0")
	must(err)
	must(pod.LinkSetNsFd(other, int(w.peer)))
	for _, side := range []struct {
		h     *netlink.Handle
		name  string
		addrs []netip.Addr
	}{{pod, "eth0", podIPs}, {peer, "veth0", peerIPs}} {
		for _, name := range []string{"lo", side.name} {
			link, err := side.h.LinkByName(name)
			must(err)
			must(side.h.LinkSetUp(link))
			if name == "lo" {
				continue
			}
			for _, a := range side.addrs {
				bits := map[bool]int{true: 24, false: 64}[a.Is4()]
				ip := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
				must(side.h.AddrAdd(link, &netlink.Addr{IPNet: ip, Flags: unix.IFA_F_NODAD}))
			}
		}
	}
	link, err := pod.LinkByName("eth0")
	must(err)
	for _, via := range peerIPs {
		must(pod.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: via.AsSlice()}))
	}
	return w
}

// onThread runs f on a thread that ends with it: what f does to its namespace stays there.
func onThread(f func()) {
	done := make(chan struct{})
	go func() { // ends with f, and its thread with it
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// in runs f in a namespace, as a user.
func (w *world) in(ns netns.NsHandle, uid int, f func()) {
	w.t.Helper()
	var err error
	onThread(func() {
		if err = netns.Set(ns); err != nil {
			return
		}
		if uid != 0 { // of this thread alone: it is what a socket's owner is taken from
			unix.SetfsuidRetUid(uid)
		}
		f()
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// do runs f in a namespace and wants no error.
func (w *world) do(ns netns.NsHandle, f func() error) {
	w.t.Helper()
	var err error
	w.in(ns, 0, func() { err = f() })
	if err != nil {
		w.t.Fatal(err)
	}
}

// listen accepts at a port of a namespace and tells on the channel where each connection came out and
// where it was going.
func (w *world) listen(ns netns.NsHandle, ports ...uint16) <-chan arrival {
	w.t.Helper()
	got := make(chan arrival, 16)
	for _, port := range ports {
		w.do(ns, func() error {
			l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)})
			if err != nil {
				return err
			}
			w.t.Cleanup(func() { l.Close() })
			go func() { // ends with l
				for {
					c, err := l.AcceptTCP()
					if err != nil {
						return
					}
					dst, err := originalDst(c)
					got <- arrival{port: port, dst: dst, err: err, from: c.RemoteAddr().String()}
					c.Close()
				}
			}()
			return nil
		})
	}
	return got
}

type arrival struct {
	port uint16
	dst  netip.AddrPort
	err  error
	from string
}

// dial dials from a namespace as a user and returns where the connection came out.
func (w *world) dial(ns netns.NsHandle, uid int, to netip.AddrPort, arrivals <-chan arrival) (arrival, error) {
	w.t.Helper()
	var c net.Conn
	var err error
	w.in(ns, uid, func() { c, err = (&net.Dialer{}).DialContext(context.WithoutCancel(w.t.Context()), "tcp", to.String()) })
	if err != nil {
		return arrival{}, err
	}
	defer c.Close()
	a := <-arrivals
	if a.from != c.LocalAddr().String() {
		return a, errors.New("another connection came out")
	}
	return a, nil
}
