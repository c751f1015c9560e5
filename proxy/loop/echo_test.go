package loop_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// load is what a child process of BenchmarkEcho does, so that its CPU does not
// count.
type load struct {
	Addr     string
	Conns    int
	Requests int
	Rate     int // per second over all connections; 0: as fast as they come back
	Size     int
}

func runLoad(s string) {
	var l load
	if err := json.Unmarshal([]byte(s), &l); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for i := range l.Conns {
		wg.Go(func() {
			if err := l.client(i); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
}

func (l *load) client(i int) error {
	c, err := net.Dial("tcp", l.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, l.Size)
	start := time.Now()
	for n := i; n < l.Requests; n += l.Conns {
		if l.Rate > 0 {
			//house:sleep the schedule of an open-loop load
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(l.Rate))))
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
	}
	return nil
}

// echoServer echoes on a worker.
type echoServer struct {
	w   *loop.Worker
	l   loop.Listener
	buf []byte
}

func (e *echoServer) Ready(loop.Ready) {
	for {
		s, _, err := e.l.Accept()
		if err != nil {
			return
		}
		c := &echoConn{e: e, s: s}
		c.token = e.w.Register(c)
		e.w.Poller().Attach(s, c.token)
	}
}

type echoConn struct {
	e     *echoServer
	s     loop.Socket
	token loop.Token
}

func (c *echoConn) Ready(loop.Ready) {
	n, err := c.s.Read(c.e.buf)
	if err == nil {
		_, err = c.s.Write(c.e.buf[:n]) // small: it always fits
	}
	if err != nil && !errors.Is(err, loop.ErrAgain) {
		c.e.w.Unregister(c.token)
		c.s.Close(false)
	}
}

func serveWorker(b *testing.B, p loop.Poller) (addr string, stop func()) {
	w := loop.NewWorker(p, loop.Config{})
	e := &echoServer{w: w, buf: make([]byte, 64<<10)}
	var err error
	if e.l, err = p.Listen(netip.AddrPortFrom(loopback, 0), loop.ListenOptions{}, w.Register(e)); err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { w.Run(); close(ended) }()
	return e.l.Addr().String(), func() {
		w.Stop()
		<-ended
		p.Close()
	}
}

// serveGoroutines is the ordinary way: a goroutine per connection.
func serveGoroutines(b *testing.B) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				buf := make([]byte, 4<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String(), func() { l.Close(); wg.Wait() }
}

func BenchmarkEcho(b *testing.B) {
	servers := []struct {
		name  string
		start func(b *testing.B) (string, func())
	}{{"net", serveGoroutines}}
	for _, m := range makers() {
		if m.name == "epoll" || m.name == "epoll-parked" || m.name == "goroutines" {
			servers = append(servers, struct {
				name  string
				start func(b *testing.B) (string, func())
			}{m.name, func(b *testing.B) (string, func()) {
				p, _ := m.make(nil)
				return serveWorker(b, p)
			}})
		}
	}
	for _, l := range []load{
		{Conns: 50, Size: 256}, {Conns: 50, Size: 256, Rate: 2000}, {Conns: 1, Size: 256}, {Conns: 1, Size: 256, Rate: 500},
	} {
		for _, s := range servers {
			b.Run(fmt.Sprintf("conns=%d/rate=%d/%s", l.Conns, l.Rate, s.name), func(b *testing.B) {
				addr, stop := s.start(b)
				defer stop()
				l.Addr, l.Requests = addr, b.N
				spec, err := json.Marshal(l)
				if err != nil {
					b.Fatal(err)
				}
				child := exec.Command(os.Args[0])
				child.Env = append(os.Environ(), "LOOP_TEST_LOAD="+string(spec))
				child.Stderr = os.Stderr
				before := cpu()
				b.ResetTimer()
				if err := child.Run(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
