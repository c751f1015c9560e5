package loop_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

func TestDataGoesBothWaysAndReadsAnswerAgain(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		b := make([]byte, 10)
		for name, s := range map[string]loop.Socket{"client": client, "server": server} {
			if n, err := s.Read(b); n != 0 || !errors.Is(err, loop.ErrAgain) {
				r.Fatalf("%s: read of nothing: %d, %v", name, n, err)
			}
		}
		r.send(client, tokenClient, []byte("ping"))
		if got := r.recv(server, tokenServer, 4); string(got) != "ping" {
			r.Fatalf("server got %q", got)
		}
		r.send(server, tokenServer, []byte("pong!"))
		if got := r.recv(client, tokenClient, 5); string(got) != "pong!" {
			r.Fatalf("client got %q", got)
		}
	})
}

func TestAcceptedTellsBothAddressesAndNoRedirect(t *testing.T) { // R1.2
	contract(t, func(r *rig, _ maker) {
		l, err := r.p.Listen(netip.AddrPortFrom(r.host, 0), loop.ListenOptions{OriginalDst: true}, tokenListener)
		if err != nil {
			r.Fatal(err)
		}
		s := r.dial(l.Addr())
		s2, a := r.accept(l)
		r.connected(s)
		if a.Local != l.Addr() {
			r.Errorf("Local = %s, want %s", a.Local, l.Addr())
		}
		if a.Remote.Addr() != r.host || a.Remote.Port() == 0 || !a.Remote.Addr().Is4() {
			r.Errorf("Remote = %s, want a port of %s", a.Remote, r.host)
		}
		client, server := s.(loop.Addresser), s2.(loop.Addresser)
		if local, remote := client.Addrs(); local != a.Remote || remote != a.Local {
			r.Errorf("the client's addresses are %s, %s", local, remote)
		}
		if local, remote := server.Addrs(); local != a.Local || remote != a.Remote {
			r.Errorf("the server's addresses are %s, %s", local, remote)
		}
		if a.OriginalDst.IsValid() {
			r.Errorf("OriginalDst = %s of a connection that was not redirected", a.OriginalDst)
		}
	})
}

func TestFINIsEOFAndHalfClosesKeepTheOtherDirection(t *testing.T) { // R3.6, R5.4
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.send(client, tokenClient, []byte("last words"))
		if err := client.CloseWrite(); err != nil {
			r.Fatal(err)
		}
		if got := r.recv(server, tokenServer, 10); string(got) != "last words" {
			r.Fatalf("server got %q", got)
		}
		r.ends(server, tokenServer, io.EOF)
		server.Want(false, false)
		r.send(server, tokenServer, []byte("still here"))
		if got := r.recv(client, tokenClient, 10); string(got) != "still here" {
			r.Fatalf("client got %q", got)
		}
		if err := server.CloseWrite(); err != nil {
			r.Fatal(err)
		}
		r.ends(client, tokenClient, io.EOF)
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.send(client, tokenClient, []byte("bye"))
		client.Close(false)
		if got := r.recv(server, tokenServer, 3); string(got) != "bye" {
			r.Fatalf("server got %q", got)
		}
		r.ends(server, tokenServer, io.EOF)
		if _, err := client.Read(make([]byte, 1)); err == nil {
			r.Error("a closed socket can be read")
		}
	})
}

func TestCloseWithResetGivesThePeerAReset(t *testing.T) { // R3.6
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		client.Close(true)
		r.until("the reset", func() bool { return r.last[tokenServer].Err })
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			r.Fatalf("read: %v", err)
		}
		if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			r.Fatalf("write: %v", err)
		}
		r.ends(server, tokenServer, syscall.ECONNRESET)
	})
}

func TestAResetIsToldAtOnceAndOnceWhileReadingIsPaused(t *testing.T) {
	contract(t, func(r *rig, m maker) {
		client, server := r.pair()
		server.Want(false, false)
		if m.seesReset {
			r.send(client, tokenClient, []byte("unread"))
			r.silent(tokenServer, 20*time.Millisecond, "reading is paused")
		}
		client.Close(true)
		r.until("the reset", func() bool { return r.last[tokenServer].Err })
		r.silent(tokenServer, 20*time.Millisecond, "the reset was told")
	})
}

