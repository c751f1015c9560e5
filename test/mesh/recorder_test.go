package mesh

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// recorder stands between the two proxies, as a switch in the network would,
// and looks for markers in what passes by.
type recorder struct {
	w    *world
	open sync.WaitGroup

	mu      sync.Mutex // guards the rest
	markers [][]byte
	seen    map[string]int
	conns   map[net.Conn]bool
	closed  bool

	bytes [2]atomic.Int64 // toward the server, toward the client
}

// record listens at the recorder's address for every slot.
func (w *world) record() *recorder {
	r := &recorder{w: w, seen: map[string]int{}, conns: map[net.Conn]bool{}}
	var ls []net.Listener
	for i := range w.slots {
		l, err := net.Listen("tcp", addrPort(w.net+"3", slotPort(i)).String())
		ok(w.t, err)
		ls = append(ls, l)
		r.open.Go(func() { r.accept(l, addrPort(w.net+"4", slotPort(i)).String()) }) // ends with l
	}
	w.t.Cleanup(func() {
		for _, l := range ls {
			l.Close()
		}
		r.mu.Lock()
		r.closed = true
		for c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.open.Wait()
	})
	return r
}

func (r *recorder) accept(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.open.Go(func() { r.join(c, to) }) // ends with the connections
	}
}

func (r *recorder) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *recorder) drop(c net.Conn) {
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	c.Close()
}

func (r *recorder) join(a net.Conn, to string) {
	if !r.keep(a) {
		return
	}
	defer r.drop(a)
	b, err := net.Dial("tcp", to)
	if err != nil || !r.keep(b) {
		a.(*net.TCPConn).SetLinger(0)
		return
	}
	defer r.drop(b)
	var both sync.WaitGroup
	both.Go(func() { r.pass(b, a, 0) })
	both.Go(func() { r.pass(a, b, 1) })
	both.Wait()
}

// overlap is longer than any marker: one may lie across two reads.
const overlap = 63

// pass copies src to dst, ends as src does, and looks at every byte.
func (r *recorder) pass(dst, src net.Conn, dir int) {
	buf := make([]byte, overlap+32<<10)
	kept := 0
	for {
		n, err := src.Read(buf[kept:])
		if n > 0 {
			r.bytes[dir].Add(int64(n))
			r.look(buf[:kept+n])
			if _, werr := dst.Write(buf[kept : kept+n]); werr != nil {
				_ = src.(*net.TCPConn).SetLinger(0) // passed on as well as can be
				src.Close()
				return
			}
			end := kept + n
			kept = copy(buf, buf[max(0, end-overlap):end])
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_ = dst.(*net.TCPConn).CloseWrite() // it may be gone
			return
		default:
			if errors.Is(err, syscall.ECONNRESET) {
				_ = dst.(*net.TCPConn).SetLinger(0)
			}
			dst.Close()
			return
		}
	}
}

func (r *recorder) look(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.markers {
		if bytes.Contains(p, m) {
			r.seen[string(m)]++
		}
	}
}

// watch adds a marker to look for.
func (r *recorder) watch(m string) {
	if len(m) > overlap {
		panic("BUG: a marker that may lie across more than two reads")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.markers = append(r.markers, []byte(m))
}

// saw tells how often a marker passed.
func (r *recorder) saw(m string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[m]
}
