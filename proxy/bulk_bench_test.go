package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// bulk is what one turn of BenchmarkBulk carries, in bytes.
const bulk = 16 << 20

// bulkHandler takes a body and sends one of the length that the query asks for.
func bulkHandler(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the client sees what is missing
	var n int
	_, _ = fmt.Sscan(r.URL.RawQuery, &n) // none: nothing is sent
	rw.Header().Set("Content-Length", fmt.Sprint(n))
	piece := make([]byte, 64<<10)
	for ; n > 0; n -= len(piece) {
		if _, err := rw.Write(piece[:min(n, len(piece))]); err != nil {
			return
		}
	}
}

// zeros is a body of n bytes.
type zeros int

// Read implements io.Reader.
func (z *zeros) Read(p []byte) (int, error) {
	if *z == 0 {
		return 0, io.EOF
	}
	n := min(len(p), int(*z))
	*z -= zeros(n)
	return n, nil
}

// BenchmarkBulk is one long body after the other through two proxies with mutual TLS.
func BenchmarkBulk(b *testing.B) {
	for _, h2 := range []bool{false, true} {
		for _, up := range []bool{false, true} {
			b.Run(map[bool]string{false: "http1", true: "http2"}[h2]+map[bool]string{false: "/down", true: "/up"}[up], func(b *testing.B) {
				bulkHTTP(b, h2, up)
			})
		}
	}
	b.Run("tcp/down", bulkTCP)
}

func bulkHTTP(b *testing.B, h2, up bool) {
	l := listen(b)
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	srv := &http.Server{Handler: http.HandlerFunc(bulkHandler), Protocols: p}
	go srv.Serve(l) // ends with the server
	defer srv.Close()
	tr := &http.Transport{Protocols: p}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	url := "http://" + pair(b, addrOf(l)).String() + "/?"
	b.SetBytes(bulk)
	for b.Loop() {
		var err error
		var resp *http.Response
		if z := zeros(bulk); up {
			resp, err = c.Post(url+"0", "x/y", &z)
		} else {
			resp, err = c.Get(url + fmt.Sprint(bulk))
		}
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || !up && n != bulk {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
}

func bulkTCP(b *testing.B) {
	l := listen(b)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				r, piece := bufio.NewReader(c), make([]byte, 64<<10)
				for {
					if _, err := r.ReadByte(); err != nil {
						return
					}
					for range bulk / len(piece) {
						if _, err := c.Write(piece); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	c, err := net.Dial("tcp", pair(b, addrOf(l)).String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.SetBytes(bulk)
	for b.Loop() {
		if _, err := c.Write([]byte("\x00")); err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, c, bulk); err != nil {
			b.Fatal(err)
		}
	}
}
