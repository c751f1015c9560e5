package loop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	defaultHold = 500 * time.Microsecond
	// A yield wakes another thread to look for work, which costs more than a
	// small turn: so the worker yields each millisecond only when it is busy.
	yieldBusy  = time.Millisecond
	yieldIdle  = 10 * time.Millisecond
	busyEvents = 32 // since the last yield
	// lonely is how many holds after another an event is a lone one.
	lonely = 8
	// After a wait of longPark the first fewEvents may be all that comes: a PING
	// and its answer, a digest.
	longPark  = 100 * time.Millisecond
	fewEvents = 8
	// starvedPause is how long a listener rests when the system was out of
	// descriptors or memory (R1.1: accept errors never end the loop, nor spin it).
	starvedPause = 50 * time.Millisecond
	eventBatch   = 256
)

// States of an Epoll for Wake.
const (
	stateRunning int32 = iota // a Wake is seen before the next wait
	stateWaiting              // a Wake must write to the eventfd
	stateWoken                // a Wake has been called
)

// Epoll is the Poller of Linux.
//
// It waits twice. First by a raw system call, which keeps the scheduler's
// processor and so spares the 20 µs that parking and waking a goroutine cost;
// but only within Hold of the last event, since nothing else can use that
// processor meanwhile, and never when it is the only one. Then by an ordinary
// system call, which gives the processor to whoever wants it.
//
// The set is not in Go's own poller, although a goroutine could park there: its
// nested descriptor would wake that poller's thread with each event, also while
// the worker itself waits for it, which doubles the wake-ups. Only an idle worker
// puts it there for as long as it waits: a thread in a system call is watched by
// the runtime's monitor, which naps some thirty times before it lets go.
type Epoll struct {
	// Immutable.
	fd     int
	wake   *os.File // an eventfd, blocking so that Go's poller leaves it alone
	wakeFD int
	hold   time.Duration

	state atomic.Int32

	// Owned by the worker.
	sources    []*source // by descriptor
	generation uint32
	changed    []*source // their interest has to be told to the kernel
	starved    []*source // listeners that rest until restAt
	restAt     mono.Time
	hadEvents  bool
	lastEvent  mono.Time
	lively     bool // the last two events came soon after each other
	sinceLong  int  // events since the last wait of longPark
	lastYield  mono.Time
	sinceYield int  // events
	single     bool // GOMAXPROCS is 1
	n          int
	timeout    [2]int64 // a 64-bit timespec
	events     [eventBatch]unix.EpollEvent
}

// NewEpoll returns a poller of the Linux kernel.
func NewEpoll(cfg EpollConfig) (Poller, error) { return newEpoll(cfg) }

func newEpoll(cfg EpollConfig) (*Epoll, error) {
	if cfg.Hold == 0 {
		cfg.Hold = defaultHold
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	e := &Epoll{fd: fd, hold: cfg.Hold, single: runtime.GOMAXPROCS(0) == 1}
	if err := e.open(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return e, nil
}

func (e *Epoll) open() (err error) {
	if err = unix.SetNonblock(e.fd, true); err != nil { // for doze; no other wait minds
		return fmt.Errorf("epoll: %w", err)
	}
	if e.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(e.wakeFD)}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, e.wakeFD, &ev); err != nil {
		unix.Close(e.wakeFD)
		return fmt.Errorf("epoll: add eventfd: %w", err)
	}
	e.wake = os.NewFile(uintptr(e.wakeFD), "eventfd")
	return nil
}

// Now implements Poller.
func (e *Epoll) Now() mono.Time { return mono.Now() }

// Wake implements Poller.
func (e *Epoll) Wake() {
	if e.state.Swap(stateWoken) == stateWaiting {
		one := [8]byte{1} // any value but zero, in any byte order
		// The counter cannot overflow, and a closed poller needs no wake-up.
		_, _ = e.wake.Write(one[:])
	}
}

