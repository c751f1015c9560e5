package check

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

func nothingInstalled(ctx context.Context, e *env) Finding {
	switch in, err := manifest.Read(ctx, e.Cluster); {
	case err != nil:
		return unknown(err)
	case in != nil:
		return fail("Tulle is installed in namespace %s", e.Tulle)
	}
	_, err := e.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, mesh.Webhook, metav1.GetOptions{})
	if err == nil {
		return warn("the cluster has a webhook %s of another installation, or its remains", mesh.Webhook)
	}
	return ok("")
}

// planned are the objects that would be installed.
func (e *env) planned(chart string) ([]unstructured.Unstructured, error) {
	return once(e, "planned "+chart, func() ([]unstructured.Unstructured, error) {
		facts := manifest.Facts{}
		if v, err := e.Kube.Discovery().ServerVersion(); err == nil {
			facts.KubeVersion = v.GitVersion
		}
		raw, err := manifest.Render(chart, e.Tulle, e.wishes, facts)
		if err != nil {
			return nil, err
		}
		return manifest.Parse(raw)
	})
}

// permissions asks for each object that would be created whether it may be (SelfSubjectAccessReview),
// and for the rights that the chart gives away: nobody may give what they have not (RBAC escalation).
func permissions(ctx context.Context, e *env) Finding {
	seen := map[authv1.ResourceAttributes]bool{}
	var problems []string
	for _, chart := range []string{charts.CRDs, charts.Tulle} {
		all, err := e.planned(chart)
		if err != nil {
			return unknown(err)
		}
		for i := range all {
			gvr, _ := meta.UnsafeGuessKindToResource(all[i].GroupVersionKind())
			a := authv1.ResourceAttributes{Verb: "create", Group: gvr.Group, Resource: gvr.Resource, Namespace: all[i].GetNamespace()}
			if seen[a] {
				continue
			}
			seen[a] = true
			allowed, err := e.allowed(ctx, a)
			if err != nil {
				return unknown(err)
			}
			if !allowed {
				problems = append(problems, "you may not create "+gvr.GroupResource().String()+inNamespace(a.Namespace))
			}
		}
	}
	more, err := e.mayGive(ctx)
	if err != nil {
		return unknown(err)
	}
	return failures(append(problems, more...), "")
}

// mayGive asks for each right in the chart's roles whether you have it, unless you may give any.
func (e *env) mayGive(ctx context.Context) ([]string, error) {
	everything, err := e.allowed(ctx, authv1.ResourceAttributes{Verb: "escalate", Group: rbacv1.GroupName, Resource: "clusterroles"})
	if err != nil || everything {
		return nil, err
	}
	all, err := e.planned(charts.Tulle)
	if err != nil {
		return nil, err
	}
	var problems []string
	seen := map[authv1.ResourceAttributes]bool{}
	for i := range all {
		if k := all[i].GetKind(); k != "ClusterRole" && k != "Role" {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(all[i].Object, &role); err != nil {
			return nil, err
		}
		for _, a := range rights(role.Rules, all[i].GetNamespace()) {
			if seen[a] {
				continue
			}
			seen[a] = true
			has, err := e.allowed(ctx, a)
			if err != nil {
				return nil, err
			}
			if !has {
				problems = append(problems, fmt.Sprintf("you may not give the right to %s %s%s, which you do not have", a.Verb,
					strings.TrimSuffix(a.Resource+"."+a.Group, "."), inNamespace(a.Namespace)))
			}
		}
	}
	return problems, nil
}

// rights are the single rights of rules.
func rights(rules []rbacv1.PolicyRule, namespace string) []authv1.ResourceAttributes {
	var all []authv1.ResourceAttributes
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					for _, name := range names {
						all = append(all, authv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Name: name, Namespace: namespace})
					}
				}
			}
		}
	}
	return all
}

func (e *env) allowed(ctx context.Context, a authv1.ResourceAttributes) (bool, error) {
	r, err := e.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a}}, metav1.CreateOptions{})
	if err != nil {
		return false, e.Explain("ask what you may do", err)
	}
	return r.Status.Allowed, nil
}

func inNamespace(ns string) string {
	if ns == "" {
		return ""
	}
	return " in namespace " + ns
}

// needs is what the planned pods ask for.
type needs struct{ cpu, memory resource.Quantity }

func (n *needs) add(l corev1.ResourceList, times int64) {
	for range times {
		n.cpu.Add(*l.Cpu())
		n.memory.Add(*l.Memory())
	}
}

// plannedNeeds adds up the requests of the Deployments to be installed.
func (e *env) plannedNeeds() (sum needs, pods int64, err error) {
	all, err := e.planned(charts.Tulle)
	if err != nil {
		return sum, 0, err
	}
	for i := range all {
		if all[i].GetKind() != "Deployment" {
			continue
		}
		n, found, err := unstructured.NestedInt64(all[i].Object, "spec", "replicas")
		if err != nil || !found {
			f, _, _ := unstructured.NestedFloat64(all[i].Object, "spec", "replicas") // 0 then, and 1 below
			n = max(int64(f), 1)
		}
		containers, _, err := unstructured.NestedSlice(all[i].Object, "spec", "template", "spec", "containers")
		if err != nil {
			return sum, 0, err
		}
		for _, c := range containers {
			m, _ := c.(map[string]any)
			requests, _, _ := unstructured.NestedStringMap(m, "resources", "requests") // none
			sum.add(quantities(requests), n)
		}
		pods += n
	}
	return sum, pods, nil
}

