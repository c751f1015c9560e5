package wire_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// R3.6: a peer that reads slowly gets all of it, however long that takes.
func TestSlowPeerOfAClosedConnectionGetsEverything(t *testing.T) {
	r := newRig(t, simnet.Config{SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10})
	p := r.peer()
	p.e.Pause()
	want := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	r.do(func() { r.conn.Append(want); r.conn.Close() })
	r.run(10 * time.Second)
	p.e.Resume()
	r.run(5 * time.Second)
	if !bytes.Equal(p.got, want) || !p.eof || p.err != nil {
		t.Errorf("%d of %d bytes, eof %v, %v", len(p.got), len(want), p.eof, p.err)
	}
	p.e.Close(false)
	r.run(time.Second)
	r.nothingHeld()
}

func TestPeerThatReadsNothingIsGivenUp(t *testing.T) {
	r := newRig(t, simnet.Config{SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10})
	p := r.peer()
	p.e.Pause()
	r.do(func() { r.conn.Append(make([]byte, 100<<10)); r.conn.Close() })
	r.run(time.Hour)
	r.nothingHeld()
	if p.err == nil {
		t.Error("no reset")
	}
}

// RFC 9112, section 9.6: late bytes of the peer do not destroy our last answer.
func TestLateBytesAreReadAndThrownAway(t *testing.T) {
	r := newRig(t, simnet.Config{})
	p := r.peer()
	r.do(func() { r.conn.Append([]byte("go away")); r.conn.Close() })
	r.run(time.Millisecond)
	p.e.Write(make([]byte, 100<<10))
	r.run(100 * time.Millisecond)
	if string(p.got) != "go away" || !p.eof || p.err != nil {
		t.Errorf("%q, eof %v, %v", p.got, p.eof, p.err)
	}
	r.run(2 * time.Second)
	r.nothingHeld()
}

// An upload that does not end must not cut off the answer that is still leaving.
func TestEndlessPeerGetsTheAnswerFirst(t *testing.T) {
	r := newRig(t, simnet.Config{SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10})
	p := r.peer()
	p.e.Pause()
	r.do(func() { r.conn.Append(make([]byte, 50<<10)); r.conn.Close() })
	p.e.Write(make([]byte, 4<<20))
	r.run(time.Second)
	if p.err != nil {
		t.Fatal(p.err)
	}
	p.e.Resume()
	r.run(5 * time.Second)
	if len(p.got) != 50<<10 {
		t.Errorf("%d bytes, %v", len(p.got), p.err)
	}
	r.run(time.Minute)
	r.nothingHeld()
}

// failing is a socket whose writes fail from some byte on, while what its peer
// sent can still be read.
type failing struct {
	loop.Socket
	after int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.after <= 0 {
		return 0, syscall.ECONNRESET
	}
	n, err := f.Socket.Write(p[:min(len(p), f.after)])
	f.after -= n
	return n, err
}

// RFC 9112, section 9.5: a server may answer and close before it has read all.
func TestWhatCameBeforeAWriteErrorIsRead(t *testing.T) {
	r := newRig(t, simnet.Config{})
	r.sock = func(s loop.Socket) loop.Socket { return &failing{Socket: s} }
	p := r.peer()
	p.e.Write([]byte("413"))
	p.e.CloseWrite()
	r.do(r.conn.Pause) // neither is seen before the write
	r.run(time.Millisecond)
	r.do(func() {
		r.conn.Resume()
		r.conn.Append([]byte("body"))
		r.conn.Flush()
		if r.user.err != nil {
			t.Error("told before the end of the turn")
		}
	})
	r.run(time.Millisecond)
	if string(r.user.got) != "413" || !r.user.eof || !errors.Is(r.user.err, syscall.ECONNRESET) {
		t.Errorf("%q, eof %v, %v", r.user.got, r.user.eof, r.user.err)
	}
	r.nothingHeld()
}

// R7.1: what was written before an error counts as written.
func TestWroteCountsWhatWentBeforeAnError(t *testing.T) {
	r := newRig(t, simnet.Config{})
	r.sock = func(s loop.Socket) loop.Socket { return &failing{Socket: s, after: 3} }
	r.peer()
	r.do(func() { r.conn.Append([]byte("request")) })
	r.run(time.Millisecond)
	if r.user.err == nil || r.conn.Wrote() != 3 {
		t.Errorf("%v after %d bytes", r.user.err, r.conn.Wrote())
	}
	r.nothingHeld()
}

