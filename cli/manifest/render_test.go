package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

// TestWhatWasWishedIsReadBack: an upgrade starts from what the chart keeps, whoever installed it.
func TestWhatWasWishedIsReadBack(t *testing.T) {
	for _, want := range []Wishes{
		{Profiles: []string{}, Values: map[string]any{}},
		{Profiles: []string{"ha"}, Values: map[string]any{"controlPlane": map[string]any{"replicas": 5.0}, "trustDomain": "example.org"}},
	} {
		raw, err := Render(charts.Tulle, "tulle", want, Facts{})
		if err != nil {
			t.Fatal(err)
		}
		all, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if all[i].GetName() != mesh.Config {
				continue
			}
			data, _, err := unstructured.NestedStringMap(all[i].Object, "data")
			if err != nil {
				t.Fatal(err)
			}
			in, err := readInstalled(data, map[string]string{helmRelease: "tulle"})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, in.Wishes); d != "" || in.Helm != "tulle" || !strings.Contains(in.Values, "trustDomain") {
				t.Errorf("read back %+v (-want +got)\n%s", in, d)
			}
		}
	}
}

// TestDefinitionsOfOthersAreNotRendered: the chart looks them up.
func TestDefinitionsOfOthersAreNotRendered(t *testing.T) {
	others := Facts{lookup: func(_, _, _, _ string) (map[string]any, error) {
		return map[string]any{"metadata": map[string]any{"name": "another's"}}, nil
	}}
	for _, c := range []struct {
		facts Facts
		want  bool
	}{{Facts{}, true}, {others, false}} {
		raw, err := Render(charts.CRDs, "tulle", Wishes{}, c.facts)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(raw), "name: httproutes.gateway.networking.k8s.io"); got != c.want {
			t.Errorf("the HTTPRoute's definition is rendered: %v, want %v", got, c.want)
		}
	}
}