// Wait implements Poller.
func (e *Epoll) Wait(dst []Ready, deadline mono.Time) []Ready {
	now := mono.Now()
	e.yield(now)
	deadline = e.rest(now, deadline)
	dst = e.apply(dst)
	switch {
	case !e.state.CompareAndSwap(stateRunning, stateWaiting), len(dst) > 0:
		e.poll(0)
	default:
		e.wait(now, deadline)
	}
	// A Wake from here back to the CompareAndSwap has written to the eventfd and
	// is seen again by the next wait.
	e.state.Store(stateRunning)
	return e.collect(dst)
}

// yield lets other goroutines run when this one has kept its processor for
// long; a park does it anyway.
func (e *Epoll) yield(now mono.Time) {
	if e.hadEvents {
		// A lone event (a PING, a digest) is no traffic: holding the processor for
		// what does not come keeps the runtime's monitor awake meanwhile.
		e.lively = now.Sub(e.lastEvent) < lonely*e.hold && !e.idle()
		e.lastEvent = now
	}
	d := now.Sub(e.lastYield)
	if d < yieldBusy || d < yieldIdle && e.sinceYield < busyEvents {
		return
	}
	e.yielded(now)
	e.single = runtime.GOMAXPROCS(0) == 1
	// The runtime's monitor, which polls the network for others and preempts,
	// goes to sleep when all is idle, and only an ordinary system call wakes it.
	// A worker makes none on its way: without this one, goroutines could wait for
	// as long as it stays busy.
	_, _, _ = unix.Syscall(unix.SYS_GETPID, 0, 0, 0)
	runtime.Gosched()
}

func (e *Epoll) yielded(now mono.Time) {
	e.lastYield = now
	e.sinceYield = 0
}

func (e *Epoll) wait(now, deadline mono.Time) {
	for deadline == 0 || now < deadline {
		d := e.hold - now.Sub(e.lastEvent)
		if e.single || !e.lively || d <= 0 {
			e.park(now, deadline)
			return
		}
		if deadline != 0 {
			d = min(d, deadline.Sub(now))
		}
		if e.poll(d) {
			return
		}
		// The hold is over, the deadline has come, or the runtime's preemption
		// signal has ended the call: this call is where it gets its way.
		now = mono.Now()
	}
	e.poll(0)
}

// park waits without a processor. What is there already is taken without
// giving it up.
func (e *Epoll) park(now, deadline mono.Time) {
	if e.poll(0) {
		return
	}
	d := forever
	if deadline != 0 {
		d = deadline.Sub(now)
	}
	if !e.idle() || !e.doze(d) {
		e.call(unix.Syscall6, d)
	}
	after := mono.Now()
	if after.Sub(now) >= longPark {
		e.sinceLong = 0
	}
	e.yielded(after)
}

// idle reports whether so little has come that nothing is expected to follow.
func (e *Epoll) idle() bool { return e.sinceLong < fewEvents }

// doze waits for d as a goroutine of Go's own poller, without a thread. It says
// whether it could.
func (e *Epoll) doze(d time.Duration) bool {
	fd, err := unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false // no descriptor is left
	}
	f := os.NewFile(uintptr(fd), "epoll") // non-blocking: open saw to it
	defer f.Close()
	if d != forever {
		if f.SetReadDeadline(time.Now().Add(d)) != nil {
			return false
		}
	}
	set, err := f.SyscallConn()
	if err != nil {
		return false
	}
	err = set.Read(func(uintptr) bool { return e.poll(0) })
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// poll waits for d, keeping the processor, and says whether there are events.
func (e *Epoll) poll(d time.Duration) bool {
	e.call(unix.RawSyscall6, d)
	return e.n > 0
}

// forever is a wait without an end.
const forever = time.Duration(-1)

