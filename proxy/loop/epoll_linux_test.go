package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
)

var localhost = netip.MustParseAddrPort("127.0.0.1:0")

func mustEpoll(t testing.TB, cfg EpollConfig) *Epoll {
	t.Helper()
	e, err := newEpoll(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// waitFor waits until ok, for at most 5 s.
func waitFor(t testing.TB, p Poller, ok func(r []Ready) bool) {
	t.Helper()
	end := p.Now().Add(5 * time.Second)
	for !ok(p.Wait(nil, end)) {
		if p.Now() > end {
			t.Fatal("waited 5 s")
		}
	}
}

// conn returns a registered socket of e (token 2) and its peer.
func conn(t testing.TB, e *Epoll, opts ListenOptions) (*epollSocket, *net.TCPConn, Accepted) {
	t.Helper()
	l, err := e.Listen(localhost, opts, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	waitFor(t, e, func(r []Ready) bool { return len(r) > 0 })
	s, a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e.Attach(s, 2)
	return s.(*epollSocket), c.(*net.TCPConn), a
}

func TestEverySocketHasItsOptions(t *testing.T) { // R1.1
	e := mustEpoll(t, EpollConfig{})
	accepted, _, _ := conn(t, e, ListenOptions{UserTimeout: 30 * time.Second})
	l, err := e.Listen(localhost, ListenOptions{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Dial(l.Addr(), DialOptions{UserTimeout: 30 * time.Second}, 4)
	if err != nil {
		t.Fatal(err)
	}
	dialled := s.(*epollSocket)
	for name, fd := range map[string]int32{"accepted": accepted.fd, "dialled": dialled.fd} {
		for _, o := range []struct {
			name            string
			level, opt, val int
		}{
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 10},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30000},
		} {
			got, err := unix.GetsockoptInt(int(fd), o.level, o.opt)
			if err != nil || got != o.val && !(o.val == 1 && got != 0) {
				t.Errorf("%s: %s = %d, %v; want %d", name, o.name, got, err, o.val)
			}
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("%s: blocking (%v)", name, err)
		}
		flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: inherited by children (%v)", name, err)
		}
	}
	if err := dialled.SetUserTimeout(5 * time.Second); err != nil {
		t.Error(err)
	}
	if got, err := unix.GetsockoptInt(int(dialled.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != 5000 {
		t.Errorf("TCP_USER_TIMEOUT = %d, %v after SetUserTimeout", got, err)
	}
}

func TestSeveralListenersShareAPortWhenAsked(t *testing.T) {
	e := mustEpoll(t, EpollConfig{})
	a, err := e.Listen(localhost, ListenOptions{ReusePort: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Listen(a.Addr(), ListenOptions{ReusePort: true}, 2); err != nil {
		t.Errorf("second listener: %v", err)
	}
	if _, err := e.Listen(a.Addr(), ListenOptions{}, 3); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("without ReusePort: %v", err)
	}
}

func TestV4MappedAddressesAreNormalised(t *testing.T) { // R1.2
	e := mustEpoll(t, EpollConfig{})
	l, err := e.Listen(netip.MustParseAddrPort("[::]:0"), ListenOptions{OriginalDst: true}, 1)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Skip("no IPv6 here")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(l.Addr().Port())))
		if err != nil {
			t.Logf("%s: %v", host, err)
			continue
		}
		waitFor(t, e, func(r []Ready) bool { return len(r) > 0 })
		s, a, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if a.Remote.String() != c.LocalAddr().String() || a.Local.String() != c.RemoteAddr().String() {
			t.Errorf("%s: accepted %s -> %s, want %s -> %s", host, a.Remote, a.Local, c.LocalAddr(), c.RemoteAddr())
		}
		if a.OriginalDst.IsValid() {
			t.Errorf("%s: OriginalDst = %s without a redirect", host, a.OriginalDst)
		}
		s.Close(false)
		c.Close()
	}
}

func TestOriginalDestinationsAreDecoded(t *testing.T) { // R1.2
	port := [2]byte{0x1f, 0x90} // 8080 in network order
	v4 := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: *(*uint16)(unsafe.Pointer(&port)), Addr: [4]byte{10, 1, 2, 3}}
	var as4 unix.RawSockaddrInet6
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(&as4)) = v4
	v6 := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: v4.Port, Addr: netip.MustParseAddr("fd00::1").As16()}
	mapped := v6
	mapped.Addr = netip.MustParseAddr("::ffff:10.1.2.3").As16()
	own := netip.MustParseAddrPort("10.9.9.9:4143")
	for _, c := range []struct {
		name  string
		sa    unix.RawSockaddrInet6
		local string
		want  netip.AddrPort
	}{
		{"IPv4", as4, own.String(), netip.MustParseAddrPort("10.1.2.3:8080")},
		{"IPv6", v6, own.String(), netip.MustParseAddrPort("[fd00::1]:8080")},
		{"v4-mapped", mapped, own.String(), netip.MustParseAddrPort("10.1.2.3:8080")},
		{"its own IPv4", as4, "10.1.2.3:8080", netip.AddrPort{}},
		{"its own IPv6", v6, "[fd00::1]:8080", netip.AddrPort{}},
		{"its own, with a zone", v6, "[fd00::1%3]:8080", netip.AddrPort{}},
		{"another port of its own", as4, "10.1.2.3:4143", netip.MustParseAddrPort("10.1.2.3:8080")},
	} {
		if got := redirected(&c.sa, netip.MustParseAddrPort(c.local)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRunningOutOfDescriptorsDoesNotEndTheLoopNorSpin(t *testing.T) { // R1.1
	e := mustEpoll(t, EpollConfig{})
	l, err := e.Listen(localhost, ListenOptions{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, e, func(r []Ready) bool { return len(r) > 0 })

	restore := exhaustDescriptors(t)
	_, _, err = l.Accept()
	if !errors.Is(err, unix.EMFILE) {
		restore()
		t.Fatalf("accept without descriptors: %v", err)
	}
	reports := 0
	for end := e.Now().Add(3 * starvedPause); e.Now() < end; {
		for range e.Wait(nil, end) {
			reports++
			if _, _, err := l.Accept(); !errors.Is(err, unix.EMFILE) {
				t.Errorf("accept: %v", err)
			}
		}
	}
	restore()
	if reports == 0 || reports > 4 {
		t.Errorf("reported %d times in %s", reports, 3*starvedPause)
	}
	waitFor(t, e, func(r []Ready) bool { return len(r) > 0 })
	if s, _, err := l.Accept(); err != nil {
		t.Errorf("accept with descriptors again: %v", err)
	} else {
		s.Close(false)
	}
}

// exhaustDescriptors lowers the limit to what is in use.
func exhaustDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(0) // the lowest free descriptor
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	low := unix.Rlimit{Cur: uint64(fd), Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWakeWritesOnlyToAWaitingPoller(t *testing.T) {
	e := mustEpoll(t, EpollConfig{})
	pending := func() bool {
		fds := []unix.PollFd{{Fd: int32(e.wakeFD), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0
	}
	e.Wake()
	if pending() {
		t.Error("a running worker was written to")
	}
	e.Wait(nil, 0)
	if pending() || e.state.Load() != stateRunning {
		t.Error("a wake-up was left over")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e.state.Load() != stateWaiting {
			runtime.Gosched()
		}
		e.Wake()
	}()
	e.Wait(nil, 0) // no deadline: only the eventfd ends it
	<-done
}

func TestAClosedSocketsDescriptorMayBeUsedAgainAtOnce(t *testing.T) {
	e := mustEpoll(t, EpollConfig{})
	a, peer, _ := conn(t, e, ListenOptions{})
	l, err := e.Listen(localhost, ListenOptions{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, e, func(r []Ready) bool { return len(r) > 0 })
	l.Pause()
	e.Wait(nil, e.Now())
	if _, err := peer.Write([]byte("for the first")); err != nil {
		t.Fatal(err)
	}
	// The event is taken from the kernel, but not translated when a is closed.
	if !e.poll(time.Second) {
		t.Fatal("no event")
	}
	a.Close(false)
	s, _, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e.Attach(s, 4)
	if fd := s.(*epollSocket).fd; fd != a.fd {
		t.Fatalf("descriptor %d was not used again, but %d", a.fd, fd)
	}
	if got := e.collect(nil); len(got) > 0 {
		t.Errorf("reported %+v", got)
	}
}

func TestWithOneProcessorItNeverWaitsRaw(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	e := mustEpoll(t, EpollConfig{Hold: time.Second})
	s, peer, _ := conn(t, e, ListenOptions{})
	echoed := make(chan error, 1)
	go func() {
		// With a raw wait this goroutine would get the processor once in a second.
		start := mono.Now()
		b := make([]byte, 1)
		for range 200 {
			if _, err := peer.Write(b); err != nil {
				echoed <- err
				return
			}
			if _, err := io.ReadFull(peer, b); err != nil {
				echoed <- err
				return
			}
		}
		if d := mono.Now().Sub(start); d > 10*time.Second {
			echoed <- fmt.Errorf("200 round trips took %s", d)
			return
		}
		echoed <- nil
	}()
	b := make([]byte, 16)
	for {
		for range e.Wait(nil, e.Now().Add(100*time.Millisecond)) {
			n, err := s.Read(b)
			if err != nil {
				continue
			}
			if _, err := s.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-echoed:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

func TestOtherGoroutinesAndTheCollectorWaitNoLongerThanTheHold(t *testing.T) {
	e := mustEpoll(t, EpollConfig{})
	w := NewWorker(e, Config{})
	s, peer, _ := conn(t, e, ListenOptions{})
	e.Attach(s, w.Register(&echoHandler{s: s, buf: make([]byte, 4096)}))
	ended := make(chan struct{})
	go func() { w.Run(); close(ended) }()
	load := make(chan struct{})
	go func() { // keeps the worker in its raw wait, or busy
		defer close(load)
		b := make([]byte, 100)
		for range 2000 {
			if _, err := peer.Write(b); err != nil {
				return
			}
			if _, err := io.ReadFull(peer, b); err != nil {
				return
			}
		}
	}()
	var worst time.Duration
	for range 20 {
		start := mono.Now()
		runtime.GC()
		worst = max(worst, mono.Now().Sub(start))
	}
	<-load
	w.Stop()
	<-ended
	t.Logf("slowest collection %s", worst)
	if worst > time.Second {
		t.Errorf("a collection took %s", worst)
	}
}

type echoHandler struct {
	s   Socket
	buf []byte
}

func (h *echoHandler) Ready(Ready) {
	n, err := h.s.Read(h.buf)
	if err != nil {
		if !errors.Is(err, ErrAgain) {
			h.s.Close(false)
		}
		return
	}
	if _, err := h.s.Write(h.buf[:n]); err != nil {
		h.s.Close(true)
	}
}

func TestAWaitWithEventsAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("allocation ceilings do not hold under -race")
	}
	for name, cfg := range map[string]EpollConfig{"held": {Hold: 100 * time.Millisecond}, "parked": {Hold: -1}} {
		e := mustEpoll(t, cfg)
		s, peer, _ := conn(t, e, ListenOptions{})
		rc, err := peer.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var fd int
		if err := rc.Control(func(f uintptr) { fd = int(f) }); err != nil {
			t.Fatal(err)
		}
		b, ready := make([]byte, 100), make([]Ready, 0, 16)
		w := NewWorker(e, Config{})
		h := &echoHandler{s: s, buf: make([]byte, 100)}
		e.Attach(s, w.Register(h))
		turn := func() {
			write(fd, b)
			s.Want(true, true) // a change of interest is part of it
			s.Want(true, false)
			ready = e.Wait(ready[:0], e.Now().Add(time.Second))
			w.Turn(e.Now(), ready)
			read(fd, b)
		}
		turn()
		if n := testing.AllocsPerRun(200, turn); n > 0 {
			t.Errorf("%s: %v allocations a turn", name, n)
		}
	}
}

func TestAnIdleWorkerDoesNotWakeUp(t *testing.T) {
	e := mustEpoll(t, EpollConfig{})
	w := NewWorker(e, Config{})
	s, _, _ := conn(t, e, ListenOptions{})
	e.Attach(s, w.Register(&echoHandler{s: s, buf: make([]byte, 100)}))
	ended := make(chan struct{})
	go func() {
		runtime.LockOSThread() // so that its switches can be counted
		w.Run()
		close(ended)
	}()
	//house:sleep if too short, the first turns are counted as idle ones: three are allowed
	time.Sleep(50 * time.Millisecond)
	count := func() (n uint64) {
		answer := make(chan uint64)
		w.Post(func() { answer <- w.Counters().Turns })
		return <-answer
	}
	before := count()
	//house:sleep what must not happen has no event to wait for
	time.Sleep(500 * time.Millisecond)
	// The second count's own wake-up is one turn; one more is the wake-up's
	// eventfd if the worker was just on its way to sleep.
	if n := count() - before; n > 3 {
		t.Errorf("%d turns in half a second of nothing", n)
	}
	w.Stop()
	<-ended
}

func TestReadAndWriteErrorsStay(t *testing.T) {
	e := mustEpoll(t, EpollConfig{})
	s, peer, _ := conn(t, e, ListenOptions{})
	if err := peer.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	deadline := e.Now().Add(5 * time.Second)
	for {
		_, err := s.Write([]byte("x")) // takes the error from the kernel
		if err != nil {
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
			if _, rerr := s.Read(make([]byte, 1)); rerr != err {
				t.Errorf("read after a failed write: %v, want %v and not a clean end", rerr, err)
			}
			return
		}
		if e.Now() > deadline {
			t.Fatal("no reset")
		}
	}
}
