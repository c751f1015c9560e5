package charts

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// sources are where the chart's definitions come from.
func sources(t *testing.T) []string {
	t.Helper()
	own, err := filepath.Glob("../api/policy/crd/*.yaml")
	if err != nil || len(own) == 0 {
		t.Fatalf("no definitions of Tulle's own: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	standard := filepath.Join(strings.TrimSpace(string(out)), "config/crd/standard")
	for _, kind := range []string{"grpcroutes", "httproutes", "referencegrants"} {
		own = append(own, filepath.Join(standard, "gateway.networking.k8s.io_"+kind+".yaml"))
	}
	return own
}

func TestDefinitionsAreTheirSources(t *testing.T) {
	var names []string
	for _, from := range sources(t) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join("tulle-crds/definitions", filepath.Base(from))
		names = append(names, name)
		golden(t, name, data)
	}
	have, err := filepath.Glob("tulle-crds/definitions/*")
	slices.Sort(names)
	if err != nil || !slices.Equal(have, names) {
		t.Errorf("the chart's definitions are %v, their sources say %v (%v)", have, names, err)
	}
}

// mostApplied is how large an object may be for kubectl apply, which keeps what it applied in an annotation:
// the API server takes 256 KiB of annotations (validation.TotalAnnotationSizeLimitB).
const mostApplied = 256<<10 - 1<<10

// TestDefinitionsAreRenderedAsTheyAre: nothing is lost between a definition's file and the manifest, and
// kubectl can apply it.
func TestDefinitionsAreRenderedAsTheyAre(t *testing.T) {
	rendered := map[string]map[string]any{}
	for _, o := range objects(t, Options{Chart: CRDs}) {
		rendered[name(o)] = o
	}
	for _, from := range sources(t) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		if err := yaml.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		got := rendered[name(want)]
		if got == nil {
			t.Errorf("%s is not rendered", name(want))
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // nor does kubectl's
		if err := e.Encode(got); err != nil {
			t.Fatal(err)
		}
		if b.Len() > mostApplied {
			t.Errorf("%s has %d bytes of JSON", name(want), b.Len())
		}
		meta, _ := got["metadata"].(map[string]any)
		delete(meta, "labels")
		annotations, _ := meta["annotations"].(map[string]any)
		if annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s: helm uninstall would delete it, and every object of its kind", name(want))
		}
		delete(annotations, "helm.sh/resource-policy")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-source +rendered):\n%s", name(want), d)
		}
	}
}

// TestGatewayAPIOfOthersIsLeftAlone: gatewayAPI.install decides, and missing asks the cluster.
func TestGatewayAPIOfOthersIsLeftAlone(t *testing.T) {
	has := func(owner string) func(apiVersion, kind, namespace, name string) (map[string]any, error) {
		return func(_, kind, _, name string) (map[string]any, error) {
			if kind != "CustomResourceDefinition" || name != "httproutes.gateway.networking.k8s.io" {
				return map[string]any{}, nil
			}
			return map[string]any{"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/part-of": owner}}}, nil
		}
	}
	unlabelled := func(_, _, _, _ string) (map[string]any, error) {
		return map[string]any{"metadata": map[string]any{}}, nil
	}
	names := regexp.MustCompile(`(?m)^  name: (\w+)\.`) // reading so much YAML takes seconds under the race detector
	own, http, rest := "externalworkloads", "httproutes", "grpcroutes referencegrants"
	for _, c := range []struct {
		name    string
		install string
		lookup  func(apiVersion, kind, namespace, name string) (map[string]any, error)
		want    string
	}{
		{"no cluster", "missing", nil, own + " " + http + " " + rest},
		{"another's HTTPRoute", "missing", has("cloud"), own + " " + rest},
		{"all of another's", "missing", unlabelled, own},
		{"brought by this chart", "missing", has("tulle"), own + " " + http + " " + rest},
		{"over another's", "always", unlabelled, own + " " + http + " " + rest},
		{"not at all", "never", nil, own},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := Render(Options{Chart: CRDs, Set: []string{"gatewayAPI.install=" + c.install}, Lookup: c.lookup})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, found := range names.FindAllSubmatch(data, -1) {
				got = append(got, string(found[1]))
			}
			want := strings.Fields(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("rendered %v, want %v", got, want)
			}
		})
	}
}
