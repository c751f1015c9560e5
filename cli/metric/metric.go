// Package metric reads what proxies and the control plane serve at /metrics.
package metric

import (
	"bytes"
	"fmt"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Set are metric families by name.
type Set map[string]*dto.MetricFamily

// Parse reads the text format.
func Parse(raw []byte) (Set, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return families, nil
}

// Sum adds up the metrics of a family that have all of labels; 0 where there is none.
func (s Set) Sum(name string, labels map[string]string) float64 {
	sum := 0.0
	for _, m := range s[name].GetMetric() {
		if have := Labels(m); subset(labels, have) {
			sum += value(m)
		}
	}
	return sum
}

// Has reports whether there is such a family.
func (s Set) Has(name string) bool { return len(s[name].GetMetric()) > 0 }

// Each calls f for each metric of a family.
func (s Set) Each(name string, f func(labels map[string]string, value float64)) {
	for _, m := range s[name].GetMetric() {
		f(Labels(m), value(m))
	}
}

// Labels are a metric's.
func Labels(m *dto.Metric) map[string]string {
	out := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		out[l.GetName()] = l.GetValue()
	}
	return out
}

func subset(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return m.Untyped.GetValue()
}
