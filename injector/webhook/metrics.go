package webhook

import "github.com/prometheus/client_golang/prometheus"

// counts are the injector's metrics.
type counts struct {
	admissions *prometheus.CounterVec
	seconds    prometheus.Histogram
	expiry     prometheus.Gauge
	rotations  *prometheus.CounterVec
	missing    *prometheus.GaugeVec
	mirrored   prometheus.Counter
	config     prometheus.Gauge
}

// Outcomes of an admission.
const (
	injected = "injected"
	skipped  = "skipped"
	refused  = "refused"
	passed   = "passed" // no pod, or a pod that needed no change
)

func newCounts(r prometheus.Registerer) *counts {
	c := &counts{
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "injector_admissions_total", Help: "Pods that the API server asked about, by outcome and, for those that were left alone, the reason.",
		}, []string{"outcome", "reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "injector_admission_seconds", Help: "Time that an answer took.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "injector_cert_expiration_timestamp_seconds", Help: "When the webhook's certificate expires; 0 before the first one.",
		}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "injector_rotation_steps_total", Help: "Steps of the rotation of the webhook's certificate that this replica took.",
		}, []string{"step"}),
		missing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "injector_pods_without_proxy", Help: "Pods that are asked to have a proxy and have none, by reason; missed: they were created while the webhook was not asked.",
		}, []string{"reason"}),
		mirrored: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "injector_namespaces_mirrored_total", Help: "Namespaces whose label was made to say what their annotation says.",
		}),
		config: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "injector_config_valid", Help: "1 while the ConfigMap tulle-config can be read, 0 while the last good one is used.",
		}),
	}
	r.MustRegister(c.admissions, c.seconds, c.expiry, c.rotations, c.missing, c.mirrored, c.config)
	return c
}
