package demo

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/shop/traffic"
)

func TestMain(m *testing.M) { leak.Main(m) }

var update = flag.Bool("update", false, "write what came out into testdata")

// book reads pages testdata/NAME-*.prom, each of the proxy of the instance that its name ends with.
func book(t *testing.T, l *ledger, name string) {
	t.Helper()
	pages, err := filepath.Glob("testdata/" + name + "-*.prom")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages %s: %v", name, err)
	}
	for _, path := range pages {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page, err := parse(b)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		instance := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), name+"-"), ".prom")
		l.take(instance, page)
	}
}

// golden compares text with a file.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	path, got := filepath.Join("testdata", name), strings.Join(lines, "\n")+"\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}

// recorded is the table of pages that real proxies gave.
func recorded(t *testing.T) Table {
	t.Helper()
	l := newLedger()
	book(t, l, "recorded")
	return tabulate(l.sum, l.sum, 5*time.Second)
}

func TestTheTableOfRecordedPages(t *testing.T) {
	table := recorded(t)
	golden(t, "plain.golden", table.lines(style{}, 0))
	golden(t, "narrow.golden", table.lines(style{}, 60))
	if err := table.verdict(); err != nil {
		t.Error(err)
	}
}

func TestANarrowTableFits(t *testing.T) {
	table := recorded(t)
	for width := 56; width < 160; width++ {
		for _, l := range table.lines(style{}, width) {
			if n := len([]rune(l)); n > width {
				t.Errorf("%d columns: %d in %q", width, n, l)
			}
		}
	}
}

func TestARouteCountsUnderBothItsServices(t *testing.T) {
	table := recorded(t)
	apex, v1, v2 := table.row("payments"), table.row("payments-v1"), table.row("payments-v2")
	if apex.Requests == 0 || apex.Requests != v1.Requests+v2.Requests || apex.OK != v1.OK+v2.OK {
		t.Errorf("payments %v/%v, v1 %v/%v, v2 %v/%v", apex.Requests, apex.OK, v1.Requests, v1.OK, v2.Requests, v2.OK)
	}
	if apex.Endpoints != 2 {
		t.Errorf("payments has %d endpoints", apex.Endpoints)
	}
}

func counter(name string, value float64, labels ...string) series {
	s := series{name: name, value: value, labels: map[string]string{
		"direction": "outbound", "dst_namespace": "shop", "dst_service": "web", "tls": "true",
	}}
	for i := 0; i < len(labels); i += 2 {
		s.labels[labels[i]] = labels[i+1]
	}
	return s
}

func TestAProxyThatRestartsOnlyAdds(t *testing.T) {
	l := newLedger()
	for _, v := range []float64{10, 15, 3, 4} { // 10, 5 more, anew 3, 1 more
		l.take("traffic", []series{counter(requests, v)})
	}
	l.take("other", []series{counter(requests, 100)}) // another proxy's counter is another one
	if got := l.sum.of("web").requests; got != 119 {
		t.Errorf("%v requests, want 119", got)
	}
}

func TestWhatIsNotMTLSShows(t *testing.T) {
	for _, c := range []struct {
		name  string
		plain series
	}{
		{"sent", counter(requests, 1, "tls", "false")},
		{"received", counter(requests, 1, "tls", "false", "direction", "inbound", "dst_deployment", "web", "dst_service", "")},
		{"a connection", counter(opened, 1, "tls", "false")},
	} {
		l := newLedger()
		l.take("traffic", []series{counter(requests, 9999), c.plain})
		r := tabulate(l.sum, l.sum, time.Second).row("web")
		if r.MTLS == 1 || percent(r.MTLS) == "100%" {
			t.Errorf("%s in plaintext: %s", c.name, percent(r.MTLS))
		}
	}
}

func TestTheVerdictNamesServices(t *testing.T) {
	l := newLedger()
	l.take("traffic", []series{counter(requests, 3), counter(requests, 1, "tls", "false")})
	err := tabulate(l.sum, l.sum, time.Second).verdict()
	if err == nil || !strings.Contains(err.Error(), "web had 75.0% of its traffic under mTLS") ||
		!strings.Contains(err.Error(), "feed got no traffic") || !strings.Contains(err.Error(), "store got no traffic") {
		t.Error(err)
	}
}

