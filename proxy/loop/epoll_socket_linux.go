package loop

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// source is what an Epoll knows about a descriptor.
type source struct {
	poller     *Epoll // nil until attached
	token      Token
	err        error // the errno that ended the connection; stays
	fd         int32
	generation uint32
	want       uint32 // EPOLLIN, EPOLLOUT
	have       uint32 // what the kernel knows, while inSet
	inSet      bool
	changed    bool // listed in poller.changed
	listener   bool
	starved    bool // a listener at rest
	closed     bool
}

// change lists s for the next wait.
func (s *source) change() {
	if s.changed || s.poller == nil {
		return
	}
	s.changed = true
	s.poller.changed = append(s.poller.changed, s)
}

func (s *source) interest() uint32 {
	if s.starved {
		return 0
	}
	return s.want
}

func (s *source) apply() syscall.Errno {
	want := s.interest()
	switch {
	case s.closed, s.inSet && s.have == want:
		return 0
	case s.inSet:
		s.have = want
		return s.control(unix.EPOLL_CTL_MOD, want)
	case want == 0 && s.err != nil:
		return 0 // it has been reported; a reset needs no place in the set
	case want == 0 && s.have == unix.EPOLLHUP:
		return 0 // likewise
	}
	errno := s.control(unix.EPOLL_CTL_ADD, want)
	s.inSet, s.have = errno == 0, want
	return errno
}

func (s *source) control(op int, events uint32) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: s.fd, Pad: int32(s.generation)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.poller.fd), uintptr(op), uintptr(s.fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// ready translates the kernel's bits. It takes a socket that is closed both
// ways or reset out of the set when nothing is to be read from it, since the
// kernel would report it for ever.
func (s *source) ready(bits uint32) Ready {
	const over = unix.EPOLLHUP | unix.EPOLLERR
	if s.listener {
		return Ready{Token: s.token, In: true}
	}
	if bits&unix.EPOLLERR != 0 && s.err == nil {
		if errno := socketError(int(s.fd)); errno != 0 {
			s.err = errno
		}
	}
	r := Ready{
		Token: s.token,
		In:    s.want&unix.EPOLLIN != 0 && bits&(unix.EPOLLIN|over) != 0,
		Out:   s.want&unix.EPOLLOUT != 0 && bits&(unix.EPOLLOUT|over) != 0,
		Err:   s.err != nil,
		Hup:   bits&unix.EPOLLHUP != 0 && s.err == nil,
	}
	if bits&over != 0 && !r.In && s.inSet {
		_ = s.control(unix.EPOLL_CTL_DEL, 0) // it is in the set
		s.inSet, s.have = false, unix.EPOLLHUP
	}
	return r
}

func (s *source) close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.poller != nil {
		s.poller.sources[s.fd] = nil
	}
	// The descriptor is gone whatever close answers (close(2)).
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(s.fd), 0, 0)
}

type epollSocket struct {
	source
	connecting bool
}

// Read implements Socket.
func (s *epollSocket) Read(p []byte) (int, error) {
	if s.closed {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, errno := read(int(s.fd), p)
	switch {
	case n > 0:
		return n, nil
	case s.err != nil: // everything before the reset has been read
		return 0, s.err
	case errno == 0:
		return 0, io.EOF
	case errno == unix.EAGAIN:
		return 0, ErrAgain
	}
	s.err = errno
	return 0, errno
}

// Write implements Socket.
func (s *epollSocket) Write(p []byte) (int, error) {
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case s.err != nil:
		return 0, s.err
	case len(p) == 0:
		return 0, nil
	}
	n, errno := write(int(s.fd), p)
	switch errno {
	case 0:
		return n, nil
	case unix.EAGAIN:
		return 0, ErrAgain
	}
	s.err = errno
	return 0, errno
}

// Want implements Socket.
func (s *epollSocket) Want(in, out bool) {
	var want uint32
	if in {
		want |= unix.EPOLLIN
	}
	if out {
		want |= unix.EPOLLOUT
	}
	if s.closed || want == s.want && (s.inSet || want == 0) {
		return
	}
	s.want = want
	s.change()
}

