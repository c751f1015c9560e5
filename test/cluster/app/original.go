package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"net"
	"net/http"
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
		go tell(c.(*net.TCPConn)) // ends by its deadline
	}
}

// tell answers in HTTP, so that anything can ask.
func tell(c *net.TCPConn) {
	defer c.Close()
	destination, err := originalOf(c)
	if err != nil {
		log.Print(err)
		return
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	// A client takes an answer that comes before its question for a mistake.
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		return
	}
	fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s\n", destination)
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
