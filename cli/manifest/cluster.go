package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

// PartOf is the recommended label that every object of the charts has, and what the control plane makes
// for itself.
const PartOf = "app.kubernetes.io/part-of=tulle"

var getOptions metav1.GetOptions

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

// resource is where o is, by Kubernetes' own way of naming resources, which all of the charts' kinds follow.
func resource(k *cluster.Cluster, o *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	if ns := o.GetNamespace(); ns != "" {
		return k.Dynamic.Resource(plural).Namespace(ns)
	}
	return k.Dynamic.Resource(plural)
}

// Get reads the object that o is a description of.
func Get(ctx context.Context, k *cluster.Cluster, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return resource(k, o).Get(ctx, o.GetName(), getOptions)
}

// ErrWishes says that what a user had set cannot be read any more.
var ErrWishes = errors.New("what was set cannot be read")

// Read says what is installed; nil: nothing. With ErrWishes comes what can be read.
func Read(ctx context.Context, k *cluster.Cluster) (*Installed, error) {
	cm, err := k.Kube.CoreV1().ConfigMaps(k.Tulle).Get(ctx, mesh.Config, getOptions)
	switch {
	case isNotFound(err):
		return nil, nil
	case err != nil:
		return nil, k.Explain("look for an installation", err)
	}
	in, err := readInstalled(cm.Data, cm.Annotations)
	if err != nil {
		return in, fmt.Errorf("ConfigMap %s/%s: %w", k.Tulle, mesh.Config, err)
	}
	return in, nil
}

// Owned finds what the cluster has of Tulle, in every group that it serves: what is labelled, and what
// the control plane wrote into other namespaces. Objects that belong to another one are not named; they
// go with it.
func Owned(ctx context.Context, k *cluster.Cluster) ([]unstructured.Unstructured, error) {
	kinds, err := deletable(k)
	if err != nil {
		return nil, err
	}
	var all []unstructured.Unstructured
	seen := map[Key]bool{}
	add := func(found []unstructured.Unstructured) {
		for i := range found {
			if key := KeyOf(&found[i]); !seen[key] && len(found[i].GetOwnerReferences()) == 0 {
				seen[key] = true
				all = append(all, found[i])
			}
		}
	}
	for _, kind := range kinds {
		found, err := labelled(ctx, k, kind)
		if err != nil {
			return nil, err
		}
		add(found)
	}
	bundles, err := k.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).
		List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + mesh.Bundle})
	if err != nil {
		return nil, k.Explain("list trust bundles", err)
	}
	add(slices.DeleteFunc(bundles.Items, func(o unstructured.Unstructured) bool { return o.GetName() != mesh.Bundle }))
	return all, nil
}

func labelled(ctx context.Context, k *cluster.Cluster, kind schema.GroupVersionResource) ([]unstructured.Unstructured, error) {
	list, err := k.Dynamic.Resource(kind).List(ctx, metav1.ListOptions{LabelSelector: PartOf})
	switch {
	case isNotFound(err), apierrors.IsMethodNotSupported(err):
		return nil, nil // gone since discovery, or an aggregated API of its own mind
	case err != nil:
		return nil, k.Explain("list "+kind.Resource, err)
	}
	return list.Items, nil
}

// deletable are the resources that can be listed and deleted, each once.
func deletable(k *cluster.Cluster) ([]schema.GroupVersionResource, error) {
	lists, err := k.Kube.Discovery().ServerPreferredResources()
	if err != nil && len(lists) == 0 {
		return nil, k.Explain("ask what the cluster serves", err)
	}
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "delete"}}, lists)
	var kinds []schema.GroupVersionResource
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range l.APIResources {
			if strings.Contains(r.Name, "/") || r.Name == "events" || r.Name == "endpoints" || gv.Group == "metrics.k8s.io" {
				continue // made from others, and gone with them
			}
			kinds = append(kinds, gv.WithResource(r.Name))
		}
	}
	return kinds, nil
}
