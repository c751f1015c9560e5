package demo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// series is one value of /metrics. A histogram is one series per bucket, with the label le.
type series struct {
	name   string
	labels map[string]string
	value  float64
}

// key tells series apart.
func (s series) key() string {
	var b strings.Builder
	b.WriteString(s.name)
	for _, k := range slices.Sorted(maps.Keys(s.labels)) {
		fmt.Fprintf(&b, ",%s=%q", k, s.labels[k])
	}
	return b.String()
}

// parse reads the counters and histograms of a /metrics page that the table is made of.
func parse(page []byte) ([]series, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return nil, err
	}
	all := []series{}
	for _, name := range []string{requests, responses, latency, opened, closed, readBytes, wroteBytes, retries} {
		for _, m := range families[name].GetMetric() {
			all = append(all, values(name, m)...)
		}
	}
	return all, nil
}

// The families that the table is made of (docs/metrics.md).
const (
	requests   = "request_total"
	responses  = "response_total"
	latency    = "response_latency_ms"
	opened     = "tcp_open_total"
	closed     = "tcp_close_total"
	readBytes  = "tcp_read_bytes_total"
	wroteBytes = "tcp_write_bytes_total"
	retries    = "retry_total"
)

func values(name string, m *dto.Metric) []series {
	labels := make(map[string]string, len(m.GetLabel())+1)
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	h := m.GetHistogram()
	if h == nil {
		return []series{{name, labels, m.GetCounter().GetValue()}}
	}
	var all []series
	for _, b := range h.GetBucket() {
		with := maps.Clone(labels)
		with["le"] = strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
		all = append(all, series{name, with, float64(b.GetCumulativeCount())})
	}
	return all
}

// ledger adds up what the counters of all proxies grew by. A proxy that was restarted counts from
// zero again, and one that was replaced is another: both only ever add.
type ledger struct {
	last map[string]float64 // by proxy and series
	sum  totals
}

func newLedger() *ledger { return &ledger{last: map[string]float64{}, sum: totals{}} }

// take books a page of the proxy of an instance.
func (l *ledger) take(instance string, page []series) {
	for _, s := range page {
		key := instance + " " + s.key()
		grown := s.value - l.last[key]
		if grown < 0 {
			grown = s.value
		}
		l.last[key] = s.value
		l.sum.add(instance, s, grown)
	}
}

// scrape asks all proxies at once and books what they answer. One that does not answer is left out
// until it does; its name is returned.
func (l *ledger) scrape(ctx context.Context, client *http.Client, all []*instance) (silent []string) {
	pages := make([][]series, len(all))
	var wg sync.WaitGroup
	for n, i := range all {
		wg.Go(func() {
			status, body, err := get(ctx, client, "http://"+i.admin+"/metrics")
			if err == nil && status == http.StatusOK {
				pages[n], _ = parse(body) // a page that cannot be read is no answer
			}
		})
	}
	wg.Wait()
	for n, i := range all {
		if pages[n] == nil {
			silent = append(silent, i.spec.name)
			continue
		}
		l.take(i.spec.name, pages[n])
	}
	return silent
}
