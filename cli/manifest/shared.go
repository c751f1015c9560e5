package manifest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tulle-mesh/tulle/cli/cluster"
)

// definition is a CustomResourceDefinition, as far as it matters whether somebody needs it.
type definition struct {
	name, group string
	resource    schema.GroupVersionResource
	tulle       bool // Tulle brought it
}

func readDefinition(o *unstructured.Unstructured) definition {
	text := func(path ...string) string {
		s, _, _ := unstructured.NestedString(o.Object, path...) // every definition has them
		return s
	}
	d := definition{name: o.GetName(), group: text("spec", "group"), tulle: o.GetLabels()["app.kubernetes.io/part-of"] == "tulle"}
	d.resource = schema.GroupVersionResource{Group: d.group, Resource: text("spec", "names", "plural")}
	if served := ServedVersions(o); len(served) > 0 {
		d.resource.Version = served[0]
	}
	return d
}

// ServedVersions are the versions of a definition that the API server serves.
func ServedVersions(o *unstructured.Unstructured) []string {
	all, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions") // none
	var served []string
	for _, v := range all {
		if m, _ := v.(map[string]any); m["served"] == true {
			name, _ := m["name"].(string)
			served = append(served, name)
		}
	}
	return served
}

// isShared reports whether a definition is of an API that others than Tulle use, such as the Gateway API.
func (d definition) isShared() bool {
	return d.group != "tulle.dev" && !strings.HasSuffix(d.group, ".tulle.dev")
}

// Spare takes out of all, which is to be deleted, the definitions of shared APIs that somebody needs, because with a
// definition every object of its kind goes; reasons say of each why it stays. One is needed while an object of its kind
// is left, and while the cluster has a definition of the same group that Tulle did not bring: then the API is another's,
// too.
func Spare(ctx context.Context, k *cluster.Cluster, all []unstructured.Unstructured) (rest []unstructured.Unstructured, reasons []string, err error) {
	for i := range all {
		why := ""
		if all[i].GetKind() == "CustomResourceDefinition" {
			if why, err = needed(ctx, k, readDefinition(&all[i])); err != nil {
				return nil, nil, err
			}
		}
		if why == "" {
			rest = append(rest, all[i])
		} else {
			reasons = append(reasons, all[i].GetName()+" stays: "+why)
		}
	}
	return rest, reasons, nil
}

// needed says who needs a definition, or nothing.
func needed(ctx context.Context, k *cluster.Cluster, d definition) (string, error) {
	if !d.isShared() {
		return "", nil
	}
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	list, err := k.Dynamic.Resource(definitions).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", k.Explain("list definitions", err)
	}
	for i := range list.Items {
		if other := readDefinition(&list.Items[i]); other.group == d.group && !other.tulle {
			return fmt.Sprintf("somebody else installed %s", other.name), nil
		}
	}
	objects, err := k.Dynamic.Resource(d.resource).List(ctx, metav1.ListOptions{})
	switch {
	case isNotFound(err):
		return "", nil // it is not served
	case err != nil:
		return "", k.Explain("list "+d.resource.Resource, err)
	case len(objects.Items) == 0:
		return "", nil
	}
	return "it is needed by " + someObjects(objects.Items), nil
}

// someObjects names a few.
func someObjects(all []unstructured.Unstructured) string {
	const most = 5
	var names []string
	for i := range all {
		names = append(names, strings.TrimPrefix(all[i].GetNamespace()+"/"+all[i].GetName(), "/"))
	}
	slices.Sort(names)
	text := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
