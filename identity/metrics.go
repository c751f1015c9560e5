package identity

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tulle-mesh/tulle/internal/certify"
)

// metrics are the service's. Every series is there from the start.
type metrics struct {
	issued, refused *prometheus.CounterVec
	steps           *prometheus.CounterVec
	nacks           prometheus.Counter
}

// Values of the label credential.
const (
	byToken       = "token"
	byCertificate = "certificate"
)

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "identity_certificates_issued_total",
			Help: "Certificates signed for workloads, by what proved who asked.",
		}, []string{"credential"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "identity_certificates_refused_total",
			Help: "Requests for a certificate that were refused, by reason.",
		}, []string{"reason"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "identity_rotation_steps_total",
			Help: "Steps of the rotation of roots and issuers that were taken.",
		}, []string{"step"}),
		nacks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "identity_trust_refusals_total",
			Help: "Versions of the trust bundle that a watcher refused.",
		}),
	}
	m.issued.WithLabelValues(byToken)
	m.issued.WithLabelValues(byCertificate)
	for _, r := range certify.Reasons() {
		m.refused.WithLabelValues(r.String())
	}
	for _, n := range stepNames[1:] {
		m.steps.WithLabelValues(n)
	}
	reg.MustRegister(m.issued, m.refused, m.steps, m.nacks, &gauges{s})
	return m
}

var (
	versionDesc = prometheus.NewDesc("identity_trust_version",
		"The version of the trust bundle.", nil, nil)
	rootsDesc = prometheus.NewDesc("identity_trust_roots",
		"Roots in the trust bundle: more than one during a rotation.", nil, nil)
	watchersDesc = prometheus.NewDesc("identity_trust_watchers",
		"Proxies that follow the trust bundle, by whether the newest version is in force there.",
		[]string{"standing"}, nil)
	issuerExpiryDesc = prometheus.NewDesc("identity_issuer_expiration_timestamp_seconds",
		"When the certificate that signs leaves expires.", nil, nil)
	rootExpiryDesc = prometheus.NewDesc("identity_root_expiration_timestamp_seconds",
		"When the first root of the trust bundle expires.", nil, nil)
)

// gauges reads what is the case when it is asked.
type gauges struct{ s *Server }

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{versionDesc, rootsDesc, watchersDesc, issuerExpiryDesc, rootExpiryDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := g.s.authority.current()
	first := st.roots[0].cert.NotAfter
	for _, r := range st.roots {
		first = earlier(first, r.cert.NotAfter)
	}
	set(versionDesc, float64(st.version))
	set(rootsDesc, float64(len(st.roots)))
	set(issuerExpiryDesc, float64(st.issuer.cert.NotAfter.Unix()))
	set(rootExpiryDesc, float64(first.Unix()))
	w := g.s.watchers.standing(st.version)
	set(watchersDesc, float64(w.Current), "current")
	set(watchersDesc, float64(w.Behind), "behind")
	set(watchersDesc, float64(w.Refused), "refused")
}
