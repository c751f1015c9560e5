package proxy_test

import (
	"bytes"
	"io"
	"net"
	"testing"
)

const (
	benchRequest = "GET /api/v1/items/42?expand=owner HTTP/1.1\r\nHost: web.default.svc.cluster.local:8080\r\n" +
		"User-Agent: bench/1.0\r\nAccept: application/json, text/plain, */*\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"X-Request-Id: 5f2b6c0e9d3a4f1b8c7e6d5a4b3c2d1e\r\nAuthorization: Bearer abcdefghijklmnop\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: x\r\nContent-Length: 16\r\n\r\n0123456789abcdef"
)

// canned answers every request with the same bytes and allocates nothing per request.
func canned(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the connection
			defer c.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				for range bytes.Count(buf[:n], []byte("\r\n\r\n")) {
					if _, err := io.WriteString(c, benchResponse); err != nil {
						return
					}
				}
			}
		}()
	}
}

// BenchmarkHTTP1 is one request after the other over one connection through two
// proxies with mutual TLS.
func BenchmarkHTTP1(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go canned(l) // ends with the listener
	c, err := net.Dial("tcp", pair(b, addrOf(l)).String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, len(benchResponse))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(c, benchRequest); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}
