package mtls

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// heap is the live heap and the stacks, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// What an idle session costs is bounded: after its handshake, and after it has
// carried full records.
func TestIdleSessionMemory(t *testing.T) {
	if race.Enabled {
		t.Skip("ceilings do not hold under -race")
	}
	const n = 500
	ca := newAuthority(t, "root")
	hc, hs := ca.holder(idWeb), ca.holder(idCart)
	pool := slab.NewPool(nil)
	ends := make([]*Session, 0, 2*n)
	before := heap()
	for range n {
		c := Client(hc, ClientParams{Peer: idCart, ALPN: []string{"tulle/tcp.1"}, Pool: pool})
		s := Server(hs, ServerParams{ALPN: []string{"tulle/tcp.1"}, Pool: pool})
		if cerr, serr := shake(c, s); cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		ends = append(ends, c, s)
	}
	fresh := (heap() - before) / (2 * n)
	echo := func(size int) int64 {
		p := make([]byte, 64<<10)
		for i := 0; i < len(ends); i += 2 {
			for _, d := range [][2]*Session{{ends[i], ends[i+1]}, {ends[i+1], ends[i]}} {
				if err := d[0].Write(p[:size]); err != nil {
					t.Fatal(err)
				}
				d[1].Feed(d[0].Take(nil))
				if got, err := d[1].Read(p); got != size || err != nil {
					t.Fatal(got, err)
				}
			}
		}
		return (heap() - before) / (2 * n)
	}
	small, bulk := echo(1000), echo(48<<10)
	t.Logf("bytes per idle session: fresh %d, after small records %d, after full records %d", fresh, small, bulk)
	if fresh > 16<<10 || small > 16<<10 || bulk > 40<<10 {
		t.Error("more than an idle session may cost")
	}
	runtime.KeepAlive(ends)
}

// BenchmarkHandshake is the CPU of both ends, certificates checked.
func BenchmarkHandshake(b *testing.B) {
	ca := newAuthority(b, "root")
	hc, hs := ca.holder(idWeb), ca.holder(idCart)
	b.ReportAllocs()
	for b.Loop() {
		c := Client(hc, ClientParams{Peer: idCart, ALPN: []string{"tulle/h2.1"}})
		s := Server(hs, ServerParams{ALPN: []string{"tulle/h2.1"}})
		if cerr, serr := shake(c, s); cerr != nil || serr != nil {
			b.Fatal(cerr, serr)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 4 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			pool := slab.NewPool(nil)
			c, _ := pair(b, pool)
			data := make([]byte, size)
			buf := pool.Get(96 << 10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = c.Seal(buf[:0], data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkThroughput is both ends: Write, Take, Feed, Read.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 4 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			pool := slab.NewPool(nil)
			c, s := pair(b, pool)
			data, p := make([]byte, size), make([]byte, 64<<10)
			buf := pool.Get(96 << 10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = c.Seal(buf[:0], data); err != nil {
					b.Fatal(err)
				}
				s.Feed(buf)
				if n, err := s.Read(p); n != size || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
