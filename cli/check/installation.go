package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/version"
)

func namespaceExists(ctx context.Context, e *env) Finding {
	ns, err := e.Kube.CoreV1().Namespaces().Get(ctx, e.Tulle, metav1.GetOptions{})
	switch {
	case err != nil:
		return e.lacking("namespace "+e.Tulle, err)
	case ns.DeletionTimestamp != nil:
		return fail("namespace %s is being deleted", e.Tulle)
	}
	return ok("%s", e.Tulle)
}

func configReadable(ctx context.Context, e *env) Finding {
	in, err := e.installed(ctx)
	switch {
	case errors.Is(err, errNotInstalled):
		return fail("ConfigMap %s/%s does not exist: nothing is installed there", e.Tulle, mesh.Config)
	case errors.Is(err, manifest.ErrWishes):
		return unknown(err).trying(upgradeAnew)
	case err != nil:
		return unknown(err)
	}
	if _, err := e.settings(ctx); err != nil {
		return unknown(err).trying(upgrade + "; where that refuses a value: " + upgradeAnew)
	}
	if len(in.Wishes.Profiles) > 0 {
		return ok("profile %s", strings.Join(in.Wishes.Profiles, ", "))
	}
	return ok("")
}

func definitions(ctx context.Context, e *env) Finding {
	crds, err := manifest.CRDs(e.Tulle)
	if err != nil {
		return unknown(err)
	}
	missing, err := manifest.Missing(ctx, e.Cluster, crds)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	for _, m := range missing {
		problems = append(problems, m+" does not exist")
	}
	if len(problems) > 0 {
		return failures(problems, "")
	}
	for i := range crds {
		problem, err := e.established(ctx, &crds[i])
		if err != nil {
			return unknown(err)
		}
		if problem != "" {
			problems = append(problems, problem)
		}
	}
	return failures(problems, "")
}

// established says what is wrong with a definition that exists.
func (e *env) established(ctx context.Context, want *unstructured.Unstructured) (string, error) {
	have, err := manifest.Get(ctx, e.Cluster, want)
	if err != nil {
		return "", e.Explain("get "+want.GetName(), err)
	}
	conditions, _, _ := unstructured.NestedSlice(have.Object, "status", "conditions") // none yet
	is := slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == "Established" && m["status"] == "True"
	})
	if !is {
		return want.GetName() + " is not established: the API server does not serve it yet", nil
	}
	served := manifest.ServedVersions(have)
	for _, v := range manifest.ServedVersions(want) {
		if !slices.Contains(served, v) {
			return fmt.Sprintf("%s does not serve %s, which this version needs", want.GetName(), v), nil
		}
	}
	return "", nil
}

// objects compares the cluster with what this version would install with the same values.
func objects(ctx context.Context, e *env) Finding {
	all, err := e.intended(ctx)
	if err != nil {
		return unknown(err)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(o unstructured.Unstructured) bool {
		return o.GetKind() == "Namespace" || o.GetKind() == "Deployment" // have checks of their own
	})
	missing, err := manifest.Missing(ctx, e.Cluster, all)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	try := tries{upgrade}
	for _, m := range missing {
		problems = append(problems, m+" does not exist")
		for _, name := range mesh.Deployments() {
			if strings.HasPrefix(m, "serviceaccount/"+name+" ") { // pods' tokens name the account that is gone, by its UID
				try.add("kubectl -n " + e.Tulle + " rollout restart deploy/" + name)
			}
		}
	}
	return failures(problems, "").trying(try.String())
}

func controlPlane(ctx context.Context, e *env) Finding {
	pods, err := e.controlPods(ctx)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	var try tries
	for _, name := range mesh.Deployments() {
		if why := e.off(ctx, name); why != "" {
			problems = append(problems, why)
			try.add(upgrade)
			continue
		}
		d, err := e.Kube.AppsV1().Deployments(e.Tulle).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return unknown(e.Explain("get deployment "+name, err))
		}
		problem := unready(d)
		if problem == "" {
			continue
		}
		problems = append(problems, problem)
		why, what := stuck(d, pods[name])
		problems = append(problems, why...)
		try.add(what)
	}
	return failures(problems, "").trying(try.String())
}

// stuck says what a Deployment that is not ready waits for, and what shows more of it.
func stuck(d *appsv1.Deployment, pods []corev1.Pod) (problems []string, try string) {
	at := "kubectl -n " + d.Namespace + " "
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			try = at + "describe deployment " + d.Name
			if strings.Contains(c.Message, "exceeded quota") {
				try = "raise the quota that is named: " + at + "get resourcequotas"
			}
			return []string{fmt.Sprintf("deployment %s/%s: its pods are not created: %s", d.Namespace, d.Name, c.Message)}, try
		}
	}
	for i := range pods {
		if why := waiting(&pods[i]); why != "" {
			problems = append(problems, why)
			try = at + "describe pod " + pods[i].Name
			if hasRun(&pods[i]) {
				try = at + "logs " + pods[i].Name
			}
		}
	}
	return problems, try
}

