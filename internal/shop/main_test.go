package shop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/shop"
)

func TestMain(m *testing.M) { leak.Main(m) }

// running is an instance that a test started.
type running struct {
	*shop.Instance
	addr string
	log  *lines
	stop func() // ends it and waits; fails the test when it ends with an error
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) records(t *testing.T) []shop.Record {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []shop.Record
	for line := range strings.Lines(l.buf.String()) {
		var r shop.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

type part func(*shop.Instance, context.Context, net.Listener) error

func to(f func(*shop.Instance, context.Context, net.Listener, string) error, addr string) part {
	return func(i *shop.Instance, ctx context.Context, ln net.Listener) error { return f(i, ctx, ln, addr) }
}

func start(t *testing.T, cfg shop.Config, p part) *running {
	t.Helper()
	log := &lines{}
	cfg.Log = log
	i, err := shop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p(i, ctx, ln) }() // ends with stop
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s ended with %v", i.Name(), err)
		}
	})
	t.Cleanup(stop)
	return &running{Instance: i, addr: ln.Addr().String(), log: log, stop: stop}
}

// client is an HTTP client whose connections end with the test.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func do(t *testing.T, c *http.Client, method, url, id string) (int, shop.Answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(shop.RequestID, id)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a shop.Answer
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatalf("%s %s: body %q: %v", method, url, raw, err)
	}
	return res.StatusCode, a
}