func quantities(m map[string]string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for k, v := range m {
		if q, err := resource.ParseQuantity(v); err == nil {
			l[corev1.ResourceName(k)] = q
		}
	}
	return l
}

// capacity compares what nodes have left with what the profile asks for, all in all: where pods fit is
// the scheduler's business.
func capacity(ctx context.Context, e *env) Finding {
	nodes, err := e.nodes(ctx)
	if err != nil {
		return unknown(err)
	}
	pods, err := e.pods(ctx)
	if err != nil {
		return unknown(err)
	}
	want, replicas, err := e.plannedNeeds()
	if err != nil {
		return unknown(err)
	}
	var have, used needs
	usable := map[string]bool{}
	for i := range nodes {
		if n := &nodes[i]; isNodeReady(n) && !n.Spec.Unschedulable && n.Status.NodeInfo.OperatingSystem != "windows" {
			usable[n.Name] = true
			have.add(n.Status.Allocatable, 1)
		}
	}
	if len(usable) == 0 {
		return fail("no node is ready and takes pods")
	}
	for i := range pods {
		if p := &pods[i]; usable[p.Spec.NodeName] && !mesh.Ended(p) {
			for _, c := range p.Spec.Containers {
				used.add(c.Resources.Requests, 1)
			}
		}
	}
	have.cpu.Sub(used.cpu)
	have.memory.Sub(used.memory)
	var problems []string
	for _, r := range []struct {
		what       string
		have, want resource.Quantity
	}{{"CPU", have.cpu, want.cpu}, {"memory", have.memory, want.memory}} {
		if r.have.Cmp(r.want) < 0 {
			problems = append(problems, fmt.Sprintf("the control plane asks for %s of %s in %d pods, and the nodes have %s left", r.want.String(), r.what, replicas, r.have.String()))
		}
	}
	return failures(problems, fmt.Sprintf("%s CPU and %s are asked for in %d pods", want.cpu.String(), want.memory.String(), replicas))
}

// Linux 5.2 has NAT in the family inet of nf_tables, which the redirect uses (R13.3).
const kernelMajor, kernelMinor = 5, 2

func kernels(ctx context.Context, e *env) Finding {
	nodes, err := e.nodes(ctx)
	if err != nil {
		return unknown(err)
	}
	var problems []string
	good := 0
	for i := range nodes {
		info := nodes[i].Status.NodeInfo
		switch major, minor, known := kernel(info.KernelVersion); {
		case info.OperatingSystem != "linux" && info.OperatingSystem != "":
			problems = append(problems, fmt.Sprintf("node %s runs %s: pods there get no proxy", nodes[i].Name, info.OperatingSystem))
		case strings.Contains(info.KernelVersion, "gvisor") || strings.HasPrefix(info.ContainerRuntimeVersion, "runsc"):
			problems = append(problems, fmt.Sprintf("node %s runs gVisor, which has no nf_tables", nodes[i].Name))
		case !known:
			problems = append(problems, fmt.Sprintf("node %s has kernel %q, which cannot be read", nodes[i].Name, info.KernelVersion))
		case major < kernelMajor || major == kernelMajor && minor < kernelMinor:
			problems = append(problems, fmt.Sprintf("node %s has kernel %s; the redirect needs %d.%d", nodes[i].Name, info.KernelVersion, kernelMajor, kernelMinor))
		default:
			good++
		}
	}
	if good == 0 && len(nodes) > 0 {
		return failures(problems, "")
	}
	return warnings(problems, count(good, "node"))
}

func kernel(v string) (major, minor int, ok bool) {
	a, rest, _ := strings.Cut(v, ".")
	b := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		b = rest[:i]
	}
	major, errA := strconv.Atoi(a)
	minor, errB := strconv.Atoi(b)
	return major, minor, errA == nil && errB == nil
}

// quotas asks whether the namespace, where it exists already, has room for the pods.
func quotas(ctx context.Context, e *env) Finding {
	l, err := e.Kube.CoreV1().ResourceQuotas(e.Tulle).List(ctx, metav1.ListOptions{})
	if err != nil {
		return unknown(e.Explain("list quotas", err))
	}
	want, pods, err := e.plannedNeeds()
	if err != nil {
		return unknown(err)
	}
	asked := map[corev1.ResourceName]resource.Quantity{
		corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI),
		corev1.ResourceCPU:  want.cpu, corev1.ResourceRequestsCPU: want.cpu,
		corev1.ResourceMemory: want.memory, corev1.ResourceRequestsMemory: want.memory,
	}
	var problems []string
	for i := range l.Items {
		q := &l.Items[i]
		for _, name := range []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceRequestsCPU, corev1.ResourceMemory, corev1.ResourceRequestsMemory} {
			hard, limited := q.Spec.Hard[name]
			if !limited {
				continue
			}
			used := q.Status.Used[name]
			hard.Sub(used)
			if need := asked[name]; hard.Cmp(need) < 0 {
				problems = append(problems, fmt.Sprintf("quota %s/%s leaves %s of %s, and %s are asked for", e.Tulle, q.Name, hard.String(), name, need.String()))
			}
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory} {
			if _, limited := q.Spec.Hard[name]; limited && len(e.wishes.Profiles) == 0 {
				problems = append(problems, fmt.Sprintf("quota %s/%s wants every pod to have %s, which the default profile does not set (--profile ha does)", e.Tulle, q.Name, name))
			}
		}
	}
	return failures(problems, "")
}