func unready(d *appsv1.Deployment) string {
	switch want := replicasOf(d); {
	case d.Status.ReadyReplicas < want:
		return fmt.Sprintf("deployment %s/%s has %d of %d pods ready", d.Namespace, d.Name, d.Status.ReadyReplicas, want)
	case d.Status.UpdatedReplicas < want:
		return fmt.Sprintf("deployment %s/%s is being updated: %d of %d pods are new", d.Namespace, d.Name, d.Status.UpdatedReplicas, want)
	case d.Status.Replicas > d.Status.UpdatedReplicas: // the new ones are there and not ready: those before stay
		return fmt.Sprintf("deployment %s/%s is being updated: %d of its pods are old", d.Namespace, d.Name, d.Status.Replicas-d.Status.UpdatedReplicas)
	}
	return ""
}

// waiting says what a pod that is not ready waits for.
func waiting(p *corev1.Pod) string {
	if mesh.IsReady(p) {
		return ""
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return podName(p) + " has no node: " + c.Message
		}
	}
	for _, all := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range all {
			switch w, t := c.State.Waiting, c.LastTerminationState.Terminated; {
			case w != nil && t != nil:
				return fmt.Sprintf("%s: container %s: %s; it ended with %d: %s", podName(p), c.Name, w.Reason, t.ExitCode, lastLine(t.Message, t.Reason))
			case w != nil:
				return fmt.Sprintf("%s: container %s: %s", podName(p), c.Name, strings.TrimSuffix(w.Reason+": "+w.Message, ": "))
			}
		}
	}
	return podName(p) + " is not ready"
}

// hasRun reports whether a container of a pod has printed anything, or may have.
func hasRun(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil
	})
}

func lastLine(text, otherwise string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return otherwise
}

func services(ctx context.Context, e *env) Finding {
	var problems []string
	var try tries
	for _, name := range mesh.Deployments() {
		more, mend, err := e.misled(ctx, name)
		if err != nil {
			return unknown(err)
		}
		problems = append(problems, more...)
		try.add(mend)
		l, err := e.Kube.DiscoveryV1().EndpointSlices(e.Tulle).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
		if err != nil {
			return unknown(e.Explain("list endpoints", err))
		}
		ready := 0
		for i := range l.Items {
			for _, ep := range l.Items[i].Endpoints {
				if ep.Conditions.Ready == nil || *ep.Conditions.Ready {
					ready++
				}
			}
		}
		if ready == 0 {
			problems = append(problems, fmt.Sprintf("service %s/%s has no ready endpoint", e.Tulle, name))
			if e.off(ctx, name) != "" {
				try.add(upgrade)
			}
		}
	}
	return failures(problems, "").trying(try.String())
}

// misled says where a Service leads to other pods than it should, and what mends it.
func (e *env) misled(ctx context.Context, name string) (problems []string, mend string, err error) {
	var want corev1.Service
	if err := e.intendedInto(ctx, "Service", name, &want); err != nil {
		return nil, "", err
	}
	have, err := e.Kube.CoreV1().Services(e.Tulle).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return []string{fmt.Sprintf("service %s/%s does not exist", e.Tulle, name)}, upgrade, nil
	case err != nil:
		return nil, "", e.Explain("get service "+name, err)
	case !maps.Equal(have.Spec.Selector, want.Spec.Selector):
		return []string{fmt.Sprintf("service %s/%s selects pods by %s, and should by %s", e.Tulle, name,
			labels.FormatLabels(have.Spec.Selector), labels.FormatLabels(want.Spec.Selector))}, upgradeWhole, nil
	}
	return nil, "", nil
}

// replicas warns where the loss of one node would be the loss of a service.
func replicas(ctx context.Context, e *env) Finding {
	by, err := e.controlPods(ctx)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	several := false
	for _, name := range mesh.Deployments() {
		nodes := map[string]bool{}
		for i := range by[name] {
			nodes[by[name][i].Spec.NodeName] = true
		}
		several = several || len(by[name]) > 1
		if len(by[name]) > 1 && len(nodes) == 1 {
			problems = append(problems, fmt.Sprintf("all %d pods of %s are on node %s", len(by[name]), name, by[name][0].Spec.NodeName))
		}
	}
	if !several {
		return skip("there is one replica of each service")
	}
	return warnings(problems, "")
}

func versions(ctx context.Context, e *env) Finding {
	var problems []string
	for _, name := range mesh.Deployments() {
		d, err := e.Kube.AppsV1().Deployments(e.Tulle).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return e.lacking("deployment "+e.Tulle+"/"+name, err)
		}
		if v := mesh.DeploymentVersion(d); v != version.Number() {
			problems = append(problems, fmt.Sprintf("%s is %s, and this is tulle %s", name, v, version.Number()))
		}
	}
	return warnings(problems, version.Number())
}