// call waits for d by a raw or an ordinary system call.
func (e *Epoll) call(syscall6 func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno), d time.Duration) {
	e.timeout = [2]int64{int64(d / time.Second), int64(d % time.Second)}
	until := uintptr(unsafe.Pointer(&e.timeout))
	if d == forever {
		until = 0
	}
	n, _, errno := syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), eventBatch, until, 0, 0)
	if errno == unix.ENOSYS { // before Linux 5.11: whole milliseconds
		ms := -1
		if d != forever {
			ms = int((d + time.Millisecond - 1) / time.Millisecond)
		}
		n, _, errno = syscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), eventBatch, uintptr(ms), 0, 0)
	}
	e.n = int(n)
	if errno != 0 { // EINTR
		e.n = 0
	}
}

// apply tells the kernel what the turn has changed, each socket once. It
// reports those that the kernel refuses.
func (e *Epoll) apply(dst []Ready) []Ready {
	for i, s := range e.changed {
		e.changed[i] = nil
		s.changed = false
		if errno := s.apply(); errno != 0 {
			s.err = errno
			dst = append(dst, s.ready(unix.EPOLLERR))
		}
	}
	e.changed = e.changed[:0]
	return dst
}

// rest brings listeners back that had to rest, or moves the deadline to when
// they do.
func (e *Epoll) rest(now, deadline mono.Time) mono.Time {
	if len(e.starved) == 0 {
		return deadline
	}
	if now < e.restAt {
		if deadline == 0 || deadline > e.restAt {
			return e.restAt
		}
		return deadline
	}
	for i, s := range e.starved {
		e.starved[i] = nil
		s.starved = false
		s.change()
	}
	e.starved = e.starved[:0]
	return deadline
}

func (e *Epoll) starve(s *source) {
	if s.starved || s.closed {
		return
	}
	s.starved = true
	e.starved = append(e.starved, s)
	e.restAt = mono.Now().Add(starvedPause)
	s.change()
}

// collect translates what the kernel has reported.
func (e *Epoll) collect(dst []Ready) []Ready {
	e.hadEvents = false // by a socket: a Wake alone is no traffic, and no reason to hold the processor
	e.sinceYield += e.n
	e.sinceLong = min(e.sinceLong+e.n, fewEvents)
	for i := range e.n {
		ev := &e.events[i]
		if int(ev.Fd) == e.wakeFD {
			var count [8]byte
			_, _ = read(e.wakeFD, count[:]) // it is readable: it says so
			continue
		}
		if int(ev.Fd) >= len(e.sources) {
			continue
		}
		// A descriptor that a child process still holds reports after its close.
		if s := e.sources[ev.Fd]; s != nil && s.generation == uint32(ev.Pad) {
			e.hadEvents = true
			dst = append(dst, s.ready(ev.Events))
		}
	}
	e.n = 0
	return dst
}

// register gives s a place; the kernel hears of it at the next wait.
func (e *Epoll) register(s *source, t Token, want uint32) {
	for int(s.fd) >= len(e.sources) {
		e.sources = append(e.sources, nil)
	}
	e.generation++
	e.sources[s.fd] = s
	s.poller, s.generation, s.token, s.want = e, e.generation, t, want
	s.change()
}

// Attach implements Poller.
func (e *Epoll) Attach(s Socket, t Token) {
	es, ok := s.(*epollSocket)
	switch {
	case !ok:
		panic(fmt.Sprintf("BUG: epoll poller given a %T", s))
	case es.closed:
	case es.poller == nil:
		e.register(&es.source, t, unix.EPOLLIN)
	case es.poller != e:
		panic("BUG: socket attached to a second poller")
	default:
		es.token = t
	}
}

// Close implements Poller.
func (e *Epoll) Close() error {
	for _, s := range e.sources {
		if s != nil {
			s.close()
		}
	}
	e.sources, e.changed, e.starved = nil, nil, nil
	e.wake.Close()
	if err := unix.Close(e.fd); err != nil {
		return fmt.Errorf("close epoll: %w", err)
	}
	return nil
}
