package metrics_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/identity/identitytest"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

var rewrite = flag.Bool("rewrite", false, "write docs/metrics.md and testdata")

func TestMain(m *testing.M) { leak.Main(m) }

const start = mono.Time(time.Hour)

func labels() metrics.Labels {
	return metrics.Labels{
		Direction: metrics.Outbound, TLS: true,
		ClientID: "spiffe://cluster.local/ns/shop/sa/web", ServerID: "spiffe://cluster.local/ns/shop/sa/catalog",
		Service: "catalog", Namespace: "shop", Deployment: "catalog", Zone: "z1", Route: "default",
	}
}

// registry returns one with a collector over the stores.
func registry(t *testing.T, stores ...*metrics.Store) (*prometheus.Registry, *metrics.Collector) {
	t.Helper()
	c := metrics.NewCollector(func() (all []*metrics.Snapshot) {
		for _, s := range stores {
			all = append(all, s.Snapshot())
		}
		return all
	})
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	return r, c
}

// gather returns all series as "name{labels} value", without empty labels.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	fs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range fs {
		for _, m := range f.GetMetric() {
			var l []string
			for _, p := range m.GetLabel() {
				if p.GetValue() != "" {
					l = append(l, p.GetName()+"="+p.GetValue())
				}
			}
			key := f.GetName() + "{" + strings.Join(l, ",") + "}"
			switch {
			case m.Counter != nil:
				out[key] = m.GetCounter().GetValue()
			case m.Gauge != nil:
				out[key] = m.GetGauge().GetValue()
			case m.Histogram != nil:
				out[key] = float64(m.GetHistogram().GetSampleCount())
			case m.Summary != nil:
				out[key] = float64(m.GetSummary().GetSampleCount())
			}
		}
	}
	return out
}

// with returns the one value whose name and labels hold all parts.
func with(t *testing.T, all map[string]float64, parts ...string) float64 {
	t.Helper()
	v, n := 0.0, 0
	for k, x := range all {
		ok := strings.HasPrefix(k, parts[0]+"{")
		for _, p := range parts[1:] {
			ok = ok && strings.Contains(strings.NewReplacer("}", ",", "{", ",").Replace(k), ","+p+",")
		}
		if ok {
			v, n = x, n+1
		}
	}
	if n != 1 {
		t.Errorf("%d series match %q", n, parts)
	}
	return v
}

// busy is a store with something of everything.
func busy() *metrics.Store {
	s := metrics.NewStore()
	l := labels()
	h := s.HTTP(l, start)
	h.Request(start)
	h.Response(200, 0, false, 3*time.Millisecond, start)
	h.Request(start)
	h.Retry()
	h.Response(0, -1, true, 70*time.Second, start)
	l.Pod = "catalog-1"
	c := s.TCP(l, start)
	c.Open(start)
	c.Open(start)
	c.Read(10)
	c.Write(20)
	c.Close("ECONNRESET", start)
	in := metrics.Labels{Direction: metrics.Inbound, NoTLS: mesh.NoTLSNotMeshed, Policy: "default", Service: "web", Namespace: "shop"}
	s.Authz(in, start).Decide(true, start)
	s.Authz(in, start).Decide(false, start)
	s.Detection(metrics.Inbound, 8080, metrics.DetectedHTTP1)
	s.Proxy.Timeouts[metrics.TimeoutConnect] = 3
	s.Proxy.Refused[metrics.RefusedMemory] = 4
	s.Proxy.RetryBudgetExhausted = 5
	s.Proxy.Evicted = 3
	s.Proxy.CircuitOpen = 6
	s.Proxy.Digests, s.Proxy.DigestMismatches = 9, 7
	s.Proxy.InFlight[metrics.Outbound] = 8
	s.Proxy.Busy = 0.25
	s.Proxy.Phases[metrics.Outbound][metrics.PhaseConnect].Observe(time.Second)
	s.Proxy.Added[metrics.Outbound].Observe(120 * time.Microsecond)
	return s
}

