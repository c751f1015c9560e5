package h1

import (
	"fmt"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

func BenchmarkParseRequest(b *testing.B) {
	for _, n := range []int{1, 8, 32, 128} {
		in := []byte(lines("GET /api/v1/items/42?expand=owner HTTP/1.1", "Host: web.default.svc.cluster.local:8080"+
			repeat("\r\nX-Request-Id: 5f2b6c0e9d3a4f1b8c7e6d5a4b3c2d1e", n-1)))
		b.Run(fmt.Sprintf("fields=%d", n), func(b *testing.B) {
			var h head.Head
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if n, err := ParseRequest(in, Limits{}, &h); n == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkExchange(b *testing.B) {
	for _, c := range []struct {
		name string
		role Role
		in   string
	}{
		{"request", Server, typicalRequest},
		{"response", Client, typicalResponse},
		{"chunked", Client, chunkedResponse},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := NewParser(c.role, Limits{}, slab.NewPool(nil))
			in, out := []byte(c.in), make([]byte, 0, 4096)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				out = exchange(b, p, in, 0, out)
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("chunk=%d", size), func(b *testing.B) {
			in := []byte(chunkedResponse[:0] + res("Transfer-Encoding: chunked"))
			for range 64 << 10 / size {
				in = AppendChunk(in, make([]byte, size))
			}
			in = AppendLastChunk(in, nil)
			p := NewParser(Client, Limits{}, slab.NewPool(nil))
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				p.Feed(in)
				for {
					ev, ok := p.Next()
					if !ok {
						break
					}
					if ev.Kind == EventEnd {
						p.NextMessage(Expect{})
					}
				}
				p.Stash()
			}
		})
	}
}

// BenchmarkDribble is a head that comes byte by byte: its time per byte does not
// depend on its size.
func BenchmarkDribble(b *testing.B) {
	for _, kib := range []int{1, 8, 60} {
		b.Run(fmt.Sprintf("KiB=%d", kib), func(b *testing.B) {
			in := []byte(lines("GET / HTTP/1.1", "Host: a", "X: "+repeat("x", kib<<10)))
			p := NewParser(Server, Limits{}, slab.NewPool(nil))
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				for i := range in {
					p.Feed(in[i : i+1])
					for {
						ev, ok := p.Next()
						if !ok {
							break
						}
						if ev.Kind == EventEnd {
							p.NextMessage(Expect{})
						}
					}
					p.Stash()
				}
			}
		})
	}
}