func TestBytesBeforeAResetAreReadFirst(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.send(client, tokenClient, []byte("before"))
		r.pass(20 * time.Millisecond) // all of it has arrived
		client.Close(true)
		r.wait(20 * time.Millisecond)
		var got []byte
		b := make([]byte, 2)
		r.until("the reset", func() bool {
			n, err := server.Read(b)
			got = append(got, b[:n]...)
			if err != nil && !errors.Is(err, loop.ErrAgain) && !errors.Is(err, syscall.ECONNRESET) {
				r.Fatalf("after %q: %v", got, err)
			}
			return errors.Is(err, syscall.ECONNRESET)
		})
		if string(got) != "before" {
			r.Errorf("got %q before the reset", got)
		}
	})
}

func TestClosingWithUnreadDataResets(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.send(client, tokenClient, []byte("never read"))
		r.until("data", func() bool { return r.last[tokenServer].In })
		server.Close(false)
		r.ends(client, tokenClient, syscall.ECONNRESET)
	})
}

func TestHUPIsToldOnceAndTheRestCanBeReadOnResuming(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.send(client, tokenClient, []byte("rest"))
		r.until("data", func() bool { return r.last[tokenServer].In })
		server.Want(false, false)
		if err := server.CloseWrite(); err != nil {
			r.Fatal(err)
		}
		r.ends(client, tokenClient, io.EOF)
		if err := client.CloseWrite(); err != nil {
			r.Fatal(err)
		}
		// The goroutine poller learns of the FIN only after the slot was drained.
		hup := 0
		for end := r.p.Now().Add(50 * time.Millisecond); r.p.Now() < end; {
			r.wait(end.Sub(r.p.Now()))
			if ev, ok := r.last[tokenServer]; ok {
				hup++
				if !ev.Hup || ev.Err || ev.In {
					r.Fatalf("reported %+v while paused", ev)
				}
			}
		}
		if hup > 1 {
			r.Fatalf("Hup reported %d times: it spins", hup)
		}
		server.Want(true, false)
		if got := r.recv(server, tokenServer, 4); string(got) != "rest" {
			r.Fatalf("got %q", got)
		}
	})
}

func TestHUPWithInWantedReadsToTheEnd(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		if err := server.CloseWrite(); err != nil {
			r.Fatal(err)
		}
		r.ends(client, tokenClient, io.EOF)
		r.send(client, tokenClient, bytes.Repeat([]byte("x"), 10000))
		if err := client.CloseWrite(); err != nil {
			r.Fatal(err)
		}
		total, b := 0, make([]byte, 777)
		r.until("the end", func() bool {
			if !r.last[tokenServer].In {
				return false
			}
			n, err := server.Read(b) // one read a wait: it is level-triggered
			total += n
			return errors.Is(err, io.EOF)
		})
		if total != 10000 {
			r.Fatalf("read %d bytes", total)
		}
		server.Want(false, false)
		r.wait(20 * time.Millisecond) // Hup, perhaps
		r.silent(tokenServer, 20*time.Millisecond, "Hup was told")
	})
}

func TestDialRefused(t *testing.T) { // R8.2
	contract(t, func(r *rig, _ maker) {
		l := r.listen()
		to := l.Addr()
		if err := l.Close(); err != nil {
			r.Fatal(err)
		}
		s, err := r.p.Dial(to, loop.DialOptions{}, tokenClient)
		if err == nil {
			r.until("the refusal", func() bool { return r.last[tokenClient].Err })
			err = s.(loop.Connecting).ConnectError()
			if _, rerr := s.Read(make([]byte, 1)); !errors.Is(rerr, syscall.ECONNREFUSED) {
				r.Errorf("read: %v", rerr)
			}
			s.Want(false, false)
			r.wait(10 * time.Millisecond)
			r.silent(tokenClient, 20*time.Millisecond, "the refusal was told")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			r.Fatalf("got %v", err)
		}
	})
}

