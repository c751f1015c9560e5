package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/cli/metric"
	"github.com/tulle-mesh/tulle/injector/config"
)

// askedAtOnce bounds forwarded connections: each is a stream of the API server's.
const askedAtOnce = 8

// concerned are the meshed pods in question.
func (e *env) concerned(ctx context.Context) ([]corev1.Pod, error) {
	all, err := e.meshed(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(p corev1.Pod) bool {
		return e.only != "" && p.Namespace != e.only || p.DeletionTimestamp != nil
	}), nil
}

func proxiesReady(ctx context.Context, e *env) Finding {
	pods, err := e.concerned(ctx)
	if err != nil {
		return unknown(err)
	}
	if len(pods) == 0 {
		return skip("there are no pods with a proxy%s", inNamespace(e.only))
	}
	var problems []string
	for i := range pods {
		s := mesh.ProxyStatus(&pods[i])
		switch {
		case s == nil:
			problems = append(problems, podName(&pods[i])+": the proxy has not been started: "+strings.TrimPrefix(waiting(&pods[i]), podName(&pods[i])+" "))
		case s.State.Waiting != nil:
			problems = append(problems, waiting(&pods[i]))
		case !s.Ready:
			problems = append(problems, fmt.Sprintf("%s: the proxy is not ready (%d restarts)", podName(&pods[i]), s.RestartCount))
		}
	}
	return failures(problems, proxyCount(len(pods)))
}

func proxiesVersion(ctx context.Context, e *env) Finding {
	pods, err := e.concerned(ctx)
	if err != nil {
		return unknown(err)
	}
	d, err := e.Kube.AppsV1().Deployments(e.Tulle).Get(ctx, mesh.Destination, metav1.GetOptions{})
	if err != nil {
		return e.lacking("deployment "+e.Tulle+"/"+mesh.Destination, err)
	}
	want := mesh.DeploymentVersion(d)
	counts := map[string]int{}
	for i := range pods {
		if v := mesh.ProxyVersion(&pods[i]); v != want {
			counts[fmt.Sprintf("%s: proxy %s, control plane %s", owner(&pods[i]), v, want)]++
		}
	}
	var problems []string
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		problems = append(problems, fmt.Sprintf("%d %s", counts[line], line))
	}
	return warnings(problems, want)
}

// answer is what one proxy says of itself.
type answer struct {
	pod     *corev1.Pod
	metrics metric.Set
	err     error
}

// proxyMetrics asks every ready proxy in question.
func (e *env) proxyMetrics(ctx context.Context) ([]answer, error) {
	return once(e, "metrics", func() ([]answer, error) {
		pods, err := e.concerned(ctx)
		if err != nil {
			return nil, err
		}
		answers := make([]answer, len(pods))
		var wg sync.WaitGroup
		gate := make(chan struct{}, askedAtOnce)
		for i := range pods {
			wg.Go(func() { // ends with the request, which has a time limit
				gate <- struct{}{}
				defer func() { <-gate }()
				answers[i].pod = &pods[i]
				raw, err := e.Get(ctx, cluster.Ask{Namespace: pods[i].Namespace, Pod: pods[i].Name, Port: mesh.ProxyAdmin, Path: "/metrics"})
				if err == nil {
					answers[i].metrics, err = metric.Parse(raw)
				}
				answers[i].err = err
			})
		}
		wg.Wait()
		return answers, nil
	})
}

// eachProxy collects what judge finds wrong with each proxy; "" is nothing.
func (e *env) eachProxy(ctx context.Context, bad Status, judge func(*corev1.Pod, metric.Set) string) Finding {
	all, err := e.proxyMetrics(ctx)
	if err != nil {
		return unknown(err)
	}
	if len(all) == 0 {
		return skip("there are no pods with a proxy%s", inNamespace(e.only))
	}
	var problems []string
	for _, a := range all {
		if a.err != nil {
			problems = append(problems, fmt.Sprintf("%s does not answer: %s", podName(a.pod), a.err))
			continue
		}
		if p := judge(a.pod, a.metrics); p != "" {
			problems = append(problems, podName(a.pod)+": "+p)
		}
	}
	if bad == Failure {
		return failures(problems, proxyCount(len(all)))
	}
	return warnings(problems, proxyCount(len(all)))
}

func proxiesCertified(ctx context.Context, e *env) Finding {
	return e.eachProxy(ctx, Failure, func(_ *corev1.Pod, m metric.Set) string {
		until := m.Sum("identity_cert_expiration_timestamp_seconds", nil)
		switch left := time.Unix(int64(until), 0).Sub(e.Time()); {
		case until == 0:
			return "it has no certificate"
		case left <= 0:
			return "its certificate expired " + round(-left) + " ago"
		case m.Sum("identity_degraded", nil) > 0:
			return "it misses the identity service; its certificate is good for " + round(left)
		}
		return ""
	})
}