// Probing one connection leaves alone what is being read from another.
func TestProbeHasABufferOfItsOwn(t *testing.T) {
	r := newRig(t, simnet.Config{})
	pooled := r.peer()
	idle, idleUser := r.conn, r.user
	r.do(idle.Pause)
	pooled.e.Write([]byte(strings.Repeat("x", 1000)))
	r.run(time.Millisecond)
	p := r.peer()
	kept := ""
	r.user.received = func(b []byte) {
		idle.Resume()
		idle.Probe()
		kept += string(b)
	}
	want := strings.Repeat("y", 1000)
	p.e.Write([]byte(want))
	r.run(time.Millisecond)
	if len(idleUser.got) != 1000 || kept != want {
		t.Errorf("probed %d bytes; the others became %.20q...", len(idleUser.got), kept)
	}
}

// again is a socket whose connecting is told too early.
type again struct{ loop.Socket }

func (again) ConnectError() error { return loop.ErrAgain }

// earlyPoller makes dialled sockets ready before they are connected.
type earlyPoller struct {
	loop.Poller
	dialled loop.Token
}

func (p *earlyPoller) Dial(addr netip.AddrPort, o loop.DialOptions, t loop.Token) (loop.Socket, error) {
	p.dialled = t
	s, err := p.Poller.Dial(addr, o, t)
	return again{s}, err
}

func TestReadinessWithoutCauseDoesNotEndConnecting(t *testing.T) {
	w := simnet.New(simnet.Config{})
	p := &earlyPoller{Poller: w.Host(hereIP).NewPoller()}
	worker := loop.NewWorker(p, loop.Config{Rand: w.NewRand()})
	env := wire.NewEnv(worker, 0)
	told := 0
	wire.Dial(env, there, wire.DialParams{User: &user{}, Timeout: time.Second, Ready: func(error) { told++ }})
	worker.Turn(w.Now(), []loop.Ready{{Token: p.dialled, Out: true}})
	if told != 0 {
		t.Error("told of an end while it goes on")
	}
	worker.Turn(w.Now().Add(2*time.Second), nil)
	if told != 1 || env.Open() != 0 {
		t.Errorf("told %d times, %d open", told, env.Open())
	}
}

// R7.4: connecting ends after its timeout.
func TestConnectTimesOut(t *testing.T) {
	r := newRig(t, simnet.Config{})
	r.w.OnDial(func(netip.Addr, netip.AddrPort) simnet.Outcome { return simnet.Lost })
	var err error
	wire.Dial(r.env, there, wire.DialParams{User: &user{}, Timeout: time.Second, Ready: func(e error) { err = e }})
	r.run(999 * time.Millisecond)
	if err != nil {
		t.Fatal("too early", err)
	}
	r.run(10 * time.Millisecond)
	if !errors.Is(err, wire.ErrConnectTimeout) {
		t.Error(err)
	}
	r.nothingHeld()
}

// R3.6, R5.4: a reset is told at once, also to a user that does not read.
func TestResetOfAPausedConnectionIsTold(t *testing.T) {
	r := newRig(t, simnet.Config{})
	p := r.peer()
	r.do(r.conn.Pause)
	p.e.Close(true)
	r.run(time.Millisecond)
	if !errors.Is(r.user.err, syscall.ECONNRESET) {
		t.Error(r.user.err)
	}
	r.nothingHeld()
}

// A user may close from within Received; it hears nothing more.
func TestUserClosesWithinReceived(t *testing.T) {
	for name, end := range map[string]func(*wire.Conn){"close": (*wire.Conn).Close, "abort": (*wire.Conn).Abort} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, simnet.Config{Segment: 100})
			p := r.peer()
			calls := 0
			r.user.received = func([]byte) {
				calls++
				r.conn.Append([]byte("bye"))
				end(r.conn)
				r.conn.Append([]byte("after"))
				r.conn.End(append(r.conn.Begin(2000), "later"...))
			}
			p.e.Write(make([]byte, 10<<10))
			p.e.CloseWrite()
			r.run(5 * time.Second)
			if calls != 1 || r.user.eof || r.user.err != nil {
				t.Errorf("%d calls, eof %v, %v", calls, r.user.eof, r.user.err)
			}
			if name == "close" && string(p.got) != "bye" {
				t.Errorf("%q", p.got)
			}
			r.nothingHeld()
		})
	}
}