// CloseWrite implements Socket.
func (s *epollSocket) CloseWrite() error {
	if s.closed {
		return net.ErrClosed
	}
	if err := unix.Shutdown(int(s.fd), unix.SHUT_WR); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

// Close implements Socket.
func (s *epollSocket) Close(reset bool) {
	if s.closed {
		return
	}
	if reset {
		// Fails only for a socket that is not connected, which needs no RST.
		_ = unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	s.close()
}

// ConnectError implements Connecting.
func (s *epollSocket) ConnectError() error {
	if s.err != nil || !s.connecting {
		return s.err
	}
	if errno := socketError(int(s.fd)); errno != 0 {
		s.err = errno
		return s.err
	}
	if _, err := unix.Getpeername(int(s.fd)); err != nil {
		return ErrAgain
	}
	s.connecting = false
	return nil
}

// Addrs implements Addresser.
func (s *epollSocket) Addrs() (local, remote netip.AddrPort) {
	sa, err := unix.Getpeername(int(s.fd))
	if s.closed || err != nil {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	local, err = localAddr(int(s.fd))
	if err != nil {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	return local, addrPort(sa)
}

// SetUserTimeout implements UserTimeouter.
func (s *epollSocket) SetUserTimeout(d time.Duration) error { return setUserTimeout(int(s.fd), d) }

// Dial implements Poller.
func (e *Epoll) Dial(addr netip.AddrPort, opts DialOptions, t Token) (Socket, error) {
	addr = unmap(addr)
	fd, err := unix.Socket(family(addr), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := prepare(fd, opts.UserTimeout); err != nil {
		unix.Close(fd)
		return nil, err
	}
	err = unix.Connect(fd, sockaddr(addr))
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		unix.Close(fd)
		return nil, fmt.Errorf("connect %s: %w", addr, err)
	}
	s := &epollSocket{source: source{fd: int32(fd)}, connecting: true}
	e.register(&s.source, t, unix.EPOLLOUT)
	return s, nil
}

type epollListener struct {
	source
	addr netip.AddrPort
	opts ListenOptions
}

// Listen implements Poller.
func (e *Epoll) Listen(addr netip.AddrPort, opts ListenOptions, t Token) (Listener, error) {
	fd, err := listen(unmap(addr), opts)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, err)
	}
	bound, err := localAddr(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen %s: %w", addr, err)
	}
	l := &epollListener{source: source{fd: int32(fd), listener: true}, addr: bound, opts: opts}
	e.register(&l.source, t, unix.EPOLLIN)
	return l, nil
}

// Accept implements Listener.
func (l *epollListener) Accept() (Socket, Accepted, error) {
	for !l.closed {
		fd, sa, err := unix.Accept4(int(l.fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return l.accepted(fd, sa)
		case unix.EAGAIN:
			return nil, Accepted{}, ErrAgain
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.poller.starve(&l.source)
			return nil, Accepted{}, fmt.Errorf("accept on %s: %w", l.addr, err)
		case unix.EBADF, unix.EINVAL, unix.EFAULT, unix.ENOTSOCK:
			panic(fmt.Sprintf("BUG: accept on %s: %v", l.addr, err))
		}
		// The rest concerns a connection that is gone already (accept(2)): next.
	}
	return nil, Accepted{}, net.ErrClosed
}

func (l *epollListener) accepted(fd int, sa unix.Sockaddr) (Socket, Accepted, error) {
	local, err := localAddr(fd)
	if err != nil {
		unix.Close(fd)
		return nil, Accepted{}, fmt.Errorf("accept on %s: %w", l.addr, err)
	}
	a := Accepted{Remote: addrPort(sa), Local: local}
	if l.opts.OriginalDst {
		a.OriginalDst = originalDst(fd, local)
	}
	return &epollSocket{source: source{fd: int32(fd)}}, a, nil
}

// Addr implements Listener.
func (l *epollListener) Addr() netip.AddrPort { return l.addr }

// Pause implements Listener.
func (l *epollListener) Pause() { l.set(0) }

// Resume implements Listener.
func (l *epollListener) Resume() { l.set(unix.EPOLLIN) }

func (l *epollListener) set(want uint32) {
	if l.want != want {
		l.want = want
		l.change()
	}
}

// Close implements Listener.
func (l *epollListener) Close() error {
	l.close()
	return nil
}
