package probe_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/proxy/admin/probe"
)

func TestMain(m *testing.M) { leak.Main(m) }

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// perform performs the only probe of a set.
func perform(t *testing.T, s probe.Spec) probe.Result {
	t.Helper()
	p, err := probe.New(probe.Set{"web/liveness": s}, loopback)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := p.Perform(t.Context(), "web/liveness", "kube-probe/1.37")
	if !ok {
		t.Fatal("there is no such probe")
	}
	return r
}

func portOf(t *testing.T, addr string) uint16 {
	t.Helper()
	return netip.MustParseAddrPort(addr).Port()
}

func TestHTTPIsAskedAsTheKubeletWould(t *testing.T) { // R9.3
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s host=%s agent=%s accept=%s x=%q", r.Method, r.RequestURI, r.Host, r.UserAgent(), r.Header.Get("Accept"), r.Header["X-Probe"])
	}))
	defer s.Close()
	port := portOf(t, s.Listener.Addr().String())
	for _, c := range []struct {
		http probe.HTTP
		want string
	}{
		{probe.HTTP{Port: port}, fmt.Sprintf(`GET / host=127.0.0.1:%d agent=kube-probe/1.37 accept=*/* x=[]`, port)},
		{probe.HTTP{Port: port, Path: "/ready?full=1", Headers: []probe.Header{{"host", "web.example"}, {"X-Probe", "1"}, {"X-Probe", "2"}, {"User-Agent", "me"}, {"Accept", ""}}},
			`GET /ready?full=1 host=web.example agent=me accept= x=["1" "2"]`},
		{probe.HTTP{Port: port, Host: "localhost", Path: "x"}, fmt.Sprintf(`GET /x host=localhost:%d agent=kube-probe/1.37 accept=*/* x=[]`, port)},
	} {
		if got := perform(t, probe.Spec{HTTP: &c.http}); got.Status != 200 || got.Body != c.want {
			t.Errorf("%+v: %d %q, want %q", c.http, got.Status, got.Body, c.want)
		}
	}
}

func TestTheApplicationsStatusIsPassedOn(t *testing.T) { // R9.3
	mux := http.NewServeMux()
	mux.HandleFunc("/503", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "warming up", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/503", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	s := httptest.NewServer(mux)
	defer s.Close()
	port := portOf(t, s.Listener.Addr().String())
	for path, want := range map[string]int{"/503": 503, "/here": 503, "/away": 302, "/round": 503, "/none": 404, "/%zz": 503} {
		if got := perform(t, probe.Spec{HTTP: &probe.HTTP{Port: port, Path: path}}); got.Status != want {
			t.Errorf("%s: %d %q, want %d", path, got.Status, got.Body, want)
		}
	}
}

func TestTLSIsNotVerified(t *testing.T) { // R9.3
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer s.Close()
	got := perform(t, probe.Spec{HTTP: &probe.HTTP{Port: portOf(t, s.Listener.Addr().String()), TLS: true}})
	if got.Status != 200 || got.Body != "ok" {
		t.Errorf("%+v", got)
	}
}

// closedPort is one that nobody listens on.
func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return portOf(t, l.Addr().String())
}

