package check

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

// Minor versions of Kubernetes 1.x.
const (
	oldest         = 25 // what the control plane reads is stable from it on
	nativeSidecars = 29 // KEP-753
)

// Clocks may differ by this: certificates begin a minute early (R5.2), and a Date has whole seconds.
const skew = 20 * time.Second

func apiAnswers(ctx context.Context, e *env) Finding {
	v, err := e.serverVersion(ctx)
	if err != nil {
		return unknown(err)
	}
	return ok("%s at %s", v.GitVersion, e.Server)
}

func minorOf(v *version.Info) (int, error) {
	n, err := strconv.Atoi(strings.TrimRight(v.Minor, "+"))
	if err != nil || v.Major != "1" {
		return 0, fmt.Errorf("%q.%q is no version of Kubernetes that is known", v.Major, v.Minor)
	}
	return n, nil
}

func kubernetesVersion(ctx context.Context, e *env) Finding {
	v, err := e.serverVersion(ctx)
	if err != nil {
		return unknown(err)
	}
	minor, err := minorOf(v)
	switch {
	case err != nil:
		return Finding{Status: Warning, Problems: []string{err.Error()}}
	case minor < oldest:
		return fail("Kubernetes is %s; the oldest that is supported is 1.%d", v.GitVersion, oldest)
	case minor < nativeSidecars:
		return warn("Kubernetes is %s: before 1.%d proxies are ordinary containers, which Jobs wait for and init containers cannot use", v.GitVersion, nativeSidecars)
	}
	return ok("%s, with native sidecars", v.GitVersion)
}

// clocks compares this machine's clock with the API server's, and the nodes' with it: a kubelet writes
// its own time into its Lease every 10 s.
func clocks(ctx context.Context, e *env) Finding {
	if e.Clock == nil {
		return skip("the API server's time is not known")
	}
	began := e.Time()
	server, err := e.Clock(ctx)
	if err != nil {
		return unknown(e.Explain("ask for the time", err))
	}
	var problems []string
	if d := server.Sub(began.Add(e.Time().Sub(began) / 2)); d.Abs() > skew {
		problems = append(problems, fmt.Sprintf("this machine's clock differs from the API server's by %s", d.Round(time.Second)))
	}
	nodes, err := e.nodes(ctx)
	if err != nil {
		return unknown(err)
	}
	leases, err := e.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).List(ctx, metav1.ListOptions{})
	if err != nil {
		return Finding{Status: Warning, Problems: append(problems, e.Explain("list the nodes' leases", err).Error())}
	}
	ready := map[string]bool{}
	for i := range nodes {
		ready[nodes[i].Name] = isNodeReady(&nodes[i])
	}
	for i := range leases.Items {
		l := &leases.Items[i]
		if l.Spec.RenewTime == nil || !ready[l.Name] {
			continue
		}
		ahead := l.Spec.RenewTime.Sub(server)
		// A Lease is renewed every 10 s and a node without one is unready after 40 s.
		if ahead > skew || ahead < -skew-40*time.Second {
			problems = append(problems, fmt.Sprintf("node %s's clock differs from the API server's by about %s", l.Name, ahead.Round(time.Second)))
		}
	}
	return warnings(problems, "")
}

func isNodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
