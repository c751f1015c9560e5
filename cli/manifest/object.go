// Package manifest is what install, upgrade, uninstall and prune share: the chart rendered for a cluster,
// what its user had set and where that is kept, and the objects that a cluster has of it.
package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/cli/console"
)

// Parse reads the objects of a rendered chart.
func Parse(raw []byte) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	for docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw))); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var o unstructured.Unstructured
		if err := yaml.Unmarshal(doc, &o.Object); err != nil {
			return nil, err
		}
		if o.Object != nil {
			all = append(all, o)
		}
	}
}

// Print writes raw, a rendered chart, as it is or as one JSON List.
func Print(con *console.Console, f console.Format, raw []byte) error {
	if f != console.JSON {
		_, err := con.Out.Write(raw)
		return err
	}
	all, err := Parse(raw)
	if err != nil {
		return err
	}
	return con.Write(console.JSON, list(all), nil)
}

func list(all []unstructured.Unstructured) map[string]any {
	items := make([]any, len(all))
	for i := range all {
		items[i] = all[i].Object
	}
	return map[string]any{"apiVersion": "v1", "kind": "List", "items": items}
}

// PrintNames writes objects by what is needed to delete them: kind, name and namespace.
func PrintNames(con *console.Console, f console.Format, all []unstructured.Unstructured) error {
	short := make([]unstructured.Unstructured, len(all))
	for i := range all {
		meta := map[string]any{"name": all[i].GetName()}
		if ns := all[i].GetNamespace(); ns != "" {
			meta["namespace"] = ns
		}
		short[i].Object = map[string]any{"apiVersion": all[i].GetAPIVersion(), "kind": all[i].GetKind(), "metadata": meta}
	}
	if f == console.JSON {
		return con.Write(console.JSON, list(short), nil)
	}
	for i := range short {
		b, err := yaml.Marshal(short[i].Object)
		if err != nil {
			return err
		}
		fmt.Fprintf(con.Out, "---\n%s", b)
	}
	return nil
}

// Key is what makes an object the same one in two lists: its version of the API does not.
type Key struct{ Group, Kind, Namespace, Name string }

// KeyOf is o's Key.
func KeyOf(o *unstructured.Unstructured) Key {
	gk := o.GroupVersionKind().GroupKind()
	return Key{gk.Group, gk.Kind, o.GetNamespace(), o.GetName()}
}

func (k Key) String() string {
	name := strings.ToLower(k.Kind) + "/" + k.Name
	if k.Namespace != "" {
		name += " in " + k.Namespace
	}
	return name
}

// SortForDeletion puts admission webhooks first, so that none is asked after its server has gone; then the rights of
// what runs, so that it does not write again, while it ends, what is deleted; and what others live in last.
func SortForDeletion(all []unstructured.Unstructured) {
	rank := func(o *unstructured.Unstructured) int {
		switch o.GetKind() {
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			return 0
		case "Deployment", "DaemonSet":
			return 1
		case "ClusterRoleBinding", "RoleBinding":
			return 2
		case "CustomResourceDefinition":
			return 8
		case "Namespace":
			return 9
		}
		return 5
	}
	slices.SortStableFunc(all, func(a, b unstructured.Unstructured) int {
		if d := rank(&a) - rank(&b); d != 0 {
			return d
		}
		return strings.Compare(KeyOf(&a).String(), KeyOf(&b).String())
	})
}