func TestQuantilesLieWithinTheirBucket(t *testing.T) {
	one := newTotal()
	// 10 up to 1 ms, 80 more up to 2, 10 more up to 5; none above.
	one.le = map[float64]float64{1: 10, 2: 90, 5: 100, math.Inf(1): 100}
	for q, want := range map[float64]float64{.05: .5, .1: 1, .5: 1.5, .9: 2, .95: 3.5, 1: 5} {
		if got := one.quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	one.le[math.Inf(1)] = 200 // half of them beyond the last bound
	if got := one.quantile(.99); got != 5 {
		t.Errorf("beyond the last bound: %v, want 5", got)
	}
	if got := newTotal().quantile(.5); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestAStretchIsTheDifference(t *testing.T) {
	l := newLedger()
	l.take("traffic", []series{counter(requests, 10), counter(latency, 10, "le", "1")})
	l.take("web-1", []series{counter(requests, 10, "direction", "inbound", "dst_deployment", "web")})
	before := l.sum.clone()
	l.take("traffic", []series{counter(requests, 14), counter(latency, 13, "le", "1")})
	l.take("web-2", []series{counter(requests, 4, "direction", "inbound", "dst_deployment", "web")})
	in := l.sum.since(before)
	r := tabulate(in, l.sum, 2*time.Second).row("web")
	if r.Requests != 4 || r.RPS != 2 || in.of("web").le[1] != 3 {
		t.Errorf("%+v", r)
	}
	if r.Endpoints != 2 || r.Shares["web-1"] != 0 || r.Shares["web-2"] != 1 {
		t.Errorf("%d endpoints, shares %v", r.Endpoints, r.Shares)
	}
	if before.of("web").requests != 10 {
		t.Error("a clone changed")
	}
}

func TestAgreementIsWithinTwoPercent(t *testing.T) {
	table := Table{Services: []Row{{Service: "web", Requests: 100, OK: 99}}}
	saw := func(requests, ok int64) traffic.Summary {
		return traffic.Summary{Services: []traffic.Service{{Service: "web", Requests: requests, OK: ok}}}
	}
	for _, c := range []struct {
		requests, ok int64
		agree        bool
	}{{100, 99, true}, {102, 101, true}, {98, 98, false}, {100, 95, false}, {103, 99, false}, {0, 0, false}} {
		err := disagree(agree(table, saw(c.requests, c.ok)))
		if (err == nil) != c.agree {
			t.Errorf("%d, %d: %v", c.requests, c.ok, err)
		}
	}
	if err := disagree(agree(Table{}, saw(100, 100))); err == nil {
		t.Error("a table without the service agrees")
	}
}

func TestNumbersAreShort(t *testing.T) {
	nan := Number(math.NaN())
	for got, want := range map[string]string{
		percent(1): "100%", percent(0): "0%", percent(.99999): "99.99%", percent(.5): "50.0%", percent(nan): "-",
		millis(.25): "0.2 ms", millis(12.3): "12 ms", millis(2345): "2.3 s", millis(nan): "-",
		rate(1000): "1000/s", rate(1.25): "1.2/s", rate(nan): "-",
		bytesPerSecond(10): "10 B/s", bytesPerSecond(12345): "12.3 kB/s", bytesPerSecond(2.5e6): "2.5 MB/s",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	b, err := json.Marshal([]Number{1.0 / 3, nan, 123456})
	if err != nil || string(b) != "[0.3333,null,1.235e+05]" {
		t.Errorf("%s, %v", b, err)
	}
}

func TestPagesThatAreNoMetricsAreRefused(t *testing.T) {
	for _, page := range []string{"request_total{", "<html>", "request_total{a=\"b\"} many\n"} {
		if _, err := parse([]byte(page)); err == nil {
			t.Errorf("%q was read", page)
		}
	}
	if page, err := parse([]byte("# a proxy that has seen nothing\n")); err != nil || page == nil {
		t.Errorf("%v, %v", page, err)
	}
}

func FuzzParse(f *testing.F) {
	pages, err := filepath.Glob("testdata/*.prom")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range pages {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		page, err := parse(b)
		if err != nil {
			return
		}
		l := newLedger()
		l.take("x", page)
		if slices.Contains(tabulate(l.sum, l.sum, time.Second).lines(style{}, 60), "") {
			t.Error("an empty line")
		}
	})
}
