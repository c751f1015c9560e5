package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector makes metrics of the workers' counts at each scrape. Safe for concurrent use as far as
// gather is.
type Collector struct {
	gather  func() []*Snapshot
	descs   [families]*prometheus.Desc
	process Process
}

// NewCollector returns a collector. gather returns a snapshot of every worker, in the workers' order;
// the collector owns what it gets.
func NewCollector(gather func() []*Snapshot) *Collector {
	return &Collector{gather: gather, descs: describe()}
}

// Process is what goroutines beside the workers count in.
func (c *Collector) Process() *Process { return &c.process }

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	out := emitter{descs: &c.descs, ch: ch}
	all := c.gather()
	for i, s := range all {
		out.gauge(workerBusy, s.proxy.Busy, strconv.Itoa(i))
	}
	s := sum(all)
	for i := range s.http {
		out.http(&s.http[i])
	}
	for i := range s.times {
		out.times(&s.times[i])
	}
	for i := range s.traffic {
		out.traffic(&s.traffic[i])
	}
	for i := range s.tcp {
		out.gauge(tcpOpenConnections, float64(s.tcp[i].open), append(s.tcp[i].labels.values(), s.tcp[i].labels.Pod)...)
	}
	for i := range s.authz {
		out.authz(&s.authz[i])
	}
	for i := range s.detected {
		out.detected(&s.detected[i])
	}
	out.counter(overflowTotal, s.overflow)
	out.proxy(&s.proxy)
	out.spent(&s.proxy)
	out.process(&c.process)
}

// emitter writes metrics of known families.
type emitter struct {
	descs *[families]*prometheus.Desc
	ch    chan<- prometheus.Metric
}

func (e *emitter) counter(f family, n uint64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.descs[f], prometheus.CounterValue, float64(n), labels...)
}

func (e *emitter) gauge(f family, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.descs[f], prometheus.GaugeValue, v, labels...)
}

func (e *emitter) http(h *HTTP) {
	l := h.labels.values()
	e.counter(requestTotal, h.requests, l...)
	if h.retries > 0 || h.labels.Direction == Outbound {
		e.counter(retryTotal, h.retries, l...)
	}
	for _, r := range h.responses {
		e.counter(responseTotal, r.n, append(h.labels.values(), classLabel(r.failure), statusLabel(r.status), grpcLabel(r.grpc))...)
	}
}

func (e *emitter) times(t *timing) {
	n, le := cumulative(latencyBounds[:], t.counts[:], time.Millisecond)
	e.ch <- prometheus.MustNewConstHistogram(e.descs[responseLatency], n, t.sum.Seconds()*1000, le, t.labels.values()...)
}

func (e *emitter) traffic(t *traffic) {
	l := t.labels.values()
	e.counter(tcpOpenTotal, t.opened, l...)
	e.counter(tcpReadBytes, t.read, l...)
	e.counter(tcpWriteBytes, t.wrote, l...)
	for _, c := range t.closed {
		e.counter(tcpCloseTotal, c.n, append(t.labels.values(), c.errno)...)
	}
}

// authz writes a decision only once it was made: a policy that only allows has no series of denials.
func (e *emitter) authz(a *Authz) {
	l := a.labels.values()
	if a.allowed > 0 {
		e.counter(authzAllow, a.allowed, l...)
	}
	if a.denied > 0 {
		e.counter(authzDeny, a.denied, l...)
	}
}

func (e *emitter) detected(d *Detected) {
	port := other
	if d.port != 0 {
		port = strconv.Itoa(int(d.port))
	}
	for o, n := range d.n {
		if n > 0 {
			e.counter(detectionTotal, n, d.direction.String(), port, outcomeNames[o])
		}
	}
}

func (e *emitter) proxy(p *Proxy) {
	for i, n := range p.Timeouts {
		e.counter(timeoutTotal, n, timeoutNames[i])
	}
	for i, n := range p.Refused {
		e.counter(refusedTotal, n, refusalNames[i])
	}
	e.counter(retryBudgetExhausted, p.RetryBudgetExhausted)
	e.counter(circuitOpen, p.CircuitOpen)
	e.counter(evictedTotal, p.Evicted)
	e.counter(discoveryUpdate, p.UpdatesAcked, "acked")
	e.counter(discoveryUpdate, p.UpdatesRefused, "refused")
	e.counter(discoveryDigest, p.Digests)
	e.counter(discoveryDigestMismatch, p.DigestMismatches)
	e.counter(discoveryResync, p.Resyncs)
	for d := range directions {
		e.gauge(inFlight, float64(p.InFlight[d]), d.String())
		e.gauge(queued, float64(p.Queued[d]), d.String())
	}
	e.gauge(buffersUsed, float64(p.BuffersUsed))
	e.gauge(buffersLent, float64(p.BuffersLent))
	e.gauge(buffersLimit, float64(p.BuffersLimit))
}

// spent writes where the time of requests went.
func (e *emitter) spent(p *Proxy) {
	for d := range directions {
		a := &p.Added[d]
		n, le := cumulative(addedBounds[:], a.counts[:], time.Second)
		e.ch <- prometheus.MustNewConstHistogram(e.descs[addedSeconds], n, a.sum.Seconds(), le, d.String())
		for i, s := range p.Phases[d] {
			if s.Count > 0 {
				e.ch <- prometheus.MustNewConstSummary(e.descs[phaseSeconds], s.Count, s.Sum.Seconds(), nil, d.String(), phaseNames[i])
			}
		}
	}
}

func (e *emitter) process(p *Process) {
	e.gauge(discoveryConnected, flag(p.connected.Load()))
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