func TestNamesAndLabelsAreThoseThatDashboardsQuery(t *testing.T) { // R12.1, R12.2
	r, c := registry(t, busy())
	c.Process().Connected(true)
	all := gather(t, r)
	traffic := []string{
		"direction=outbound", "tls=true", "client_id=spiffe://cluster.local/ns/shop/sa/web",
		"server_id=spiffe://cluster.local/ns/shop/sa/catalog", "dst_service=catalog", "dst_namespace=shop",
		"dst_deployment=catalog", "dst_zone=z1", "route=default",
	}
	for _, c := range []struct {
		want  float64
		parts []string
	}{
		{2, append([]string{"request_total"}, traffic...)},
		{1, append([]string{"response_total", "classification=success", "status_code=200", "grpc_status=0"}, traffic...)},
		{1, append([]string{"response_total", "classification=failure", "status_code=other"}, traffic...)},
		{2, append([]string{"response_latency_ms"}, slices.DeleteFunc(slices.Clone(traffic), func(l string) bool { return l == "dst_zone=z1" })...)},
		{1, append([]string{"retry_total"}, traffic...)},
		{2, append([]string{"tcp_open_total"}, traffic...)},
		{1, append([]string{"tcp_open_connections", "dst_pod=catalog-1"}, traffic...)},
		{1, append([]string{"tcp_close_total", "errno=ECONNRESET"}, traffic...)},
		{10, append([]string{"tcp_read_bytes_total"}, traffic...)},
		{20, append([]string{"tcp_write_bytes_total"}, traffic...)},
		{1, []string{"inbound_authz_allow_total", "policy=default", "tls=false", "no_tls_reason=not_meshed"}},
		{1, []string{"inbound_authz_deny_total", "policy=default"}},
		{5, []string{"retry_budget_exhausted_total"}},
		{3, []string{"timeout_total", "kind=connect"}},
		{6, []string{"circuit_open_total"}},
		{4, []string{"proxy_refused_total", "reason=memory"}},
		{3, []string{"proxy_evicted_total"}},
		{1, []string{"proxy_detection_total", "direction=inbound", "port=8080", "outcome=http1"}},
		{9, []string{"discovery_digest_total"}},
		{7, []string{"discovery_digest_mismatch_total"}},
		{1, []string{"discovery_connected"}},
		{8, []string{"proxy_requests_in_flight", "direction=outbound"}},
		{0.25, []string{"proxy_worker_busy_ratio", "worker=0"}},
		{1, []string{"proxy_added_seconds", "direction=outbound"}},
		{1, []string{"proxy_request_phase_seconds", "direction=outbound", "phase=connect"}},
	} {
		if got := with(t, all, c.parts...); got != c.want {
			t.Errorf("%v = %v, want %v", c.parts, got, c.want)
		}
	}
}

func TestAllLabelsAreAlwaysPresent(t *testing.T) { // R12.2
	s := busy()
	s.HTTP(metrics.Labels{}, start).Request(start)
	r, _ := registry(t, s)
	fs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for _, f := range metrics.Families() {
		want[f.Name] = slices.Sorted(slices.Values(f.Labels))
	}
	for _, f := range fs {
		for _, m := range f.GetMetric() {
			var got []string
			for _, p := range m.GetLabel() {
				got = append(got, p.GetName())
			}
			if d := cmp.Diff(want[f.GetName()], got); d != "" {
				t.Errorf("labels of %s: %s", f.GetName(), d)
			}
		}
	}
}

func TestBucketsOfLatency(t *testing.T) { // R12.1
	s := metrics.NewStore()
	h := s.HTTP(labels(), start)
	for _, d := range []time.Duration{
		0, 100 * time.Microsecond, 100*time.Microsecond + 1, 3 * time.Millisecond, 50 * time.Second, 51 * time.Second,
	} {
		h.Response(200, -1, false, d, start)
	}
	r, _ := registry(t, s)
	hist := find(t, r, "response_latency_ms").GetHistogram()
	var bounds []float64
	counts := map[float64]uint64{}
	for _, b := range hist.GetBucket() {
		bounds = append(bounds, b.GetUpperBound())
		counts[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	want := []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000}
	if d := cmp.Diff(want, bounds); d != "" {
		t.Error(d)
	}
	for le, n := range map[float64]uint64{0.1: 2, 0.2: 3, 2: 3, 5: 4, 20000: 4, 50000: 5} {
		if counts[le] != n {
			t.Errorf("at most %g ms: %d, want %d", le, counts[le], n)
		}
	}
	if n := hist.GetSampleCount(); n != 6 {
		t.Errorf("%d samples, want 6", n)
	}
	if sum := hist.GetSampleSum(); sum < 101003 || sum > 101004 {
		t.Errorf("sum %v ms, want about 101003.2", sum)
	}
}

func find(t *testing.T, r *prometheus.Registry, name string) *dto.Metric {
	t.Helper()
	fs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		if f.GetName() == name {
			return f.GetMetric()[0]
		}
	}
	t.Fatalf("no %s", name)
	return nil
}

