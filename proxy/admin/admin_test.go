package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/proxy/admin"
	"github.com/tulle-mesh/tulle/proxy/admin/probe"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

func TestMain(m *testing.M) { leak.Main(m) }

type shown struct{ err error }

func (s shown) Targets(context.Context) (any, error) { return []string{"web.shop:80"}, s.err }
func (s shown) Endpoints(context.Context) (any, error) {
	return map[string]int{"10.0.0.1:80": 1}, s.err
}
func (s shown) Policies(context.Context) (any, error) { return nil, s.err }

func config() admin.Config {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewCollector(func() []*metrics.Snapshot {
		return []*metrics.Snapshot{metrics.NewStore().Snapshot()}
	}))
	return admin.Config{
		Log: zap.NewNop(), Gatherer: r, Debug: shown{}, Health: admin.NewHealth(time.Now),
	}
}

type call struct {
	method, path, from, host string
	header                   bool
}

func (c call) do(cfg admin.Config) (int, string) {
	r := httptest.NewRequest(c.method, "http://127.0.0.1:4191"+c.path, nil)
	r.RemoteAddr = c.from
	if c.host != "" {
		r.Host = c.host
	}
	if c.header {
		r.Header.Set(admin.ShutdownHeader, "1")
	}
	w := httptest.NewRecorder()
	admin.Handler(cfg).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

const (
	near  = "127.0.0.1:5000"
	near6 = "[::1]:5000"
	far   = "10.1.2.3:5000"
)

func TestOffLoopbackOnlyHealthAndMetrics(t *testing.T) { // R12.5
	cfg := config()
	cfg.Health.Certified(time.Now().Add(time.Hour))
	for _, c := range []admin.Condition{admin.Discovery, admin.Policy, admin.Listeners} {
		cfg.Health.Met(c)
	}
	cfg.Shutdown = func() { t.Error("the proxy was asked to end") }
	for _, c := range []struct {
		call
		want int
	}{
		{call{method: "GET", path: "/live", from: far}, 200},
		{call{method: "GET", path: "/ready", from: far}, 200},
		{call{method: "GET", path: "/metrics", from: far}, 200},
		{call{method: "GET", path: "/", from: far}, 403},
		{call{method: "GET", path: "/debug/pprof/", from: far}, 403},
		{call{method: "GET", path: "/debug/pprof/heap", from: far}, 403},
		{call{method: "GET", path: "/debug/targets", from: far}, 403},
		{call{method: "GET", path: "/debug/endpoints", from: far}, 403},
		{call{method: "GET", path: "/debug/policies", from: far}, 403},
		{call{method: "GET", path: "/metrics/../debug/targets", from: far}, 403},
		{call{method: "GET", path: "//debug/targets", from: far}, 403},
		{call{method: "POST", path: "/shutdown", from: far, header: true}, 403},
		{call{method: "POST", path: "/ready", from: far}, 403},
		{call{method: "GET", path: "/debug/targets", from: ""}, 403},
		{call{method: "GET", path: "/debug/targets", from: "127.0.0.1.example:80"}, 403},
		{call{method: "GET", path: "/debug/targets", from: near}, 200},
		{call{method: "GET", path: "/debug/endpoints", from: near6}, 200},
		{call{method: "GET", path: "/debug/policies", from: "[::ffff:127.0.0.1]:5"}, 200},
		{call{method: "GET", path: "/debug/pprof/", from: near}, 200},
		{call{method: "GET", path: "/debug/pprof/heap", from: near}, 200},
		{call{method: "GET", path: "/debug/targets", from: near, host: "localhost:4191"}, 200},
		{call{method: "GET", path: "/debug/targets", from: near, host: "[::1]:4191"}, 200},
		// A page's own name, which resolves to loopback.
		{call{method: "GET", path: "/debug/targets", from: near, host: "evil.example:4191"}, 403},
		{call{method: "GET", path: "/nothing", from: near}, 404},
	} {
		got, body := c.do(cfg)
		if got != c.want && !(c.want == 403 && got == 307 && !strings.Contains(body, "web.shop")) {
			t.Errorf("%s %s from %q, host %q: %d, want %d", c.method, c.path, c.from, c.host, got, c.want)
		}
	}
}

// TestProbesAreServedToEverybody: the kubelet of the node asks, and no policy applies to it.
func TestProbesAreServedToEverybody(t *testing.T) { // R9.3, R12.5
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "agent "+r.UserAgent(), http.StatusTeapot)
	}))
	defer app.Close()
	at := netip.MustParseAddrPort(app.Listener.Addr().String())
	probes, err := probe.New(probe.Set{"web/readiness": {HTTP: &probe.HTTP{Port: at.Port()}}}, []netip.Addr{at.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	for _, c := range []struct {
		path   string
		probes *probe.Prober
		want   int
		body   string
	}{
		{"/probe/web/readiness", probes, http.StatusTeapot, "agent \n"},
		{"/probe/web/liveness", probes, http.StatusNotFound, "the pod was injected without this probe\n"},
		{"/probe/web", probes, http.StatusForbidden, "from loopback only\n"},
		{"/probe/web/readiness", nil, http.StatusForbidden, "from loopback only\n"},
	} {
		cfg.Probes = c.probes
		if status, body := (call{method: "GET", path: c.path, from: far}).do(cfg); status != c.want || body != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.path, status, body, c.want, c.body)
		}
	}
}

