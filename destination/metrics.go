package destination

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	streams                                                   prometheus.Gauge
	full, delta, unresolved, inbound, digests                 prometheus.Counter
	acks, nacks, overdue, encodings, audits, auditDifferences prometheus.Counter
	rechecks, aged, rejected                                  prometheus.Counter
	resyncs, refusals, failures                               *prometheus.CounterVec
	latency                                                   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "discovery_" + name + "_total", Help: help})
		r.MustRegister(c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "discovery_" + name + "_total", Help: help}, []string{label})
		r.MustRegister(c)
		return c
	}
	sent := vec("messages_sent", "States and digests sent to proxies, by kind.", "kind")
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "discovery_streams", Help: "Proxies that have a stream now.",
		}),
		full:             sent.WithLabelValues("full"),
		delta:            sent.WithLabelValues("delta"),
		unresolved:       sent.WithLabelValues("unresolved"),
		inbound:          sent.WithLabelValues("inbound"),
		digests:          sent.WithLabelValues("digest"),
		acks:             counter("acks", "Versions that proxies took."),
		nacks:            counter("nacks", "Versions that proxies refused."),
		overdue:          counter("overdue", "Versions that were not answered in time and sent whole again."),
		encodings:        counter("encodings", "Updates encoded; each is shared by all streams on one version."),
		audits:           counter("audits", "Tables derived anew and compared."),
		auditDifferences: counter("audit_differences", "Tables found wrong by an audit, and repaired."),
		rechecks:         counter("rechecks", "Checks of the sources because proxies met failures."),
		aged:             counter("streams_aged", "Streams ended at their maximum age."),
		rejected:         counter("streams_rejected", "Streams of callers without a valid identity."),
		resyncs:          vec("resyncs", "Targets that proxies asked for whole, by reason.", "reason"),
		refusals:         vec("refusals", "Requests of proxies that were refused, by code.", "code"),
		failures:         vec("endpoint_failures", "Failures that proxies met at endpoints, by kind.", "kind"),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "discovery_latency_seconds", Help: "From a change in the tables to a proxy's acknowledgement.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
	}
	r.MustRegister(m.streams, m.latency)
	return m
}
