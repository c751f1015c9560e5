package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Family is one metric: what docs/metrics.md says of it.
type Family struct {
	Name, Type, Help string
	Labels           []string
}

// family indexes families.
type family int

const (
	requestTotal family = iota
	responseTotal
	responseLatency
	retryTotal
	tcpOpenTotal
	tcpOpenConnections
	tcpCloseTotal
	tcpReadBytes
	tcpWriteBytes
	authzAllow
	authzDeny
	retryBudgetExhausted
	timeoutTotal
	circuitOpen
	refusedTotal
	evictedTotal
	detectionTotal
	discoveryConnected
	discoveryUpdate
	discoveryDigest
	discoveryDigestMismatch
	discoveryResync
	inFlight
	queued
	workerBusy
	buffersUsed
	buffersLent
	buffersLimit
	addedSeconds
	phaseSeconds
	overflowTotal
	families
)

// Families lists every metric of a proxy in the order of docs/metrics.md.
func Families() []Family {
	traffic := labelNames[:]
	with := func(more ...string) []string { return append(append([]string{}, traffic...), more...) }
	counter, gauge, histogram, summary := "counter", "gauge", "histogram", "summary"
	return []Family{
		requestTotal:       {"request_total", counter, "Requests: inbound, received from clients; outbound, sent by the application.", traffic},
		responseTotal:      {"response_total", counter, "Ends of requests. status_code is 100 to 599 or other (other: there was no response); grpc_status is 0 to 16 or other, empty where it is not gRPC.", with("classification", "status_code", "grpc_status")},
		responseLatency:    {"response_latency_ms", histogram, "Time from a request's head to the end of its response, in milliseconds; zones are not told apart (dst_zone is empty).", traffic},
		retryTotal:         {"retry_total", counter, "Attempts of requests beyond the first.", traffic},
		tcpOpenTotal:       {"tcp_open_total", counter, "Connections: inbound, accepted; outbound, made to endpoints.", traffic},
		tcpOpenConnections: {"tcp_open_connections", gauge, "Connections that are open now.", with("dst_pod")},
		tcpCloseTotal:      {"tcp_close_total", counter, "Connections that ended; errno is empty for an orderly end.", with("errno")},
		tcpReadBytes:       {"tcp_read_bytes_total", counter, "Bytes read from peers.", traffic},
		tcpWriteBytes:      {"tcp_write_bytes_total", counter, "Bytes written to peers.", traffic},
		authzAllow:         {"inbound_authz_allow_total", counter, "Connections and requests that a policy allowed; policy is its name or default.", traffic},
		authzDeny:          {"inbound_authz_deny_total", counter, "Connections and requests that a policy denied; policy is its name or default.", traffic},

		retryBudgetExhausted: {"retry_budget_exhausted_total", counter, "Retries that were not made because the budget was used up.", nil},
		timeoutTotal:         {"timeout_total", counter, "Timeouts by kind.", []string{"kind"}},
		circuitOpen:          {"circuit_open_total", counter, "Endpoints ejected because they failed.", nil},
		refusedTotal:         {"proxy_refused_total", counter, "Connections and requests that the proxy refused, by reason.", []string{"reason"}},
		evictedTotal:         {"proxy_evicted_total", counter, "Streams and connections whose reader had stopped, reset because others wanted their memory.", nil},
		detectionTotal:       {"proxy_detection_total", counter, "Connections by what they were detected to speak; port is the destination's, or other beyond the first 64.", []string{"direction", "port", "outcome"}},

		discoveryConnected:      {"discovery_connected", gauge, "1 while the stream to destination is up.", nil},
		discoveryUpdate:         {"discovery_update_total", counter, "Updates from destination; result is acked or refused.", []string{"result"}},
		discoveryDigest:         {"discovery_digest_total", counter, "Digests of destination that were compared with what the balancer holds.", nil},
		discoveryDigestMismatch: {"discovery_digest_mismatch_total", counter, "Digests that differed from what the balancer held.", nil},
		discoveryResync:         {"discovery_resync_total", counter, "Targets that were asked for anew.", nil},

		inFlight:      {"proxy_requests_in_flight", gauge, "Requests that have not ended.", []string{"direction"}},
		queued:        {"proxy_requests_queued", gauge, "Requests and connections that wait for discovery or for an endpoint.", []string{"direction"}},
		workerBusy:    {"proxy_worker_busy_ratio", gauge, "Share of time that a worker was not waiting, since the last scrape.", []string{"worker"}},
		buffersUsed:   {"proxy_buffers_used_bytes", gauge, "Bytes that are buffered, of the proxy's budget.", nil},
		buffersLent:   {"proxy_buffers_lent_bytes", gauge, "Bytes by which windows of streams have grown at the budget's expense, buffered or not.", nil},
		buffersLimit:  {"proxy_buffers_limit_bytes", gauge, "The budget for buffered bytes.", nil},
		addedSeconds:  {"proxy_added_seconds", histogram, "Time that this proxy itself added to a request.", []string{"direction"}},
		phaseSeconds:  {"proxy_request_phase_seconds", summary, "Where the time of requests went; there are no quantiles, only sum and count.", []string{"direction", "phase"}},
		overflowTotal: {"proxy_metrics_overflow_total", counter, "Label sets that did not fit and were counted under other.", nil},
	}
}

