package mesh

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/exit"
)

// Ref is what an argument names: "web-1", "pod/web-1", "deploy/web".
type Ref struct {
	Kind string // one of Kinds
	Name string
}

// kindNames are the words for kinds, as kubectl knows them.
var kindNames = map[string]string{
	"pod": "Pod", "pods": "Pod", "po": "Pod",
	"deployment": "Deployment", "deployments": "Deployment", "deploy": "Deployment",
	"statefulset": "StatefulSet", "statefulsets": "StatefulSet", "sts": "StatefulSet",
	"daemonset": "DaemonSet", "daemonsets": "DaemonSet", "ds": "DaemonSet",
	"job": "Job", "jobs": "Job",
	"service": "Service", "services": "Service", "svc": "Service",
	"namespace": "Namespace", "namespaces": "Namespace", "ns": "Namespace",
}

// ParseRef reads an argument; a name without a kind is of kind otherwise.
func ParseRef(arg, otherwise string) (Ref, error) {
	kind, name, has := strings.Cut(arg, "/")
	if !has {
		kind, name = otherwise, arg
	} else if kind = kindNames[strings.ToLower(kind)]; kind == "" {
		return Ref{}, exit.With(exit.Usage, fmt.Errorf("%q: there is no kind %q here", arg, strings.Split(arg, "/")[0]), "pod/NAME, deploy/NAME, sts/NAME, ds/NAME, job/NAME or svc/NAME")
	}
	if name == "" || strings.Contains(name, "/") {
		return Ref{}, exit.With(exit.Usage, fmt.Errorf("%q names nothing", arg), "pod/NAME or deploy/NAME")
	}
	return Ref{kind, name}, nil
}

// Select finds the pods that args name in the namespace in question, or those with a selector's labels.
func Select(ctx context.Context, k *cluster.Cluster, args []string, selector string) ([]corev1.Pod, error) {
	if len(args) == 0 {
		return listPods(ctx, k, k.Namespace, selector)
	}
	var all []corev1.Pod
	seen := map[string]bool{}
	for _, arg := range args {
		ref, err := ParseRef(arg, "Pod")
		if err != nil {
			return nil, err
		}
		found, err := podsOf(ctx, k, ref)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if !seen[found[i].Name] && !Ended(&found[i]) {
				seen[found[i].Name] = true
				all = append(all, found[i])
			}
		}
	}
	return all, nil
}

// podsOf are the pods that belong to ref.
func podsOf(ctx context.Context, k *cluster.Cluster, ref Ref) ([]corev1.Pod, error) {
	if ref.Kind == "Pod" {
		p, err := k.Kube.CoreV1().Pods(k.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, missing(k, ref, err)
		}
		return []corev1.Pod{*p}, nil
	}
	selector, err := selectorOf(ctx, k, ref)
	if err != nil {
		return nil, missing(k, ref, err)
	}
	if selector.Empty() {
		return nil, fmt.Errorf("%s/%s in namespace %s selects no pods", strings.ToLower(ref.Kind), ref.Name, k.Namespace)
	}
	return listPods(ctx, k, k.Namespace, selector.String())
}

func selectorOf(ctx context.Context, k *cluster.Cluster, ref Ref) (labels.Selector, error) {
	var s *metav1.LabelSelector
	get := metav1.GetOptions{}
	switch ref.Kind {
	case "Service":
		o, err := k.Kube.CoreV1().Services(k.Namespace).Get(ctx, ref.Name, get)
		if err != nil {
			return nil, err
		}
		return labels.SelectorFromSet(o.Spec.Selector), nil
	case "Deployment":
		o, err := k.Kube.AppsV1().Deployments(k.Namespace).Get(ctx, ref.Name, get)
		if err != nil {
			return nil, err
		}
		s = o.Spec.Selector
	case "StatefulSet":
		o, err := k.Kube.AppsV1().StatefulSets(k.Namespace).Get(ctx, ref.Name, get)
		if err != nil {
			return nil, err
		}
		s = o.Spec.Selector
	case "DaemonSet":
		o, err := k.Kube.AppsV1().DaemonSets(k.Namespace).Get(ctx, ref.Name, get)
		if err != nil {
			return nil, err
		}
		s = o.Spec.Selector
	case "Job":
		o, err := k.Kube.BatchV1().Jobs(k.Namespace).Get(ctx, ref.Name, get)
		if err != nil {
			return nil, err
		}
		s = o.Spec.Selector
	default:
		return nil, exit.With(exit.Usage, fmt.Errorf("%s/%s: its pods cannot be named this way", strings.ToLower(ref.Kind), ref.Name), "-n NAMESPACE without names")
	}
	return metav1.LabelSelectorAsSelector(s)
}

// missing says where something that does not exist was looked for.
func missing(k *cluster.Cluster, ref Ref, err error) error {
	name := strings.ToLower(ref.Kind) + "/" + ref.Name
	if apierrors.IsNotFound(err) {
		return exit.With(exit.Failed, fmt.Errorf("there is no %s in namespace %s", name, k.Namespace), "another namespace with -n; kubectl get pods -A")
	}
	return k.Explain("get "+name, err)
}

func listPods(ctx context.Context, k *cluster.Cluster, namespace, selector string) ([]corev1.Pod, error) {
	l, err := k.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, k.Explain("list pods", err)
	}
	var live []corev1.Pod
	for i := range l.Items {
		if !Ended(&l.Items[i]) {
			live = append(live, l.Items[i])
		}
	}
	return live, nil
}

// WithProxy are those of pods that have a proxy, and an error where none has one.
func WithProxy(k *cluster.Cluster, pods []corev1.Pod) ([]corev1.Pod, error) {
	var with []corev1.Pod
	for i := range pods {
		if ProxyContainer(&pods[i].Spec) != nil {
			with = append(with, pods[i])
		}
	}
	switch {
	case len(pods) == 0:
		return nil, exit.With(exit.Failed, fmt.Errorf("there are no such pods in namespace %s", k.Namespace), "another namespace with -n; kubectl get pods -A")
	case len(with) == 0:
		return nil, exit.With(exit.Failed, fmt.Errorf("pod %s/%s has no proxy", pods[0].Namespace, pods[0].Name), "tulle explain "+pods[0].Name+" -n "+pods[0].Namespace+" says why")
	}
	return with, nil
}