func TestDialOfAnUnreachableAddressFails(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		// A broadcast address answers nobody: ENETUNREACH, EACCES or the like.
		s, err := r.p.Dial(netip.MustParseAddrPort("255.255.255.255:1"), loop.DialOptions{}, tokenClient)
		if err == nil {
			r.until("the failure", func() bool { return r.last[tokenClient].Err })
			err = s.(loop.Connecting).ConnectError()
		}
		if errno := syscall.Errno(0); !errors.As(err, &errno) || errors.Is(err, syscall.ECONNREFUSED) {
			r.Fatalf("got %v, want an errno", err)
		}
	})
}

func TestWriteAnswersAgainAndOutSaysWhenThereIsRoom(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		server.Want(false, false)
		data := make([]byte, 1<<20)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		sent := []byte{}
		client.Want(true, true)
		for quiet := 0; quiet < 2; {
			n, err := client.Write(data[len(sent)%len(data):])
			sent = append(sent, data[len(sent)%len(data):][:n]...)
			if err == nil {
				continue
			}
			if !errors.Is(err, loop.ErrAgain) {
				r.Fatal(err)
			}
			if r.wait(50 * time.Millisecond); !r.last[tokenClient].Out {
				quiet++
			}
			if len(sent) > 64<<20 {
				r.Fatal("64 MiB written to a reader that does not read")
			}
		}
		server.Want(true, false)
		var got []byte
		b := make([]byte, 64<<10)
		roomAgain := false
		r.until("everything", func() bool {
			roomAgain = roomAgain || r.last[tokenClient].Out
			if r.last[tokenServer].In {
				n, err := server.Read(b)
				if err != nil && !errors.Is(err, loop.ErrAgain) {
					r.Fatal(err)
				}
				got = append(got, b[:n]...)
			}
			return len(got) >= len(sent) && roomAgain
		})
		if !bytes.Equal(got, sent) {
			r.Fatal("what was read is not what was written")
		}
	})
}

func TestPausedReadingDoesNotSpinAndResumes(t *testing.T) { // R4.2
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		server.Want(false, false)
		r.wait(time.Millisecond)
		r.send(client, tokenClient, []byte("parked"))
		waits := 0
		for end := r.p.Now().Add(50 * time.Millisecond); r.p.Now() < end; waits++ {
			r.wait(end.Sub(r.p.Now()))
			if ev, ok := r.last[tokenServer]; ok {
				r.Fatalf("reported %+v while paused", ev)
			}
		}
		if waits > 20 {
			r.Errorf("%d waits in 50 ms of nothing", waits)
		}
		server.Want(true, false)
		if got := r.recv(server, tokenServer, 6); string(got) != "parked" {
			r.Fatalf("got %q", got)
		}
	})
}

func TestReadinessIsLevelTriggered(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.send(client, tokenClient, []byte("abc"))
		var got []byte
		b := make([]byte, 1)
		for len(got) < 3 {
			r.until("a byte", func() bool { return r.last[tokenServer].In })
			n, err := server.Read(b)
			if err != nil && !errors.Is(err, loop.ErrAgain) {
				r.Fatal(err)
			}
			got = append(got, b[:n]...)
			r.wait(time.Second)
		}
		if string(got) != "abc" {
			r.Fatalf("got %q", got)
		}
	})
}

func TestClosedSocketsAreNotReportedAndANewTokenHolds(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		r.p.Attach(server, tokenExtra)
		r.send(client, tokenClient, []byte("x"))
		if got := r.recv(server, tokenExtra, 1); string(got) != "x" {
			r.Fatalf("got %q", got)
		}
		r.send(client, tokenClient, []byte("y"))
		server.Close(false)
		server.Close(true)
		r.silent(tokenExtra, 20*time.Millisecond, "it is closed")
	})
}

func TestAPausedListenerLeavesConnectionsInTheBacklog(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		l := r.listen()
		l.Pause()
		client := r.dial(l.Addr())
		r.connected(client)
		r.silent(tokenListener, 20*time.Millisecond, "it is paused")
		l.Resume()
		r.accept(l)
		if _, _, err := l.Accept(); !errors.Is(err, loop.ErrAgain) {
			r.Errorf("accept of nothing: %v", err)
		}
		if err := l.Close(); err != nil {
			r.Error(err)
		}
		if _, _, err := l.Accept(); err == nil || errors.Is(err, loop.ErrAgain) {
			r.Errorf("accept on a closed listener: %v", err)
		}
	})
}