func TestShutdownIsOffUnlessAskedFor(t *testing.T) { // R11.3
	cfg := config()
	post := call{method: "POST", path: "/shutdown", from: near, header: true}
	if got, _ := post.do(cfg); got != http.StatusNotFound {
		t.Errorf("by default: %d, want 404", got)
	}
	ended := 0
	cfg.Shutdown = func() { ended++ }
	for _, c := range []struct {
		call
		want int
	}{
		{call{method: "POST", path: "/shutdown", from: near}, 403},
		{call{method: "GET", path: "/shutdown", from: near, header: true}, 405},
		{call{method: "POST", path: "/shutdown", from: far, header: true}, 403},
		{call{method: "POST", path: "/shutdown", from: near, host: "evil.example", header: true}, 403},
	} {
		if got, _ := c.do(cfg); got != c.want || ended > 0 {
			t.Errorf("%+v: %d, want %d; ended %d times", c.call, got, c.want, ended)
		}
	}
	if got, _ := post.do(cfg); got != http.StatusAccepted || ended != 1 {
		t.Errorf("%d, ended %d times, want 202 and once", got, ended)
	}
}

func TestDebugIsJSONAndErrorsAreShown(t *testing.T) { // R12.5
	cfg := config()
	if _, body := (call{method: "GET", path: "/debug/targets", from: near}).do(cfg); !strings.Contains(body, `"web.shop:80"`) {
		t.Errorf("got %q", body)
	}
	cfg.Debug = shown{errors.New("worker 0 does not answer")}
	if got, body := (call{method: "GET", path: "/debug/targets", from: near}).do(cfg); got != 500 || !strings.Contains(body, "worker 0") {
		t.Errorf("%d %q", got, body)
	}
	cfg.Debug = nil
	if got, _ := (call{method: "GET", path: "/debug/targets", from: near}).do(cfg); got != 404 {
		t.Errorf("%d without Debug, want 404", got)
	}
}

func TestIdentityAndLogLevelAreForLoopback(t *testing.T) { // R12.5
	cfg := config()
	for _, path := range []string{"/debug/identity", "/debug/log-level"} {
		if got, _ := (call{method: "GET", path: path, from: near}).do(cfg); got != 404 {
			t.Errorf("%s without one: %d, want 404", path, got)
		}
	}
	cfg.Identity = func(context.Context) (any, error) { return "spiffe://a/ns/b/sa/c", nil }
	cfg.LogLevel = zap.NewAtomicLevel()
	for path, want := range map[string]string{"/debug/identity": "spiffe://a/ns/b/sa/c", "/debug/log-level": `"info"`} {
		if got, body := (call{method: "GET", path: path, from: near}).do(cfg); got != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q", path, got, body, want)
		}
		if got, _ := (call{method: "GET", path: path, from: far}).do(cfg); got != 403 {
			t.Errorf("%s from afar: %d, want 403", path, got)
		}
	}
}

// clock is a time that a test sets.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func TestReadyNamesWhatIsMissing(t *testing.T) { // R11.1
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	cfg := config()
	h := admin.NewHealth(c.now)
	cfg.Health = h
	want := func(status int, body string) {
		t.Helper()
		if s, b := (call{method: "GET", path: "/ready", from: far}).do(cfg); s != status || b != body {
			t.Errorf("got %d\n%swant %d\n%s", s, b, status, body)
		}
	}
	want(503, "not ready\nmissing: certificate\nmissing: discovery\nmissing: inbound policy\nmissing: listeners\n")
	h.Met(admin.Listeners)
	h.Missing(admin.Certificate, "identity.tulle:8080: connection refused")
	want(503, "not ready\nmissing: certificate: identity.tulle:8080: connection refused\nmissing: discovery\nmissing: inbound policy\n")
	h.Certified(c.Add(time.Hour))
	h.Met(admin.Discovery)
	want(503, "not ready\nmissing: inbound policy\n")
	h.Met(admin.Policy)
	want(200, "ready\n")
}

func TestOnceReadyItStaysReady(t *testing.T) { // R10.2
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	h := admin.NewHealth(c.now)
	h.Certified(c.Add(time.Hour))
	for _, x := range []admin.Condition{admin.Discovery, admin.Policy, admin.Listeners} {
		h.Met(x)
	}
	want := func(ready bool, body string) {
		t.Helper()
		if r, b := h.Report(); r != ready || b != body {
			t.Errorf("got %v\n%swant %v\n%s", r, b, ready, body)
		}
	}
	h.Missing(admin.Discovery, "the stream is down")
	h.Missing(admin.Certificate, "identity is away")
	want(true, "ready\ndegraded: certificate: identity is away\ndegraded: discovery: the stream is down\n")
	c.Time = c.Add(time.Hour - time.Second)
	want(true, "ready\ndegraded: certificate: identity is away\ndegraded: discovery: the stream is down\n")
	c.Time = c.Add(time.Second)
	want(false, "not ready\ncertificate: expired at 2026-01-02T04:04:05Z\ndegraded: certificate: identity is away\ndegraded: discovery: the stream is down\n")
	h.Certified(c.Add(time.Hour))
	h.Met(admin.Discovery)
	want(true, "ready\n")
	h.End()
	want(false, "not ready\nending: the proxy was asked to end\n")
}

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, l, config()) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !strings.Contains(string(body), "circuit_open_total 0") {
		t.Errorf("%v: %.200s", err, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := client.Get("http://" + l.Addr().String() + "/live"); err == nil {
		t.Error("it still answers")
	}
}
