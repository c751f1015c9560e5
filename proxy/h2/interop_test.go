package h2

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/head"
)

// shell runs a Conn over a socket: what the worker does, for tests alone.
type shell struct {
	mu   sync.Mutex
	conn net.Conn
	c    *Conn
	on   func(ev Event)
}

func newShell(conn net.Conn, cfg Config) *shell {
	return &shell{conn: conn, c: New(cfg, mono.Now())}
}

// flush writes what may leave; mu is held.
func (s *shell) flush() {
	for s.c.WantsOutput() {
		if _, err := s.conn.Write(s.c.Output(nil, 1<<20)); err != nil {
			return
		}
		for _, _, ok := s.c.Drained(); ok; _, _, ok = s.c.Drained() {
		}
	}
}

func (s *shell) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.flush()
}

func (s *shell) run() {
	buf := make([]byte, 64<<10)
	s.do(func() {})
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return
		}
		s.do(func() {
			s.c.Feed(buf[:n])
			for ev, ok := s.c.Next(mono.Now()); ok; ev, ok = s.c.Next(mono.Now()) {
				s.on(ev)
			}
			s.c.Stash()
		})
	}
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func body(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// TestServerServesNetHTTP echoes bodies and trailers to net/http's client.
func TestServerServesNetHTTP(t *testing.T) {
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s := newShell(conn, Config{})
			s.on = func(ev Event) {
				switch ev.Kind {
				case EventHead:
					h := ok200()
					h.Add([]byte("trailer"), []byte("X-Sum"))
					s.c.SendHead(ev.Stream, h, false)
				case EventData:
					s.c.SendData(ev.Stream, ev.Data, false)
					s.c.Consume(ev.Stream, len(ev.Data))
				}
				if ev.End {
					s.c.SendTrailers(ev.Stream, fields("X-Sum=done"))
				}
			}
			go s.run()
		}
	}()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &protocols}
	defer tr.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			b := body(uint64(i), i*i*9000)
			res, err := tr.RoundTrip(mustRequest(t, "http://"+l.Addr().String()+"/echo", b))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || sha256.Sum256(got) != sha256.Sum256(b) {
				t.Errorf("%d bytes (%v), want %d", len(got), err, len(b))
			}
			if res.Trailer.Get("X-Sum") != "done" {
				t.Errorf("trailers %v", res.Trailer)
			}
		})
	}
	wg.Wait()
}

func mustRequest(t *testing.T, url string, b []byte) *http.Request {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestClientTalksToNetHTTP sends bodies to net/http's server, which echoes them.
func TestClientTalksToNetHTTP(t *testing.T) {
	l := listen(t)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_ = http.NewResponseController(w).EnableFullDuplex()
		n, err := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, err, r.Trailer.Get("X-T")))
	})}
	go srv.Serve(l)
	defer srv.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := newShell(conn, Config{Client: true})
	type answer struct {
		got  bytes.Buffer
		sum  string
		done chan struct{}
	}
	s.on = func(ev Event) {
		if ev.Stream == nil {
			return
		}
		a := ev.Stream.User.(*answer)
		switch ev.Kind {
		case EventData:
			a.got.Write(ev.Data)
			s.c.Consume(ev.Stream, len(ev.Data))
		case EventTrailers:
			a.sum = string(ev.Head.Get("x-sum"))
		case EventReset:
			t.Errorf("reset: %v %s", ev.Code, ev.Reason)
		}
		if ev.End || ev.Kind == EventReset {
			close(a.done)
		}
	}
	go s.run()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			b := body(uint64(i), i*i*9000)
			a := &answer{done: make(chan struct{})}
			h := headOf("POST", "/echo", "trailer=X-T")
			s.do(func() {
				st, err := s.c.Open(h, false, a)
				if err != nil {
					t.Error(err)
					close(a.done)
					return
				}
				s.c.SendData(st, b, false)
				s.c.SendTrailers(st, []head.Field{{Name: []byte("X-T"), Value: []byte("end")}})
			})
			<-a.done
			if !bytes.Equal(a.got.Bytes(), b) || a.sum != fmt.Sprint(len(b), " ", nil, "end") && a.sum != fmt.Sprint(len(b), nil, "end") {
				t.Errorf("%d bytes, want %d; sum %q", a.got.Len(), len(b), a.sum)
			}
		})
	}
	wg.Wait()
}
