package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func addrOf(l net.Listener) netip.AddrPort { return netip.MustParseAddrPort(l.Addr().String()) }

func serveHTTP(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l := listen(t)
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: p}
	go srv.Serve(l) // ended by Close
	t.Cleanup(func() { srv.Close() })
	return addrOf(l)
}

func h2Client() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p}}
}

func TestHTTP2ThroughTwoProxies(t *testing.T) {
	app := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("proto %s", r.Proto)
		}
		w.Header().Set("Trailer", "X-Sum")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n))
	})
	addr := pair(t, app)
	c := h2Client()
	body := make([]byte, 5<<20)
	rand.Read(body)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			resp, err := c.Post("http://"+addr.String()+"/", "x/y", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) || resp.Trailer.Get("X-Sum") != fmt.Sprint(len(body)) {
				t.Errorf("%v, %d bytes, trailer %q", err, len(got), resp.Trailer.Get("X-Sum"))
			}
		})
	}
	wg.Wait()
}

func TestManyConcurrentHTTP1(t *testing.T) {
	app := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })
	addr := pair(t, app)
	tr := &http.Transport{MaxIdleConnsPerHost: 200}
	c := &http.Client{Transport: tr}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			for j := range 10 {
				want := fmt.Sprintf("/%d/%d", i, j)
				resp, err := c.Get("http://" + addr.String() + want)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(b) != want {
					t.Errorf("%v %q want %q", err, b, want)
				}
			}
		})
	}
	wg.Wait()
	tr.CloseIdleConnections()
}

func TestServerSpeaksFirst(t *testing.T) {
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, "220 hello\r\n")
				io.Copy(c, c)
			}()
		}
	}()
	addr := pair(t, addrOf(l))
	began := time.Now()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil || line != "220 hello\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	t.Log("banner after", time.Since(began))
	body := make([]byte, 4<<20)
	rand.Read(body)
	go func() { c.Write(body); c.(*net.TCPConn).CloseWrite() }()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// R3.3: an upgrade is a tunnel, early bytes and half-close included, also when
// the request says that it has no body (as Kubernetes' exec does).
func TestUpgradeIsATunnel(t *testing.T) {
	for name, extra := range map[string]string{"bare": "", "empty body": "Content-Length: 0\r\n"} {
		t.Run(name, func(t *testing.T) { upgrade(t, extra) })
	}
}

func upgrade(t *testing.T, extra string) {
	l := listen(t)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || req.Header.Get("Upgrade") != "chat" || req.Header.Get("Connection") != "Upgrade" {
			t.Errorf("%v %v", err, req)
		}
		io.WriteString(c, "HTTP/1.1 101 Here We Go\r\nUpgrade: chat\r\nConnection: Upgrade\r\nX-aB: c\r\n\r\nearly")
		io.Copy(c, c)
	}()
	addr := pair(t, addrOf(l))
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /chat HTTP/1.1\r\nHost: x\r\nUpgrade: chat\r\n"+extra+"Connection: Upgrade\r\n\r\n")
	r := bufio.NewReader(c)
	head := ""
	for {
		s, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(head, err)
		}
		head += s
		if s == "\r\n" {
			break
		}
	}
	if want := "HTTP/1.1 101 Here We Go\r\nUpgrade: chat\r\nX-aB: c\r\nConnection: Upgrade\r\n\r\n"; head != want {
		t.Errorf("%q, want %q", head, want)
	}
	body := make([]byte, 2<<20)
	rand.Read(body)
	go func() { c.Write(body); c.(*net.TCPConn).CloseWrite() }()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, append([]byte("early"), body...)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestNoEndpointSaysWhy(t *testing.T) {
	app := netip.MustParseAddrPort("127.0.0.1:1") // nobody listens
	addr := pair(t, app)
	resp, err := http.Get("http://" + addr.String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("status %s", resp.Status)
	}
	t.Log(resp.Header.Get("tulle-proxy-error"))
}

func TestStoppedReader(t *testing.T) {
	app := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1<<16)
		for range 1024 {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	addr := pair(t, app)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String(), nil)
	resp, err := h2Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) //house:sleep a reader that stops is what is tested
	n, err := io.Copy(io.Discard, resp.Body)
	if n != 64<<20 || err != nil {
		t.Fatal(n, err)
	}
}
