package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/injector/skip"
)

// checkTime is how long a connection to oneself may take, on a busy node.
const checkTime = 5 * time.Second

// families are addresses that nobody has (RFC 5737, RFC 3849), which a redirect answers all the same.
var families = []struct {
	name string
	addr netip.Addr
}{
	{"IPv4", netip.MustParseAddr("192.0.2.1")},
	{"IPv6", netip.MustParseAddr("2001:db8::1")},
}

// Prove writes the redirect with a port of its own in place of the proxy's, which may be in use, listens
// there and dials somewhere else as an application would (R13.3). The way in cannot be dialled from within:
// Apply has read it back. Apply takes its place afterwards. Where a redirect stands already, because the init
// containers of a pod were run again, connections of the application would be lost: nothing is dialled.
func Prove(ctx context.Context, cfg Config) (Checked, error) {
	standing, err := stands()
	if err != nil || standing {
		return Checked{NotDialled: []string{"the redirect stands already"}}, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":0")
	if err != nil {
		return Checked{}, fmt.Errorf("listen in the proxy's place: %w", err)
	}
	cfg.Outbound = netip.MustParseAddrPort(l.Addr().String()).Port()
	if err := Apply(cfg); err != nil {
		l.Close()
		return Checked{}, err
	}
	found, err := check(ctx, cfg, l)
	if err != nil { // else the next try would find a redirect
		return found, errors.Join(err, Remove())
	}
	return found, nil
}

// check dials through the redirect that stands and wants the connections at l, which it closes.
func check(ctx context.Context, cfg Config, l net.Listener) (found Checked, err error) {
	defer l.Close()
	for _, f := range families {
		to, why := dialable(cfg, f.addr)
		if why == "" {
			why, err = through(ctx, l.(*net.TCPListener), to)
		}
		switch {
		case err != nil:
			return found, fmt.Errorf("%s: %w", f.name, err)
		case why != "":
			found.NotDialled = append(found.NotDialled, f.name+": "+why)
		default:
			found.Dialled = append(found.Dialled, f.name)
		}
	}
	return found, nil
}

// dialable finds a destination that is not exempt.
func dialable(cfg Config, addr netip.Addr) (netip.AddrPort, string) {
	for _, n := range cfg.SkipSubnets {
		if n.Contains(addr) {
			return netip.AddrPort{}, "skip-subnets has " + n.String()
		}
	}
	for p := uint16(9); p != 0; p++ {
		if !isSkipped(cfg.SkipOutbound, p) {
			return netip.AddrPortFrom(addr, p), ""
		}
	}
	return netip.AddrPort{}, "skip-outbound-ports has every port"
}

func isSkipped(all []skip.PortRange, p uint16) bool {
	for _, r := range all {
		if r.Contains(p) {
			return true
		}
	}
	return false
}

// through dials to and wants the connection at l, which must know where it was going.
func through(ctx context.Context, l *net.TCPListener, to netip.AddrPort) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
		return "there is no route", nil
	case err != nil:
		return "", fmt.Errorf("dial %s through the redirect: %w: it does not come to the proxy's port", to, err)
	}
	defer drop(c)
	if err := l.SetDeadline(time.Now().Add(checkTime)); err != nil {
		return "", fmt.Errorf("accept: %w", err)
	}
	for {
		got, err := l.AcceptTCP()
		if err != nil {
			return "", fmt.Errorf("dialled %s, and somebody else answered than the proxy's port: %w", to, err)
		}
		mine := got.RemoteAddr().String() == c.LocalAddr().String()
		dst, derr := originalDst(got)
		drop(got)
		switch {
		case !mine:
		case derr != nil:
			return "", fmt.Errorf("SO_ORIGINAL_DST: %w: the kernel lacks connection tracking for it (nf_conntrack)", derr)
		case dst != to:
			return "", fmt.Errorf("dialled %s, and SO_ORIGINAL_DST says %s", to, dst)
		default:
			return "", nil
		}
	}
}

// drop closes without leaving a connection in TIME_WAIT at the proxy's port.
func drop(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // it is closed in any case
	}
	c.Close()
}

// originalDst asks netfilter where a redirected connection was going.
func originalDst(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("socket: %w", err)
	}
	const soOriginalDst = 80 // linux/netfilter_ipv4.h; the same for IPv6
	var sa unix.RawSockaddrInet6
	level, size := unix.SOL_IPV6, uint32(unix.SizeofSockaddrInet6)
	if netip.MustParseAddrPort(c.LocalAddr().String()).Addr().Unmap().Is4() {
		level, size = unix.SOL_IP, unix.SizeofSockaddrInet4
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		return netip.AddrPort{}, errors.Join(err, errno)
	}
	p := (*[2]byte)(unsafe.Pointer(&sa.Port))
	port := uint16(p[0])<<8 | uint16(p[1])
	if sa.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port), nil
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port), nil
}
