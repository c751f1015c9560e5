package hop

import (
	"testing"

	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/head"
)

const benchRequest = "GET /catalog/items?page=2 HTTP/1.1\r\nHost: catalog.shop:80\r\nUser-Agent: Go-http-client/1.1\r\n" +
	"Accept: application/json\r\nX-Request-Id: 0af7651916cd43dd8448eb211c80319c\r\nAccept-Encoding: gzip\r\n\r\n"

func BenchmarkAppendHTTP1(b *testing.B) {
	h, err := read([]byte(benchRequest), h1.Expect{})
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendHTTP1(buf[:0], h)
	}
}

func BenchmarkRestore(b *testing.B) {
	h, err := read([]byte(benchRequest), h1.Expect{})
	if err != nil {
		b.Fatal(err)
	}
	crossing := overHTTP2(h, AppendHTTP1(nil, h))
	var buf []byte
	var out head.Head
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = Restore(buf[:0], crossing, h1.Limits{}, &out); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParse is the parser's share of BenchmarkRestore.
func BenchmarkParse(b *testing.B) {
	var out head.Head
	raw := []byte(benchRequest)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h1.ParseRequest(raw, h1.Limits{}, &out); err != nil {
			b.Fatal(err)
		}
	}
}
