package mesh

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func deadline(testing.TB) time.Time { return time.Now().Add(limit()) }

// serveTCP calls f for every connection, each in a goroutine, until the test ends.
func serveTCP(t testing.TB, l net.Listener, f func(c *net.TCPConn)) {
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() { // ended by the cleanup
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() { // ends with the connection
				f(c.(*net.TCPConn))
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

// raw is one end of a connection that a test plays byte by byte.
type raw struct {
	t testing.TB
	*net.TCPConn

	r *bufio.Reader
	// last is the head that was read last.
	last string
}

func newRaw(t testing.TB, c *net.TCPConn) *raw {
	ok(t, c.SetDeadline(deadline(t)))
	t.Cleanup(func() { c.Close() })
	return &raw{t: t, TCPConn: c, r: bufio.NewReader(c)}
}

func (r *raw) send(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r.TCPConn, s); err != nil {
		r.t.Fatalf("send %.60q: %v", s, err)
	}
}

// head reads up to and with the empty line.
func (r *raw) head() string {
	r.t.Helper()
	var s strings.Builder
	for {
		line, err := r.r.ReadString('\n')
		s.WriteString(line)
		if err != nil {
			r.t.Fatalf("%v after %q", err, s.String())
		}
		if line == "\r\n" {
			r.last = s.String()
			return r.last
		}
	}
}

// want reads exactly s.
func (r *raw) want(s string) {
	r.t.Helper()
	b := make([]byte, len(s))
	n, err := io.ReadFull(r.r, b)
	if err != nil || string(b) != s {
		r.t.Fatalf("got %q (%v), want %q", b[:n], err, s)
	}
}

// wantEOF reads the end.
func (r *raw) wantEOF() {
	r.t.Helper()
	if b, err := io.ReadAll(r.r); err != nil || len(b) != 0 {
		r.t.Fatalf("got %q, %v; want the end", b, err)
	}
}

// wantEOFOrReset reads the end, however it comes.
func (r *raw) wantEOFOrReset() {
	r.t.Helper()
	if _, err := io.Copy(io.Discard, r.r); err != nil && !isReset(err) {
		r.t.Fatalf("got %v, want the end", err)
	}
}

// wantReset reads on until the connection breaks; an end is not a reset.
func (r *raw) wantReset() {
	r.t.Helper()
	_, err := io.Copy(io.Discard, r.r)
	if err == nil || !isReset(err) {
		r.t.Fatalf("got %v, want a reset", err)
	}
}

func isReset(err error) bool { return strings.Contains(err.Error(), "connection reset") }

// reset closes with a RST.
func (r *raw) reset() {
	r.t.Helper()
	ok(r.t, r.SetLinger(0))
	ok(r.t, r.Close())
}

// chunked reads a chunked body and its trailers, as they came.
func (r *raw) chunked() (body, trailers string) {
	r.t.Helper()
	var b strings.Builder
	for {
		line, err := r.r.ReadString('\n')
		ok(r.t, err)
		var n int64
		if _, err := fmt.Sscanf(line, "%x\r\n", &n); err != nil {
			r.t.Fatalf("chunk size %q: %v", line, err)
		}
		if n == 0 {
			return b.String(), r.head()
		}
		_, err = io.CopyN(&b, r.r, n)
		ok(r.t, err)
		r.want("\r\n")
	}
}

// wire is a slot with both ends in a test's hands.
type wire struct {
	t        testing.TB
	dial     string
	accepted chan *net.TCPConn
}

func newWire(t testing.TB, w *world) *wire {
	dial, l := w.listen(t)
	x := &wire{t: t, dial: dial, accepted: make(chan *net.TCPConn, 100)}
	done := make(chan struct{})
	go func() { // ends with l
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.accepted <- c.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return x
}

func (x *wire) client() *raw { x.t.Helper(); return newRaw(x.t, connect(x.t, x.dial)) }

// app waits for the application's next connection that says something. One that ends without a
// byte was the search for a server that speaks first (R2.5): the client was slow.
func (x *wire) app() *raw {
	x.t.Helper()
	for {
		a := x.bare()
		if _, err := a.r.Peek(1); err == nil || !errors.Is(err, io.EOF) {
			return a
		}
		a.Close()
	}
}

// bare waits for the application's next connection.
func (x *wire) bare() *raw {
	x.t.Helper()
	select {
	case c := <-x.accepted:
		return newRaw(x.t, c)
	case <-time.After(long):
		x.t.Fatal("nothing reaches the application")
		return nil
	}
}

// quiet reports an error when the application is told anything within d.
func (x *wire) quiet(d time.Duration) {
	x.t.Helper()
	select {
	case c := <-x.accepted:
		if b, err := io.ReadAll(c); len(b) != 0 {
			x.t.Errorf("the application got %q, %v", b, err)
		}
		c.Close()
	case <-time.After(d):
	}
}
