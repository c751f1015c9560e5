package traffic

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/shop"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestQuantilesAreOnePercentRight(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := 1; i <= 10_000; i++ {
		h.Add(time.Duration(i) * 100 * time.Microsecond) // 0.1 ms to 1 s
	}
	for _, q := range []float64{0.01, 0.5, 0.95, 0.99, 1} {
		want := q * float64(time.Second)
		if got := float64(h.Quantile(q)); math.Abs(got-want)/want > 0.01 {
			t.Errorf("quantile %g is %v, want %v ± 1 %%", q, time.Duration(got), time.Duration(want))
		}
	}
	h.Add(0)
	h.Add(time.Hour) // outside on both sides: counted, not lost
	if h.n != 10_002 {
		t.Errorf("%d counted", h.n)
	}
}

func generator(t *testing.T, cfg Config) *Generator {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// service serves h and returns its address.
func service(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestTheLoopIsOpen(t *testing.T) {
	const wait = 50 // so many must arrive before one is answered
	arrived, all := make(chan struct{}, 1000), make(chan struct{})
	addr := service(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-all })
	go func() { // ends with the 50th request, or with the test's time
		defer close(all)
		for range wait {
			select {
			case <-arrived:
			case <-time.After(20 * time.Second):
				t.Errorf("fewer than %d requests were sent while none was answered", wait)
				return
			}
		}
	}()
	g := generator(t, Config{Edges: []Edge{{Service: shop.Payments, Addr: addr, Rate: 200}}, Duration: 500 * time.Millisecond, Timeout: time.Minute})
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsDueWhileTooManyAreOpenIsCountedAsSkipped(t *testing.T) {
	release := make(chan struct{})
	addr := service(t, func(http.ResponseWriter, *http.Request) { <-release })
	g := generator(t, Config{Edges: []Edge{{Service: shop.Payments, Addr: addr, Rate: 100}}, Duration: 300 * time.Millisecond, Open: 1})
	time.AfterFunc(400*time.Millisecond, func() { close(release) })
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := g.Summary().Services[0]
	if s.Requests != 1 || s.Skipped < 10 {
		t.Errorf("%d sent and %d skipped, want 1 and the rest of 30", s.Requests, s.Skipped)
	}
}

// TestNothingIsRepeated meets a server that reads a second request and breaks off, for which
// net/http would send a GET again by itself.
func TestNothingIsRepeated(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { // ends with the connection
				defer c.Close()
				in := bufio.NewReader(c)
				for n := range 2 {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if len(req.TransferEncoding) != 0 || req.ContentLength != 0 {
						t.Errorf("a GET came with a body: %v, %d", req.TransferEncoding, req.ContentLength)
					}
					mu.Lock()
					ids[req.Header.Get(shop.RequestID)]++
					mu.Unlock()
					if n == 0 {
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
					}
				}
			})
		}
	})
	defer wg.Wait()
	defer ln.Close()
	g := generator(t, Config{Edges: []Edge{{Service: shop.Web, Addr: ln.Addr().String(), Rate: 50}}, Duration: 400 * time.Millisecond})
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := g.Summary().Services[0]
	if s.OK == s.Requests {
		t.Fatal("no connection was used twice: the test shows nothing")
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range ids {
		if n > 1 {
			t.Errorf("request %s was sent %d times", id, n)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, e := range map[string]Edge{
		`traffic to "catalog"`: {Service: shop.Catalog, Rate: 1},
		"rate 0":               {Service: shop.Web},
	} {
		if _, err := New(Config{Edges: []Edge{e}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("edge %+v: error %v, want one about %s", e, err, want)
		}
	}
}

// shopLog counts the requests of one service's instances by id.
type shopLog struct {
	mu  sync.Mutex
	ids map[string]int
	n   int
}

func (l *shopLog) Write(p []byte) (int, error) {
	var r shop.Record
	if err := json.Unmarshal(p, &r); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids[r.ID]++
	l.n++
	return len(p), nil
}

// TestBothEndsAgree runs the whole shop without a mesh and counts every request at both ends.
func TestBothEndsAgree(t *testing.T) {
	logs := map[string]*shopLog{}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	serve := func(service string, settings shop.Settings, part func(*shop.Instance, context.Context, net.Listener) error) string {
		logs[service] = &shopLog{ids: map[string]int{}}
		i, err := shop.New(shop.Config{Service: service, Name: service + "-1", Settings: settings, Log: logs[service]})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { // ends with stop
			if err := part(i, ctx, ln); err != nil {
				t.Errorf("%s: %v", service, err)
			}
		})
		return ln.Addr().String()
	}
	catalog := serve(shop.Catalog, shop.Settings{}, (*shop.Instance).ServeCatalog)
	store := serve(shop.Store, shop.Settings{}, (*shop.Instance).ServeStore)
	edges := []Edge{
		{Service: shop.Web, Rate: 100, Addr: serve(shop.Web, shop.Settings{}, func(i *shop.Instance, ctx context.Context, ln net.Listener) error {
			return i.ServeWeb(ctx, ln, catalog)
		})},
		{Service: shop.Cart, Rate: 50, Addr: serve(shop.Cart, shop.Settings{}, func(i *shop.Instance, ctx context.Context, ln net.Listener) error {
			return i.ServeCart(ctx, ln, store)
		})},
		{Service: shop.Payments, Rate: 50, Addr: serve(shop.Payments, shop.Settings{Fail: 0.2}, (*shop.Instance).ServePayments)},
		{Service: shop.Feed, Rate: 5, Addr: serve(shop.Feed, shop.Settings{}, (*shop.Instance).ServeFeed)},
	}
	var log bytes.Buffer
	g := generator(t, Config{Edges: edges, Duration: time.Second, Session: 200 * time.Millisecond, Log: &log})
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	wg.Wait()

	sum := g.Summary()
	if len(sum.Services) != 6 {
		t.Fatalf("summary of %d services, want all 6: %+v", len(sum.Services), sum)
	}
	for _, s := range sum.Services {
		served := logs[s.Service]
		if int(s.Requests) != served.n || s.Requests == 0 {
			t.Errorf("%s: the generator knows of %d requests, the service answered %d", s.Service, s.Requests, served.n)
		}
		if s.Instances[s.Service+"-1"] != s.Requests {
			t.Errorf("%s: answered by %v", s.Service, s.Instances)
		}
		failed := int64(0)
		if s.Service == shop.Payments {
			failed = s.Requests / 5
		}
		if s.Requests-s.OK != failed {
			t.Errorf("%s: %d of %d requests failed (%v), want %d", s.Service, s.Requests-s.OK, s.Requests, s.Errors, failed)
		}
		for id, n := range served.ids {
			if n != 1 || id == "" {
				t.Errorf("%s saw the request id %q %d times", s.Service, id, n)
			}
		}
	}
	sent := 0
	for line := range strings.Lines(log.String()) {
		var r shop.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		sent++
		if logs[r.Service].ids[r.ID] != 1 {
			t.Errorf("%s: request %s is in the generator's log and not in the service's", r.Service, r.ID)
		}
	}
	if total := logs[shop.Web].n + logs[shop.Cart].n + logs[shop.Payments].n + logs[shop.Feed].n; sent != total {
		t.Errorf("%d lines in the generator's log, want %d", sent, total)
	}
	if t.Failed() {
		fmt.Println(log.String())
	}
}