func TestWaitEndsAtItsDeadline(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		for _, d := range []time.Duration{-time.Second, 0, 200 * time.Microsecond, 3 * time.Millisecond, 30 * time.Millisecond} {
			at := r.p.Now().Add(d)
			if got := r.p.Wait(nil, at); len(got) > 0 {
				r.Fatalf("reported %+v", got)
			}
			now := r.p.Now()
			if d > 0 && now < at {
				r.Errorf("woke %s before the deadline of %s", at.Sub(now), d)
			}
			if now.Sub(at) > 2*time.Second {
				r.Errorf("woke %s after the deadline", now.Sub(at))
			}
		}
	})
}

func TestWakeIsKeptForTheNextWait(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		r.p.Wake()
		r.p.Wake()
		start := r.p.Now()
		r.p.Wait(nil, start.Add(10*time.Second))
		if d := r.p.Now().Sub(start); d > 5*time.Second {
			r.Errorf("a Wake before Wait was lost (%s)", d)
		}
		at := r.p.Now().Add(20 * time.Millisecond)
		for r.p.Now() < at { // a second return early is allowed, a third is a spin
			r.p.Wait(nil, at)
		}
	})
}

func TestWaitAppends(t *testing.T) {
	contract(t, func(r *rig, _ maker) {
		before := []loop.Ready{{Token: 77, Hup: true}}
		after := r.p.Wait(before, mono.Time(1))
		if !slices.Equal(before, after) {
			r.Errorf("Wait changed what it was given: %+v", after)
		}
	})
}

// flow is one direction of a stream: what is written, and what was read of it.
type flow struct {
	data       []byte
	sent, read int
	fin        bool
}

func TestBothDirectionsAtOnceWithInterestChangingAtRandom(t *testing.T) { // R5.4
	contract(t, func(r *rig, _ maker) {
		client, server := r.pair()
		rng := rand.New(rand.NewPCG(3, 4))
		var up, down flow
		for _, f := range []*flow{&up, &down} {
			f.data = make([]byte, 600<<10)
			for i := range f.data {
				f.data[i] = byte(rng.Uint32())
			}
		}
		buf := make([]byte, 40<<10)
		side := func(s loop.Socket, ev loop.Ready, out, in *flow) (done bool) {
			if ev.Err {
				r.Fatalf("reported %+v", ev)
			}
			if ev.In {
				n, err := s.Read(buf[:1+rng.IntN(len(buf))])
				switch {
				case err == io.EOF && in.read < len(in.data), err != nil && err != io.EOF && !errors.Is(err, loop.ErrAgain):
					r.Fatalf("read %d bytes, then %v", in.read, err)
				case !bytes.Equal(buf[:n], in.data[in.read:in.read+n]):
					r.Fatalf("wrong bytes at %d", in.read)
				}
				in.read += n
				in.fin = err == io.EOF
			}
			if ev.Out && out.sent < len(out.data) {
				n, err := s.Write(out.data[out.sent:min(len(out.data), out.sent+1+rng.IntN(100<<10))])
				if err != nil && !errors.Is(err, loop.ErrAgain) {
					r.Fatal(err)
				}
				if out.sent += n; out.sent == len(out.data) {
					if err := s.CloseWrite(); err != nil {
						r.Fatal(err)
					}
				}
			}
			s.Want(!in.fin && rng.IntN(3) > 0, out.sent < len(out.data) && rng.IntN(3) > 0)
			return in.fin && out.sent == len(out.data)
		}
		a, b := false, false
		for end := r.p.Now().Add(30 * time.Second); !a || !b; r.wait(time.Millisecond) {
			if r.p.Now() > end {
				r.Fatalf("up %d, %d; down %d, %d of %d bytes", up.sent, up.read, down.sent, down.read, len(up.data))
			}
			a = side(client, r.last[tokenClient], &up, &down) || a
			b = side(server, r.last[tokenServer], &down, &up) || b
		}
	})
}
