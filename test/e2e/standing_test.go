package e2e

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// standing is how a proxy stands.
type standing struct {
	connected, digests, mismatches, failedRenewals float64
	expires                                        time.Time
}

// standings are those of all proxies of the namespace that answer.
func (e *env) standings() map[string]standing {
	e.t.Helper()
	return e.standingsAt(e.addresses())
}

// addresses are those of the pods with a proxy.
func (e *env) addresses() map[string]string {
	e.t.Helper()
	return e.pods("tulle.dev/proxy=true")
}

func (e *env) standingsAt(addresses map[string]string) map[string]standing {
	e.t.Helper()
	all := map[string]standing{}
	for pod, ip := range addresses {
		ctx, stop := context.WithTimeout(e.t.Context(), 5*time.Second)
		text, _, err := fetch(ctx, "http://"+net.JoinHostPort(ip, "4191")+"/metrics")
		stop()
		if err != nil {
			continue
		}
		m := func(name string) float64 { return metric(text, name) }
		all[pod] = standing{
			connected: m("discovery_connected"), digests: m("discovery_digest_total"), mismatches: m("discovery_digest_mismatch_total"),
			failedRenewals: m("identity_cert_renewals_total") - m(`identity_cert_renewals_total{outcome="success"}`),
			expires:        time.Unix(int64(m("identity_cert_expiration_timestamp_seconds")), 0),
		}
	}
	return all
}

// metric is the sum of the series of a name, or those whose labels begin so.
func metric(text, name string) (sum float64) {
	name = strings.TrimSuffix(name, "}")
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || !strings.ContainsRune(" {},", rune(rest[0])) {
			continue
		}
		fields := strings.Fields(rest)
		if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			sum += v
		}
	}
	return sum
}

// agreeAgain waits until every proxy that has targets has compared another digest, and none differed.
func (e *env) agreeAgain() {
	e.t.Helper()
	before, begun := e.standings(), time.Now()
	e.until(func(context.Context) error { return e.agreed(before) })
	e.t.Logf("%d proxies agree after %.1f s", len(before), time.Since(begun).Seconds())
}

// agreed reports whether every proxy has a stream, and compared digests on it where it has any target.
func (e *env) agreed(before map[string]standing) error {
	now := e.standings()
	for pod, was := range before {
		s := now[pod]
		if s.connected != 1 || was.digests > 0 && s.digests == was.digests {
			return fmt.Errorf("%s: %+v, before %+v", pod, s, was)
		}
		if s.mismatches != was.mismatches {
			return fmt.Errorf("%s differed from the control plane %.0f times", pod, s.mismatches-was.mismatches)
		}
	}
	return nil
}
