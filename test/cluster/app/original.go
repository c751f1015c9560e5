package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// original accepts connections, writes to each where it was going before a redirect, and closes it.
func original(ctx context.Context, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	log.Printf("listening on %s", address)
	for {
		c, err := l.Accept()
		if err != nil {
			return closed(err)
		}
		destination, err := originalOf(c.(*net.TCPConn))
		if err != nil {
			log.Print(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		// What the client speaks is HTTP, so that anything can ask.
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s\n", destination)
		c.Close()
	}
}

// originalOf asks the kernel's connection tracking (SO_ORIGINAL_DST, and its namesake for IPv6).
func originalOf(c *net.TCPConn) (to netip.AddrPort, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return to, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	controlErr := raw.Control(func(fd uintptr) {
		if local.Unmap().Is4() {
			to, err = original4(fd)
		} else {
			to, err = original6(fd)
		}
	})
	if controlErr != nil {
		return to, controlErr
	}
	return to, err
}

const originalDst = 80 // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, linux/netfilter_ipv4.h and _ipv6

func original4(fd uintptr) (netip.AddrPort, error) {
	var a unix.RawSockaddrInet4
	err := getsockopt(fd, unix.SOL_IP, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), hostOrder(a.Port)), err
}

func original6(fd uintptr) (netip.AddrPort, error) {
	var a unix.RawSockaddrInet6
	err := getsockopt(fd, unix.SOL_IPV6, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), hostOrder(a.Port)), err
}

func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}

func getsockopt(fd uintptr, level int, to unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), originalDst, uintptr(to), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return fmt.Errorf("SO_ORIGINAL_DST: %w", errno)
	}
	return nil
}
