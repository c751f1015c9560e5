package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

// What mends an object of the chart. The ordinary apply brings back what is missing and what was changed; it leaves what
// somebody added, as a key of a selector, since it knows of what it applied itself alone. The server's own takes that too.
const (
	upgrade      = "tulle upgrade | kubectl apply -f -"
	upgradeAnew  = "tulle upgrade --reset-values | kubectl apply -f -, with the flags that it was installed with"
	upgradeWhole = "tulle upgrade | kubectl apply --server-side --force-conflicts -f -"
)

// tries collects what is to be tried, each thing once.
type tries []string

func (t *tries) add(what string) {
	if what != "" && !slices.Contains(*t, what) {
		*t = append(*t, what)
	}
}

func (t *tries) String() string { return strings.Join(*t, "; ") }

// off says why a Deployment of the control plane runs nothing; "": it is to run, or that is not known.
func (e *env) off(ctx context.Context, name string) string {
	d, err := e.Kube.AppsV1().Deployments(e.Tulle).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("deployment %s/%s does not exist", e.Tulle, name)
	case err == nil && replicasOf(d) == 0:
		return fmt.Sprintf("deployment %s/%s is scaled to 0", e.Tulle, name)
	}
	return ""
}

// instead is what to try where the keeper of what is looked at does not run, whose log would say nothing.
func (e *env) instead(ctx context.Context, keeper string) string {
	if why := e.off(ctx, keeper); why != "" {
		return upgrade + ": " + why
	}
	return ""
}

func replicasOf(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// intended are the objects that this version would install with the values that were installed.
func (e *env) intended(ctx context.Context) ([]unstructured.Unstructured, error) {
	in, err := e.installed(ctx)
	if err != nil {
		return nil, err
	}
	e.wishes = in.Wishes
	return e.planned(charts.Tulle)
}

// intendedInto finds an object of the chart by its kind and name, and reads it.
func (e *env) intendedInto(ctx context.Context, kind, name string, into any) error {
	all, err := e.intended(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].GetKind() == kind && all[i].GetName() == name {
			return runtime.DefaultUnstructuredConverter.FromUnstructured(all[i].Object, into)
		}
	}
	panic("BUG: the chart has no " + kind + " " + name)
}

// expected are the pods of the control plane by their Deployment; where it has none, one as the chart has it, which is
// what will come.
func (e *env) expected(ctx context.Context) (map[string][]corev1.Pod, error) {
	by, err := e.controlPods(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range mesh.Deployments() {
		if len(by[name]) > 0 {
			continue
		}
		var d appsv1.Deployment
		if err := e.intendedInto(ctx, "Deployment", name, &d); err != nil {
			return nil, err
		}
		p := corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
		p.Namespace = e.Tulle
		by[name] = []corev1.Pod{p}
	}
	return by, nil
}
