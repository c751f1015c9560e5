//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is a thread's epoll. Load and origin are one thread each: raw system calls, no goroutine
// is woken, so that they are not what is measured.
type poller struct {
	fd     int
	events [512]unix.EpollEvent
}

// dedicate makes this goroutine's thread one that does nothing else.
func dedicate() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // what is allocated is bounded by a run of seconds
	debug.SetMemoryLimit(2 << 30)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // a constant rate wants exact times
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{fd: fd}, err
}

func (p *poller) add(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (p *poller) want(fd int, out bool) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if out {
		ev.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &ev)
}

// wait returns what is ready, after at most d; negative waits for ever.
func (p *poller) wait(d time.Duration) []unix.EpollEvent {
	var ts *unix.Timespec
	if d >= 0 {
		t := unix.NsecToTimespec(int64(d))
		ts = &t
	}
	var n uintptr
	var errno unix.Errno
	if d == 0 {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(unsafe.Pointer(ts)), 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(unsafe.Pointer(ts)), 0, 0)
	}
	if errno != 0 {
		return nil
	}
	return p.events[:n]
}

// stream is a socket with its output, and what of its input was not whole yet.
type stream struct {
	fd       int
	poll     *poller
	in, out  []byte
	blocked  bool
	failed   error
	received int
}

// read appends what is there to what was left, in buf, and returns it.
func (s *stream) read(buf []byte) []byte {
	off := copy(buf, s.in)
	s.in = s.in[:0]
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(&buf[off])), uintptr(len(buf)-off))
	switch {
	case errno == unix.EAGAIN:
		return buf[:off]
	case errno != 0:
		s.failed = fmt.Errorf("read: %w", errno)
	case n == 0:
		s.failed = errors.New("the connection was closed")
	default:
		s.received += int(n)
		return buf[:off+int(n)]
	}
	return nil
}

// keep puts aside what is not whole yet.
func (s *stream) keep(rest []byte) { s.in = append(s.in[:0], rest...) }

// flush writes what it can.
func (s *stream) flush() {
	if len(s.out) == 0 || s.failed != nil {
		return
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(&s.out[0])), uintptr(len(s.out)))
	if errno == unix.EAGAIN {
		n = 0
	} else if errno != 0 {
		s.failed = fmt.Errorf("write: %w", errno)
		return
	}
	s.out = s.out[:copy(s.out, s.out[n:])]
	if blocked := len(s.out) > 0; blocked != s.blocked {
		s.blocked = blocked
		s.failed = s.poll.want(s.fd, blocked)
	}
}

func sockaddr(addr string) (*unix.SockaddrInet4, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

func dial(addr string) (int, error) {
	sa, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(unix.Connect(fd, sa), unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("dial %s: %w", addr, err)
	}
	return fd, nil
}

func listen(addr string) (int, error) {
	sa, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, sa), unix.Listen(fd, 4096)); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return fd, nil
}
