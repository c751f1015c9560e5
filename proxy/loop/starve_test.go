package loop_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// runProbe is a child process: it makes the worker busy and then measures how
// long a goroutine of its parent takes to answer.
func runProbe(addrs string) {
	worker, goroutine, _ := strings.Cut(addrs, ",")
	w, err := net.Dial("tcp", worker)
	if err != nil {
		panic(err)
	}
	g, err := net.Dial("tcp", goroutine)
	if err != nil {
		panic(err)
	}
	//house:sleep another process cannot be seen going to sleep; if too short, less is tested
	time.Sleep(300 * time.Millisecond) // all of the parent sleeps now
	b := []byte{1}
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	//house:sleep likewise, until the worker is busy
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	if _, err := g.Write(b); err != nil {
		panic(err)
	}
	if _, err := io.ReadFull(g, b); err != nil {
		panic(err)
	}
	fmt.Print(time.Since(start))
	w.Close() // ends the worker's work
}

// busy is a connection that keeps its worker busy from its first byte to its end.
type busy struct {
	w   *loop.Worker
	s   loop.Socket
	on  bool
	end bool
}

func (c *busy) Ready(loop.Ready) {
	n, err := c.s.Read(make([]byte, 1))
	switch {
	case n > 0 && !c.on:
		c.on = true
		c.w.Soon(c)
	case err == io.EOF:
		c.end = true
		c.s.Close(false)
		c.w.Stop()
	}
}

func (c *busy) Run() {
	if !c.end {
		c.w.Soon(c)
	}
}

type acceptOne struct {
	w *loop.Worker
	l loop.Listener
}

func (a *acceptOne) Ready(loop.Ready) {
	if s, _, err := a.l.Accept(); err == nil {
		a.w.Poller().Attach(s, a.w.Register(&busy{w: a.w, s: s}))
	}
}

func TestABusyWorkerLeavesTheNetworkToOtherGoroutines(t *testing.T) {
	for _, procs := range []int{1, 2} {
		t.Run(fmt.Sprint(procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			p, err := loop.NewPoller(loop.EpollConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			w := loop.NewWorker(p, loop.Config{})
			a := &acceptOne{w: w}
			if a.l, err = p.Listen(netip.AddrPortFrom(loopback, 0), loop.ListenOptions{}, w.Register(a)); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() { // ends with the listener
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				io.Copy(c, c)
			}()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), "LOOP_TEST_PROBE="+a.l.Addr().String()+","+l.Addr().String())
			var out strings.Builder
			child.Stdout, child.Stderr = &out, os.Stderr
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			w.Run()
			if err := child.Wait(); err != nil {
				t.Fatal(err)
			}
			d, err := time.ParseDuration(out.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("answered after %s", d)
			if d > 2*time.Second {
				t.Errorf("a goroutine waited %s for the network", d)
			}
		})
	}
}