func TestStatusesAreBounded(t *testing.T) { // R12.2
	s := metrics.NewStore()
	h := s.HTTP(labels(), start)
	for _, c := range []struct{ status, grpc int }{{99, -1}, {600, -1}, {0, -1}, {-1, 17}, {200, -5}, {200, 16}, {100, -1}, {599, -1}} {
		h.Response(c.status, c.grpc, false, 0, start)
	}
	r, _ := registry(t, s)
	all := gather(t, r)
	for _, c := range []struct {
		want  float64
		parts []string
	}{
		{1, []string{"response_total", "status_code=other", "grpc_status=other"}},
		{1, []string{"response_total", "status_code=200", "grpc_status=other"}},
		{1, []string{"response_total", "status_code=200", "grpc_status=16"}},
		{1, []string{"response_total", "status_code=100"}},
		{1, []string{"response_total", "status_code=599"}},
	} {
		if got := with(t, all, c.parts...); got != c.want {
			t.Errorf("%v = %v, want %v", c.parts, got, c.want)
		}
	}
	for status := range 700 {
		h.Response(status, status%20, status%2 == 0, 0, start)
	}
	n := 0
	for k := range gather(t, r) {
		if strings.HasPrefix(k, "response_total") {
			n++
		}
	}
	if n > 50 {
		t.Errorf("a server that answers with everything makes %d series, want at most 50", n)
	}
}

func TestAtMost400SeriesForFiveTargets(t *testing.T) { // R12.2
	for zones := 1; zones <= 3; zones++ {
		s := metrics.NewStore()
		for target := range 5 {
			for e := range 3 {
				l := labels()
				l.Service = fmt.Sprintf("s%d", target)
				l.Deployment = l.Service
				l.Zone = fmt.Sprintf("z%d", e%zones)
				h := s.HTTP(l, start)
				h.Request(start)
				h.Response(200, -1, false, time.Millisecond, start)
				h.Response(503, -1, true, time.Millisecond, start)
				l.Pod = fmt.Sprintf("p%d-%d", target, e)
				c := s.TCP(l, start)
				c.Open(start)
				c.Close("", start)
				c.Open(start)
			}
		}
		r, _ := registry(t, s)
		fs, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range fs {
			for _, m := range f.GetMetric() {
				n++
				if h := m.GetHistogram(); h != nil {
					n += len(h.GetBucket()) + 2 // +Inf, sum, count, less the one counted
				}
			}
		}
		t.Logf("%d zones: %d series", zones, n)
		if n > 400 {
			t.Errorf("5 targets × 3 endpoints × 2 statuses in %d zones make %d series, want at most 400", zones, n)
		}
	}
}

func TestIdleSeriesExpire(t *testing.T) { // R12.2: after 10 minutes
	s := metrics.NewStore()
	l := labels()
	idle, used := s.HTTP(l, start), s.HTTP(metrics.Labels{Service: "used"}, start)
	idle.Request(start)
	l.Pod = "catalog-1"
	open, shut := s.TCP(l, start), s.TCP(metrics.Labels{Service: "shut"}, start)
	open.Open(start)
	shut.Open(start)
	shut.Close("", start)
	later := start.Add(9 * time.Minute)
	used.Request(later)
	s.Expire(later)
	r, _ := registry(t, s)
	if all := gather(t, r); with(t, all, "request_total", "dst_service=catalog") != 1 {
		t.Error("expired after 9 minutes")
	}
	later = start.Add(11 * time.Minute)
	s.Expire(later)
	all := gather(t, r)
	for k := range all {
		if strings.HasPrefix(k, "request_total") && strings.Contains(k, "catalog") || strings.Contains(k, "shut") {
			t.Errorf("%s is still there", k)
		}
	}
	if with(t, all, "tcp_open_connections", "dst_pod=catalog-1") != 1 || with(t, all, "tcp_open_total", "dst_service=catalog") != 1 {
		t.Error("an open connection's series expired")
	}
	// A holder of an expired set counts on, from zero, and together with who asks anew.
	idle.Request(later)
	s.HTTP(labels(), later).Request(later)
	idle.Response(200, -1, false, time.Millisecond, later)
	if got := with(t, gather(t, r), "response_latency_ms", "dst_service=catalog"); got != 1 {
		t.Errorf("%v latencies after expiry, want 1", got)
	}
	if got := with(t, gather(t, r), "request_total", "dst_service=catalog"); got != 2 {
		t.Errorf("request_total is %v after expiry, want 2", got)
	}
	shut.Open(later)
	shut.Read(5)
	shut.Close("whatever", later)
	all = gather(t, r)
	if with(t, all, "tcp_read_bytes_total", "dst_service=shut") != 5 || with(t, all, "tcp_close_total", "dst_service=shut", "errno=other") != 1 {
		t.Error("a TCP set does not begin again")
	}
}

