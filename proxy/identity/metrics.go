package identity

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tulle-mesh/tulle/internal/certify"
)

type metrics struct {
	renewals *prometheus.CounterVec
	bundles  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, c *Client) *metrics {
	m := &metrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "identity_cert_renewals_total",
			Help: "Attempts to get a certificate, by outcome.",
		}, []string{"outcome"}),
		bundles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "identity_trust_bundles_total",
			Help: "Versions of the trust bundle that were received, by outcome.",
		}, []string{"outcome"}),
	}
	for _, o := range []string{"issued", "refused", "failed"} {
		m.renewals.WithLabelValues(o)
	}
	for _, o := range []string{"accepted", "refused"} {
		m.bundles.WithLabelValues(o)
	}
	reg.MustRegister(m.renewals, m.bundles, &gauges{c})
	return m
}

func (m *metrics) attempt(err error) {
	outcome := "issued"
	if err != nil {
		outcome = "failed"
	}
	if r := (*certify.Refusal)(nil); errors.As(err, &r) {
		outcome = "refused"
	}
	m.renewals.WithLabelValues(outcome).Inc()
}

var (
	expiryDesc = prometheus.NewDesc("identity_cert_expiration_timestamp_seconds",
		"When the certificate of the proxy expires; 0 before the first one.", nil, nil)
	degradedDesc = prometheus.NewDesc("identity_degraded",
		"1 while the identity service is missed: no certificate, or a bundle that cannot be followed.", nil, nil)
	trustDesc = prometheus.NewDesc("identity_cert_trust_version",
		"The version of the trust bundle in force; 0 is the one that was mounted.", nil, nil)
)

// gauges reads what is the case when it is asked.
type gauges struct{ c *Client }

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{expiryDesc, degradedDesc, trustDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	s := g.c.State()
	var expiry, degraded float64
	if s.Certified {
		expiry = float64(s.NotAfter.Unix())
	}
	if s.Degraded() != nil {
		degraded = 1
	}
	for d, v := range map[*prometheus.Desc]float64{expiryDesc: expiry, degradedDesc: degraded, trustDesc: float64(s.TrustVersion)} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
}
