package charts

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// objects renders and reads what is rendered.
func objects(t *testing.T, o Options) []map[string]any {
	t.Helper()
	data, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for doc := range strings.SplitSeq(string(data), "---\n# Source") {
		var one map[string]any
		if err := yaml.UnmarshalStrict([]byte("# Source"+doc), &one); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// name is "Kind namespace/name" or "Kind name".
func name(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	if ns, ok := meta["namespace"]; ok {
		return fmt.Sprintf("%v %v/%v", o["kind"], ns, meta["name"])
	}
	return fmt.Sprintf("%v %v", o["kind"], meta["name"])
}

func TestRenderIsGolden(t *testing.T) {
	for file, o := range map[string]Options{
		"default.yaml": {Chart: Tulle},
		"dev.yaml":     {Chart: Tulle, Profiles: []string{"dev"}},
		"ha.yaml":      {Chart: Tulle, Profiles: []string{"ha"}},
		"oldest.yaml":  {Chart: Tulle, Profiles: []string{"ha"}, KubeVersion: "v1.25.16"},
		"options.yaml": {Chart: Tulle, Namespace: "mesh", Release: "m", Profiles: []string{"ha"}, Values: map[string]any{
			"trustDomain":     "example.org",
			"clusterNetworks": []any{"10.0.0.0/8", "fd00::/8"},
			"image":           map[string]any{"registry": "registry.example.org/mesh", "version": "1.2.3", "pullSecrets": []any{map[string]any{"name": "pull"}}},
			"controlPlane": map[string]any{
				"sameNode": "forbidden", "spread": "off", "priorityClassName": "high",
				"podLabels": map[string]any{"team": "mesh", "app.kubernetes.io/component": "mine"}, "podAnnotations": map[string]any{"note": "1"},
				"nodeSelector": map[string]any{"pool": "system"},
				"tolerations":  []any{map[string]any{"key": "system", "operator": "Exists"}},
			},
			"injector": map[string]any{"excludedNamespaces": []any{"openshift", "kube-system"}},
		}, Set: []string{"createNamespace=false", "proxy.opaquePorts={25,3306}", "proxy.limits.connections=100"}},
	} {
		t.Run(file, func(t *testing.T) {
			got, err := Render(o)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", file), got)
		})
	}
}

func TestTheSameOptionsGiveTheSameBytes(t *testing.T) {
	for _, o := range []Options{{Chart: Tulle}, {Chart: Tulle, Profiles: []string{"ha"}}, {Chart: CRDs}} {
		first, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		// What the order of a map decides would differ soon.
		for i := 0; i < 5 && (i == 0 || o.Chart == Tulle); i++ {
			again, err := Render(o)
			if err != nil || !bytes.Equal(first, again) {
				t.Fatalf("%s: another render differs (%v)", o.Chart, err)
			}
		}
	}
}
