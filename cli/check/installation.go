package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tulle-mesh/tulle/charts"
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
	if errors.Is(err, errNotInstalled) {
		return fail("ConfigMap %s/%s does not exist: nothing is installed there", e.Tulle, mesh.Config)
	} else if err != nil {
		return unknown(err)
	}
	if _, err := e.settings(ctx); err != nil {
		return unknown(err)
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
	in, err := e.installed(ctx)
	if err != nil {
		return unknown(err)
	}
	e.wishes = in.Wishes
	all, err := e.planned(charts.Tulle)
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
	for _, m := range missing {
		problems = append(problems, m+" does not exist")
	}
	return failures(problems, "")
}

func controlPlane(ctx context.Context, e *env) Finding {
	pods, err := e.controlPods(ctx)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	for _, name := range mesh.Deployments() {
		d, err := e.Kube.AppsV1().Deployments(e.Tulle).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			problems = append(problems, fmt.Sprintf("deployment %s/%s does not exist", e.Tulle, name))
			continue
		case err != nil:
			return unknown(e.Explain("get deployment "+name, err))
		}
		if problem := unready(d); problem != "" {
			problems = append(problems, problem)
			for i := range pods[name] {
				if why := waiting(&pods[name][i]); why != "" {
					problems = append(problems, why)
				}
			}
		}
	}
	return failures(problems, "")
}

func unready(d *appsv1.Deployment) string {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	switch {
	case want == 0:
		return fmt.Sprintf("deployment %s/%s is scaled to 0", d.Namespace, d.Name)
	case d.Status.ReadyReplicas < want:
		return fmt.Sprintf("deployment %s/%s has %d of %d pods ready", d.Namespace, d.Name, d.Status.ReadyReplicas, want)
	case d.Status.UpdatedReplicas < want:
		return fmt.Sprintf("deployment %s/%s is being updated: %d of %d pods are new", d.Namespace, d.Name, d.Status.UpdatedReplicas, want)
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

func lastLine(text, otherwise string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return otherwise
}

func services(ctx context.Context, e *env) Finding {
	var problems []string
	for _, name := range mesh.Deployments() {
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
		}
	}
	return failures(problems, "")
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