func TestTwoHoldersOfAnExpiredSetCountTogether(t *testing.T) { // R12.2
	s := metrics.NewStore()
	one := s.HTTP(labels(), start)
	one.Request(start)
	later := start.Add(time.Hour)
	s.Expire(later)
	two := s.HTTP(labels(), later) // made anew while one is still held
	two.Request(later)
	one.Request(later)
	r, _ := registry(t, s)
	if got := with(t, gather(t, r), "request_total", "dst_service=catalog"); got != 2 {
		t.Errorf("request_total is %v, want 2", got)
	}
}

func TestSeriesAreCapped(t *testing.T) { // R12.2: bounded whatever happens
	s := metrics.NewStore()
	for i := range 5000 {
		l := labels()
		l.ClientID = mesh.Identity(fmt.Sprintf("spiffe://cluster.local/ns/shop/sa/c%d", i))
		s.HTTP(l, start).Request(start)
	}
	r, _ := registry(t, s)
	all := gather(t, r)
	n, sum := 0, 0.0
	for k, v := range all {
		if strings.HasPrefix(k, "request_total") {
			n, sum = n+1, sum+v
		}
	}
	if n > 1001 || sum != 5000 {
		t.Errorf("%d series hold %v requests, want at most 1001 and all 5000", n, sum)
	}
	if got := with(t, all, "request_total", "dst_service=other", "client_id=other"); got != 4000 {
		t.Errorf("%v under other, want 4000", got)
	}
	if got := with(t, all, "proxy_metrics_overflow_total"); got != 4000 {
		t.Errorf("overflow is %v, want 4000", got)
	}
}

func TestPortsOfDetectionAreCapped(t *testing.T) { // R2.6, R12.2: an application may dial any port
	s := metrics.NewStore()
	for p := range 1000 {
		s.Detection(metrics.Outbound, uint16(p+1), metrics.DetectedOpaque)
	}
	r, _ := registry(t, s)
	all := gather(t, r)
	if got := with(t, all, "proxy_detection_total", "port=other"); got != 1000-64 {
		t.Errorf("%v under other, want %d", got, 1000-64)
	}
}

func TestWorkersAddUp(t *testing.T) { // R6.6
	one, two := busy(), busy()
	two.HTTP(metrics.Labels{Service: "only-two"}, start).Request(start)
	two.Detection(metrics.Inbound, 9, metrics.DetectedMesh)
	r, _ := registry(t, one, two)
	all := gather(t, r)
	for _, c := range []struct {
		want  float64
		parts []string
	}{
		{4, []string{"request_total", "dst_service=catalog"}},
		{1, []string{"request_total", "dst_service=only-two"}},
		{2, []string{"response_total", "dst_service=catalog", "status_code=200"}},
		{4, []string{"response_latency_ms", "dst_service=catalog"}},
		{2, []string{"tcp_open_connections", "dst_pod=catalog-1"}},
		{20, []string{"tcp_read_bytes_total", "dst_service=catalog"}},
		{2, []string{"tcp_close_total", "errno=ECONNRESET"}},
		{2, []string{"inbound_authz_deny_total"}},
		{2, []string{"proxy_detection_total", "port=8080"}},
		{1, []string{"proxy_detection_total", "port=9"}},
		{12, []string{"circuit_open_total"}},
		{16, []string{"proxy_requests_in_flight", "direction=outbound"}},
		{0.25, []string{"proxy_worker_busy_ratio", "worker=1"}},
		{2, []string{"proxy_added_seconds", "direction=outbound"}},
		{2, []string{"proxy_request_phase_seconds", "phase=connect"}},
	} {
		if got := with(t, all, c.parts...); got != c.want {
			t.Errorf("%v = %v, want %v", c.parts, got, c.want)
		}
	}
}

func TestWhereTheTimeOfARequestGoes(t *testing.T) { // R12.4, as metrics
	s := metrics.NewStore()
	p := &s.Proxy.Phases[metrics.Outbound]
	for phase := range p {
		p[phase].Observe(time.Duration(phase+1) * time.Second)
		p[phase].Observe(time.Second)
	}
	r, _ := registry(t, s)
	fs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range fs {
		if f.GetName() == "proxy_request_phase_seconds" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[1].GetValue()] = m.GetSummary().GetSampleSum()
			}
		}
	}
	want := map[string]float64{"queue": 2, "connect": 3, "tls": 4, "upstream": 5, "application": 6, "retries": 7}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestASnapshotDoesNotMove(t *testing.T) { // taken at the end of a turn, read by another goroutine
	s := busy()
	snap := s.Snapshot()
	c := metrics.NewCollector(func() []*metrics.Snapshot { return []*metrics.Snapshot{snap} })
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	h := s.HTTP(labels(), start)
	for range 10 {
		h.Request(start)
		h.Response(200, 0, false, time.Millisecond, start)
	}
	if got := with(t, gather(t, r), "request_total"); got != 2 {
		t.Errorf("request_total is %v, want the 2 of the snapshot", got)
	}
}