// TestADeadApplicationFails: the trap is a listener of the proxy's own that answers for it.
func TestADeadApplicationFails(t *testing.T) { // R9.3
	port := closedPort(t)
	for name, s := range map[string]probe.Spec{
		"http": {HTTP: &probe.HTTP{Port: port}}, "tcp": {TCP: &probe.TCP{Port: port}}, "grpc": {GRPC: &probe.GRPC{Port: port}},
	} {
		if got := perform(t, s); got.Status != 503 || !strings.Contains(got.Body, "refused") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestASilentApplicationFailsInTime(t *testing.T) { // R9.3
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel accepts; nobody answers
	port := portOf(t, l.Addr().String())
	for name, s := range map[string]probe.Spec{
		"http": {HTTP: &probe.HTTP{Port: port}}, "grpc": {GRPC: &probe.GRPC{Port: port}},
	} {
		if got := perform(t, s); got.Status != 504 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := perform(t, probe.Spec{TCP: &probe.TCP{Port: port}}); got.Status != 200 {
		t.Errorf("tcp: %+v", got)
	}
}

func TestGRPCHealth(t *testing.T) { // R9.3
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := health.NewServer()
	h.SetServingStatus("late", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	port := portOf(t, l.Addr().String())
	for service, want := range map[string]int{"": 200, "late": 503, "unknown": 503} {
		if got := perform(t, probe.Spec{GRPC: &probe.GRPC{Port: port, Service: service}}); got.Status != want {
			t.Errorf("%q: %+v, want %d", service, got, want)
		}
	}
	s.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestASlowApplicationHasItsProbesWholeTime: an attempt to connect must not give up before the probe does.
func TestASlowApplicationHasItsProbesWholeTime(t *testing.T) { // R9.3
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	port := portOf(t, l.Addr().String())
	got := perform(t, probe.Spec{GRPC: &probe.GRPC{Port: port}, Seconds: 2}) // the kernel accepts; nobody greets
	if got.Status != 504 || time.Since(began) < 2*time.Second {
		t.Errorf("%+v after %v, want 504 after the probe's 2 s", got, time.Since(began))
	}
}

// TestProbesAreBounded: whoever reaches the door may ask, and no more than so many ask the application.
func TestProbesAreBounded(t *testing.T) {
	held, free := make(chan struct{}, 64), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { held <- struct{}{}; <-free }))
	defer s.Close()
	p, err := probe.New(probe.Set{"web/startup": {HTTP: &probe.HTTP{Port: portOf(t, s.Listener.Addr().String())}, Seconds: 3600}}, loopback)
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan probe.Result)
	for range 32 {
		go func() { // ends with its probe
			r, _ := p.Perform(context.WithoutCancel(t.Context()), "web/startup", "")
			results <- r
		}()
	}
	for range 32 {
		<-held
	}
	if r, _ := p.Perform(t.Context(), "web/startup", ""); r.Status != http.StatusTooManyRequests {
		t.Errorf("%+v", r)
	}
	close(free)
	for range 32 {
		if r := <-results; r.Status != 200 {
			t.Errorf("%+v", r)
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	p, err := probe.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Perform(t.Context(), "web/liveness", ""); ok {
		t.Error("a probe that nobody asked for")
	}
	if _, err := probe.New(probe.Set{"a/b": {TCP: &probe.TCP{Port: 1}}}, nil); err == nil {
		t.Error("no address, and no error")
	}
}

func TestParseIsStrict(t *testing.T) {
	for _, bad := range []string{
		"", "[]", "{} {}", `{"a/b":{}}`, `{"a/b":{"tcp":{}}}`, `{"a/b":{"tcp":{"port":1},"grpc":{"port":2}}}`, `{"a":{"tcp":{"port":1}}}`,
		`{"a/b":{"tcp":{"port":70000}}}`, `{"a/b":{"tcp":{"port":1},"seconds":-1}}`, `{"a/b":{"exec":{}}}`,
		`{"a/b":{"http":{"port":1,"headers":[{"name":"X","value":"a\r\nb"}]}}}`, `{"a/b":{"http":{"port":1,"headers":[{"name":""}]}}}`,
	} {
		if set, err := probe.Parse(bad); err == nil {
			t.Errorf("%s is accepted: %v", bad, set)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"web/liveness":{"http":{"host":"h","port":80,"tls":true,"path":"/p","headers":[{"name":"X","value":"y"}]},"seconds":3}}`)
	f.Add(`{"web/startup":{"grpc":{"port":80,"service":"s"}},"web/x":{"tcp":{"port":1}}}`)
	f.Fuzz(func(t *testing.T, s string) {
		set, err := probe.Parse(s)
		if err != nil {
			return
		}
		again, err := probe.Parse(set.String())
		if err != nil || again.String() != set.String() {
			t.Errorf("%s became %s: %v", set, again, err)
		}
	})
}
