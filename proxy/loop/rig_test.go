package loop_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// The tokens that the contract test uses; a poller does not care what they are.
const (
	tokenListener loop.Token = 1<<32 | iota + 1
	tokenClient
	tokenServer
	tokenExtra
)

// rig is a poller and what it has reported.
type rig struct {
	*testing.T
	p    loop.Poller
	host netip.Addr
	last map[loop.Token]loop.Ready // of the last wait
}

type maker struct {
	name string
	make func(t *testing.T) (p loop.Poller, host netip.Addr)
	// seesReset: a reset is reported also while unread data waits and In is not wanted.
	seesReset bool
}

var loopback = netip.MustParseAddr("127.0.0.1")

func contract(t *testing.T, f func(r *rig, m maker)) {
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			p, host := m.make(t)
			t.Cleanup(func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
			f(&rig{T: t, p: p, host: host}, m)
		})
	}
}

// wait waits once, for at most d.
func (r *rig) wait(d time.Duration) {
	r.last = map[loop.Token]loop.Ready{}
	for _, ev := range r.p.Wait(nil, r.p.Now().Add(d)) {
		r.last[ev.Token] = ev
	}
}

// until waits until ok; it fails the test after 5 s.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for end := r.p.Now().Add(5 * time.Second); !ok(); r.wait(end.Sub(r.p.Now())) {
		if r.p.Now() >= end {
			r.Fatalf("waited 5 s for %s", what)
		}
	}
}

// pass lets time go by, whatever is reported.
func (r *rig) pass(d time.Duration) {
	for end := r.p.Now().Add(d); r.p.Now() < end; {
		r.wait(end.Sub(r.p.Now()))
	}
}

// silent fails when t is reported within d.
func (r *rig) silent(t loop.Token, d time.Duration, why string) {
	r.Helper()
	for end := r.p.Now().Add(d); r.p.Now() < end; {
		r.wait(end.Sub(r.p.Now()))
		if ev, ok := r.last[t]; ok {
			r.Fatalf("reported %+v, want nothing: %s", ev, why)
		}
	}
}

func (r *rig) listen() loop.Listener {
	r.Helper()
	l, err := r.p.Listen(netip.AddrPortFrom(r.host, 0), loop.ListenOptions{}, tokenListener)
	if err != nil {
		r.Fatal(err)
	}
	return l
}

func (r *rig) dial(to netip.AddrPort) loop.Socket {
	r.Helper()
	s, err := r.p.Dial(to, loop.DialOptions{}, tokenClient)
	if err != nil {
		r.Fatal(err)
	}
	return s
}

func (r *rig) accept(l loop.Listener) (s loop.Socket, a loop.Accepted) {
	r.Helper()
	r.until("a connection", func() bool {
		if !r.last[tokenListener].In {
			return false
		}
		var err error
		if s, a, err = l.Accept(); err != nil && !errors.Is(err, loop.ErrAgain) {
			r.Fatal(err)
		}
		return err == nil
	})
	r.p.Attach(s, tokenServer)
	return s, a
}

func (r *rig) connected(s loop.Socket) {
	r.Helper()
	r.until("connecting", func() bool {
		err := s.(loop.Connecting).ConnectError()
		if err != nil && !errors.Is(err, loop.ErrAgain) {
			r.Fatal(err)
		}
		return err == nil
	})
	s.Want(true, false)
}

// pair returns two connected sockets, tokenClient and tokenServer.
func (r *rig) pair() (client, server loop.Socket) {
	r.Helper()
	l := r.listen()
	client = r.dial(l.Addr())
	server, _ = r.accept(l)
	r.connected(client)
	return client, server
}

func (r *rig) send(s loop.Socket, t loop.Token, p []byte) {
	r.Helper()
	s.Want(true, true)
	r.until("room to write", func() bool {
		for len(p) > 0 {
			n, err := s.Write(p)
			if errors.Is(err, loop.ErrAgain) {
				return false
			}
			if err != nil {
				r.Fatal(err)
			}
			p = p[n:]
		}
		return true
	})
	s.Want(true, false)
}

// recv reads n bytes from t when it is reported.
func (r *rig) recv(s loop.Socket, t loop.Token, n int) []byte {
	r.Helper()
	var got []byte
	r.until("data", func() bool {
		if r.last[t].In {
			got = r.drain(s, got, n)
		}
		return len(got) >= n
	})
	return got
}

func (r *rig) drain(s loop.Socket, got []byte, n int) []byte {
	r.Helper()
	b := make([]byte, n)
	for len(got) < n {
		k, err := s.Read(b[:n-len(got)])
		if errors.Is(err, loop.ErrAgain) {
			return got
		}
		if err != nil {
			r.Fatalf("read after %d bytes: %v", len(got), err)
		}
		got = append(got, b[:k]...)
	}
	return got
}

// ends reads until an error, and wants that one, twice.
func (r *rig) ends(s loop.Socket, t loop.Token, want error) {
	r.Helper()
	b := make([]byte, 4096)
	r.until(want.Error(), func() bool {
		if !r.last[t].In {
			return false
		}
		_, err := s.Read(b)
		if err == nil || errors.Is(err, loop.ErrAgain) {
			return false
		}
		if !errors.Is(err, want) {
			r.Fatalf("read: %v, want %v", err, want)
		}
		return true
	})
	if _, err := s.Read(b); !errors.Is(err, want) {
		r.Fatalf("second read: %v, want %v again", err, want)
	}
}