func proxiesConnected(ctx context.Context, e *env) Finding {
	return e.eachProxy(ctx, Failure, func(_ *corev1.Pod, m metric.Set) string {
		if m.Sum("discovery_connected", nil) == 0 {
			return "it has no stream to the destination service"
		}
		return ""
	})
}

// streams is the part of the destination service's /debug/streams that matters here.
type streams struct {
	Streams []struct {
		Proxy    string `json:"proxy"`
		Refused  string `json:"refused"`
		Subjects []struct {
			Target string `json:"target"`
			Sent   uint64 `json:"sent"`
			Acked  uint64 `json:"acked"`
			Nack   *struct {
				Reason string `json:"reason"`
			} `json:"nack"`
		} `json:"subjects"`
	} `json:"streams"`
}

// proxiesAgree compares the two sides: what destination sent and each proxy took, and the digests that
// proxies found different and have not mended by asking anew.
func proxiesAgree(ctx context.Context, e *env) Finding {
	f := e.eachProxy(ctx, Failure, func(_ *corev1.Pod, m metric.Set) string {
		differ, again := m.Sum("discovery_digest_mismatch_total", nil), m.Sum("discovery_resync_total", nil)
		if differ > again {
			return fmt.Sprintf("%.0f digests differed from what it held, and it asked anew only %.0f times", differ, again)
		}
		return ""
	})
	if f.Status == Skipped {
		return f
	}
	more, err := e.refusals(ctx)
	if err != nil {
		return unknown(err)
	}
	f.Problems = append(f.Problems, more...)
	if len(f.Problems) > 0 {
		f.Status = Failure
	}
	return f
}

// refusals are what proxies did not take, and proxies that get nothing.
func (e *env) refusals(ctx context.Context) ([]string, error) {
	pods, err := mesh.ControlPods(ctx, e.Cluster, mesh.Destination)
	if err != nil {
		return nil, err
	}
	var problems []string
	for i := range pods {
		raw, err := e.Get(ctx, cluster.Ask{Namespace: pods[i].Namespace, Pod: pods[i].Name, Port: mesh.ControllerAdmin, Path: "/debug/streams"})
		if err != nil {
			return nil, err
		}
		var s streams
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%s: /debug/streams: %w", podName(&pods[i]), err)
		}
		for _, st := range s.Streams {
			if e.only != "" && !strings.HasPrefix(st.Proxy, e.only+"/") {
				continue
			}
			if st.Refused != "" {
				problems = append(problems, fmt.Sprintf("proxy of %s gets no policy: %s", st.Proxy, st.Refused))
			}
			for _, sub := range st.Subjects {
				if sub.Nack != nil {
					problems = append(problems, fmt.Sprintf("proxy of %s refused what it was sent of %s: %s", st.Proxy, sub.Target, sub.Nack.Reason))
				}
			}
		}
	}
	return problems, nil
}

// opaquePorts compares what detection saw with what is declared. Every connection to an opaque port that
// is not declared waits for the client once (R2.5); a port where both were seen has two kinds of clients.
func opaquePorts(ctx context.Context, e *env) Finding {
	all, err := e.proxyMetrics(ctx)
	if err != nil {
		return unknown(err)
	}
	if len(all) == 0 {
		return skip("there are no pods with a proxy%s", inNamespace(e.only))
	}
	type key struct{ owner, port string }
	opaque, http, declared := map[key]float64{}, map[key]float64{}, map[key]float64{}
	for _, a := range all {
		a.metrics.Each("proxy_detection_total", func(l map[string]string, n float64) {
			k := key{owner(a.pod), l["port"]}
			if l["direction"] != "inbound" || l["port"] == "other" {
				return
			}
			switch l["outcome"] {
			case "opaque", "server_first":
				opaque[k] += n
			case "http1", "http2":
				http[k] += n
			case "declared":
				declared[k] += n
			}
		})
	}
	keys := slices.SortedFunc(maps.Keys(opaque), func(a, b key) int {
		return cmp.Or(strings.Compare(a.owner, b.owner), cmp.Compare(number(a.port), number(b.port)))
	})
	var problems []string
	for _, k := range keys {
		switch {
		case opaque[k] == 0:
		case http[k] > 0:
			problems = append(problems, fmt.Sprintf("%s: port %s was HTTP in %.0f connections and something else in %.0f: say which (appProtocol)", k.owner, k.port, http[k], opaque[k]))
		case declared[k] == 0:
			problems = append(problems, fmt.Sprintf("%s: port %s speaks no HTTP (%.0f connections); each connection waits until that is clear: annotate %s%s: %q",
				k.owner, k.port, opaque[k], config.Prefix, config.OpaquePorts, k.port))
		}
	}
	return warnings(problems, "")
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func proxyCount(n int) string {
	if n == 1 {
		return "1 proxy"
	}
	return fmt.Sprintf("%d proxies", n)
}
