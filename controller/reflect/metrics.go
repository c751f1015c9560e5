package reflect

import "github.com/prometheus/client_golang/prometheus"

// metrics are the Reflector's.
type metrics struct {
	watchErrors, differences *prometheus.CounterVec
	audits                   prometheus.Counter
	batches                  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, r *Reflector) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		watchErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "source_watch_errors_total", Help: "Lists and watches that the API server refused or that broke, by kind of object.",
		}, []string{"kind"}),
		differences: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "source_audit_differences_total", Help: "Objects that a watch had missed, found by an audit, by kind of object.",
		}, []string{"kind"}),
		audits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "source_audits_total", Help: "Comparisons of what is held with a fresh list.",
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "source_batch_seconds", Help: "How long it took to apply one batch of changes.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}),
	}
	reg.MustRegister(m.watchErrors, m.differences, m.audits, m.batches, &gauges{r})
	return m
}

var (
	objectsDesc = prometheus.NewDesc("source_objects", "Objects that are held, by kind of object.", []string{"kind"}, nil)
	waitingDesc = prometheus.NewDesc("source_waiting", "Changes that wait to be applied, by kind of object.", []string{"kind"}, nil)
)

// gauges reads what is the case when it is asked.
type gauges struct{ r *Reflector }

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- objectsDesc
	ch <- waitingDesc
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for _, s := range g.r.sources {
		st := s.stand()
		ch <- prometheus.MustNewConstMetric(objectsDesc, prometheus.GaugeValue, float64(st.objects), s.String())
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(st.waiting), s.String())
	}
}