// Beside lists what other packages of a proxy register themselves; a test compares it with them.
func Beside() []Family {
	return []Family{ // proxy/identity
		{"identity_cert_expiration_timestamp_seconds", "gauge", "When the certificate of the proxy expires; 0 before the first one.", nil},
		{"identity_cert_renewals_total", "counter", "Attempts to get a certificate, by outcome.", []string{"outcome"}},
		{"identity_cert_trust_version", "gauge", "The version of the trust bundle in force; 0 is the one that was mounted.", nil},
		{"identity_degraded", "gauge", "1 while the identity service is missed: no certificate, or a bundle that cannot be followed.", nil},
		{"identity_trust_bundles_total", "counter", "Versions of the trust bundle that were received, by outcome.", []string{"outcome"}},
	}
}

func describe() [families]*prometheus.Desc {
	var ds [families]*prometheus.Desc
	for i, f := range Families() {
		ds[i] = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	}
	return ds
}

// Markdown is docs/metrics.md.
func Markdown() string {
	var s strings.Builder
	s.WriteString(`# Metrics of a proxy

Generated from proxy/metrics; a test compares this page with what is registered. Every proxy serves them at
port 4191, path /metrics. Names follow what dashboards, Flagger and Argo Rollouts already query.

Labels are always all present; an empty value says that it does not apply. Nothing that a client chooses becomes a
label. Label sets that were not used for 10 minutes disappear and begin at zero when they are used again. A worker
tells at most 1000 label sets of a kind apart and counts the rest under sets whose labels say ` + "`other`" + `
(` + "`proxy_metrics_overflow_total`" + ` counts how often).

The labels of traffic:

| label | value |
| --- | --- |
| direction | inbound (to the workload) or outbound (from it) |
| tls | true: mutual TLS of the mesh; false: not, and no_tls_reason says why |
| no_tls_reason | not_meshed, port_skipped, loopback, not_resolved, disabled, no_endpoint, plaintext, or empty |
| client_id, server_id | SPIFFE IDs that were verified |
| dst_service, dst_namespace, dst_deployment, dst_zone | the destination, as discovery knows it |
| route, policy | names of the objects that decided, or default |

`)
	traffic := strings.Join(labelNames[:], ", ")
	s.WriteString("| metric | type | labels | what |\n| --- | --- | --- | --- |\n")
	for _, f := range append(Families(), Beside()...) {
		l := strings.Replace(strings.Join(f.Labels, ", "), traffic, "traffic", 1)
		fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", f.Name, f.Type, l, f.Help)
	}
	s.WriteString("\nBuckets of response_latency_ms: ")
	for i, b := range latencyBounds {
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprintf(&s, "%g", b.Seconds()*1000)
	}
	s.WriteString(".\n")
	section(&s, "Kinds of timeout_total", timeoutNames[:])
	section(&s, "Reasons of proxy_refused_total", refusalNames[:])
	section(&s, "Phases of proxy_request_phase_seconds", phaseNames[:])
	section(&s, "Outcomes of proxy_detection_total", outcomeNames[:])
	return s.String()
}

func section(s *strings.Builder, title string, names []string) {
	fmt.Fprintf(s, "\n%s: %s.\n", title, strings.Join(names, ", "))
}