func TestClassification(t *testing.T) { // R12.1
	for _, c := range []struct {
		status, grpc int
		want         bool
	}{
		{200, -1, false}, {404, -1, false}, {429, -1, false}, {500, -1, true}, {503, -1, true}, {0, -1, true},
		{200, 0, false}, {200, 5, false}, {200, 14, true}, {200, 13, true}, {200, 1, false},
	} {
		if got := metrics.Failure(c.status, c.grpc); got != c.want {
			t.Errorf("status %d, gRPC %d: failure %v, want %v", c.status, c.grpc, got, c.want)
		}
	}
}

// TestLint is promtool's check. The exceptions are names that R12.1 fixes, because dashboards,
// Flagger and Argo Rollouts query them.
func TestLint(t *testing.T) { // R12.1
	except := map[string]string{
		"response_latency_ms": "the name and its unit are what dashboards query",
	}
	r, _ := registry(t, busy())
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range problems {
		if except[p.Metric] == "" {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		seen[p.Metric] = true
	}
	for name := range except {
		if !seen[name] {
			t.Errorf("%s needs no exception", name)
		}
	}
}

func TestDocsSayWhatIsRegistered(t *testing.T) { // docs/metrics.md
	const file = "../../docs/metrics.md"
	if *rewrite {
		if err := os.WriteFile(file, []byte(metrics.Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), metrics.Markdown()); d != "" {
		t.Errorf("docs/metrics.md is stale (go test ./proxy/metrics -rewrite): %s", d)
	}
	r, _ := registry(t, busy())
	registerIdentity(t, r) // on the same registry, as in the proxy: names must not collide
	fs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]metrics.Family{}
	for _, f := range append(metrics.Families(), metrics.Beside()...) {
		want[f.Name] = f
	}
	for _, f := range fs {
		w, ok := want[f.GetName()]
		if !ok || w.Type != strings.ToLower(f.GetType().String()) || w.Help != f.GetHelp() {
			t.Errorf("%s %s (%s) is not in docs/metrics.md, or otherwise", f.GetType(), f.GetName(), f.GetHelp())
		}
		delete(want, f.GetName())
	}
	for name := range want {
		t.Errorf("%s is in docs/metrics.md, but a proxy that has everything does not show it", name)
	}
}

func registerIdentity(t *testing.T, r *prometheus.Registry) {
	t.Helper()
	fake, dir := identitytest.New("cluster.local", nil), t.TempDir()
	if err := fake.WriteBundle(dir); err != nil {
		t.Fatal(err)
	}
	_, err := identity.New(identity.Config{
		Identity: "spiffe://cluster.local/ns/shop/sa/web", Workload: "shop/web", BundleDir: dir, Service: fake,
		Token: func() (string, error) { return "", nil }, Sink: mtls.NewCredentials(time.Now), Registerer: r,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestResolvedUpdatesAllocateNothing(t *testing.T) { // R12.1
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	s := metrics.NewStore()
	l := labels()
	h, c, a := s.HTTP(l, start), s.TCP(l, start), s.Authz(l, start)
	if n := testing.AllocsPerRun(1000, func() {
		h.Request(start)
		h.Response(200, 0, false, time.Millisecond, start)
		h.Retry()
		c.Open(start)
		c.Read(1)
		c.Write(1)
		c.Close("ECONNRESET", start)
		a.Decide(true, start)
		s.HTTP(l, start)
		s.Detection(metrics.Inbound, 80, metrics.DetectedHTTP1)
		s.Proxy.Added[metrics.Inbound].Observe(time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	h := metrics.NewStore().HTTP(labels(), start)
	b.ReportAllocs()
	for b.Loop() {
		h.Request(start)
		h.Response(200, -1, false, 3*time.Millisecond, start)
	}
}

func BenchmarkResolve(b *testing.B) {
	s, l := metrics.NewStore(), labels()
	b.ReportAllocs()
	for b.Loop() {
		s.HTTP(l, start)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := metrics.NewStore()
	for i := range 100 {
		l := labels()
		l.Service = fmt.Sprint(i)
		h := s.HTTP(l, start)
		h.Response(200, -1, false, time.Millisecond, start)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Snapshot()
	}
}
