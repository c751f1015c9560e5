package manifest

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

// wishesKey is where the ConfigMap tulle-config keeps Wishes: the profile, and what differs from it.
const wishesKey = "wishes.yaml"

// Facts are what rendering asks of a cluster. The zero value is a cluster of the charts' own version.
type Facts struct {
	KubeVersion string
	APIVersions []string

	// lookup finds objects, as helm's function in templates does; nil finds none.
	lookup func(apiVersion, kind, namespace, name string) (map[string]any, error)
}

// Ask reads a cluster's Facts.
func Ask(ctx context.Context, k *cluster.Cluster) (Facts, error) {
	if err := ctx.Err(); err != nil {
		return Facts{}, err
	}
	v, err := k.Kube.Discovery().ServerVersion()
	if err != nil {
		return Facts{}, k.Explain("ask for the cluster's version", err)
	}
	f := Facts{KubeVersion: v.GitVersion, lookup: func(apiVersion, kind, namespace, name string) (map[string]any, error) {
		var o unstructured.Unstructured
		o.SetAPIVersion(apiVersion)
		o.SetKind(kind)
		o.SetNamespace(namespace)
		found, err := resource(k, &o).Get(ctx, name, getOptions)
		switch {
		case isNotFound(err):
			return map[string]any{}, nil
		case err != nil:
			return nil, k.Explain("get "+kind+" "+name, err)
		}
		return found.Object, nil
	}}
	groups, err := k.Kube.Discovery().ServerGroups()
	if err != nil {
		return Facts{}, k.Explain("ask what the cluster serves", err)
	}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			f.APIVersions = append(f.APIVersions, v.GroupVersion)
		}
	}
	return f, nil
}

// Render renders a chart as w wishes it.
func Render(chart, namespace string, w Wishes, f Facts) ([]byte, error) {
	o := charts.Options{Chart: chart, Namespace: namespace, KubeVersion: f.KubeVersion, APIVersions: f.APIVersions, Lookup: f.lookup}
	if chart == charts.Tulle {
		o.Profiles, o.Values = w.Profiles, w.Values
	}
	raw, err := charts.Render(o)
	if err != nil {
		return nil, exit.With(exit.Usage, err, "values that the chart has: docs/values.md")
	}
	return raw, nil
}

// Installed is what a cluster says of its installation.
type Installed struct {
	// Wishes are what its user set.
	Wishes Wishes
	// Values are the merged values, as they are kept.
	Values string
	// Helm names the release where Helm installed it.
	Helm string
}

// helmRelease is the annotation by which Helm knows its objects.
const helmRelease = "meta.helm.sh/release-name"

// readInstalled reads the ConfigMap tulle-config, in which the chart wrote the wishes.
// What cannot be read of them is ErrWishes, and the rest is returned with it.
func readInstalled(data, annotations map[string]string) (*Installed, error) {
	in := &Installed{Values: data[mesh.ConfigKey], Helm: annotations[helmRelease]}
	if err := yaml.UnmarshalStrict([]byte(data[wishesKey]), &in.Wishes); err != nil {
		return in, fmt.Errorf("%s: %w: %w", wishesKey, ErrWishes, err)
	}
	return in, nil
}

// Missing lists the objects of all that the cluster does not have.
func Missing(ctx context.Context, k *cluster.Cluster, all []unstructured.Unstructured) ([]string, error) {
	var missing []string
	for i := range all {
		o := &all[i]
		_, err := resource(k, o).Get(ctx, o.GetName(), getOptions)
		switch {
		case isNotFound(err):
			missing = append(missing, KeyOf(o).String())
		case err != nil:
			return nil, k.Explain("get "+KeyOf(o).String(), err)
		}
	}
	return missing, nil
}

// CRDs are the definitions that the control plane needs.
func CRDs(namespace string) ([]unstructured.Unstructured, error) {
	raw, err := Render(charts.CRDs, namespace, Wishes{}, Facts{})
	if err != nil {
		return nil, err
	}
	all, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	var crds []unstructured.Unstructured
	for i := range all {
		if all[i].GetKind() == "CustomResourceDefinition" {
			crds = append(crds, all[i])
		}
	}
	return crds, nil
}

// NeedCRDs refuses when the cluster lacks definitions.
func NeedCRDs(ctx context.Context, k *cluster.Cluster) error {
	crds, err := CRDs(k.Tulle)
	if err != nil {
		return err
	}
	missing, err := Missing(ctx, k, crds)
	if err != nil || len(missing) == 0 {
		return err
	}
	return exit.With(exit.Refused, fmt.Errorf("the cluster lacks %d of Tulle's definitions: %s", len(missing), strings.Join(missing, ", ")),
		"tulle install --crds | kubectl apply -f -")
}
