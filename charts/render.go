package charts

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// KubeVersion is the Kubernetes that is rendered for when Options does not say which.
const KubeVersion = "v1.37.0"

// Options say what to render. Only Chart is required.
type Options struct {
	Chart     string // Tulle or CRDs
	Release   string // the release's name; empty: the chart's
	Namespace string // the release's namespace; empty: tulle

	Profiles []string       // in order; the later wins over the earlier
	Values   map[string]any // over the profiles; not changed
	Set      []string       // over Values, in helm's notation: "controller.replicas=2", "a.b={x,y}"

	KubeVersion string   // the cluster's version, "v1.37.2"; empty: KubeVersion
	APIVersions []string // what the cluster serves beside Kubernetes' own: "gateway.networking.k8s.io/v1"
	Upgrade     bool     // the release exists already

	// Lookup asks the cluster for an object, as the templates' function of the same name; an empty map
	// says that there is none. nil: there is no cluster to ask, and nothing in it.
	Lookup func(apiVersion, kind, namespace, name string) (map[string]any, error)
}

// Values are the values that Render would use: the chart's own with those of o over them. They are
// checked against the chart's schema.
func Values(o Options) (map[string]any, error) {
	_, values, err := prepare(o)
	if err != nil {
		return nil, err
	}
	merged, _ := values["Values"].(common.Values)
	return merged, nil
}

// Render writes a chart's objects as YAML, in the order in which they are to be applied, separated by
// "---". The same Options give the same bytes.
//
// There is no helm here to make the release's namespace: unless the values say otherwise, the chart
// does (createNamespace).
func Render(o Options) ([]byte, error) {
	c, values, err := prepare(o)
	if err != nil {
		return nil, err
	}
	e := engine.Engine{Strict: true}
	if o.Lookup != nil {
		e.CustomTemplateFuncs = map[string]any{"lookup": o.Lookup}
	}
	//nolint:staticcheck // its successor takes a context for Helm's own lookups; Lookup has the caller's
	rendered, err := e.Render(c, values)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", o.Chart, err)
	}
	maps.DeleteFunc(rendered, func(name, _ string) bool { return strings.HasSuffix(name, "NOTES.txt") })
	hooks, manifests, err := releaseutil.SortManifests(rendered, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", o.Chart, err)
	}
	if len(hooks) > 0 {
		panic("BUG: chart " + o.Chart + " has a hook, which kubectl apply would not run: " + hooks[0].Path)
	}
	var out bytes.Buffer
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", m.Name, strings.TrimSpace(m.Content))
	}
	return out.Bytes(), nil
}

// prepare loads the chart and merges and checks what its templates are given.
func prepare(o Options) (*chart.Chart, common.Values, error) {
	c, err := load(o.Chart)
	if err != nil {
		return nil, nil, err
	}
	caps, err := o.capabilities()
	if err != nil {
		return nil, nil, err
	}
	if wants := c.Metadata.KubeVersion; !chartutil.IsCompatibleRange(wants, caps.KubeVersion.String()) {
		return nil, nil, fmt.Errorf("chart %s wants Kubernetes %s, the cluster is %s", o.Chart, wants, caps.KubeVersion.Version)
	}
	values, err := given(o)
	if err != nil {
		return nil, nil, err
	}
	out, err := util.ToRenderValues(c, values, common.ReleaseOptions{
		Name:      cmp.Or(o.Release, o.Chart),
		Namespace: cmp.Or(o.Namespace, "tulle"),
		Revision:  1,
		IsInstall: !o.Upgrade,
		IsUpgrade: o.Upgrade,
	}, caps)
	if err != nil {
		return nil, nil, refusal(o.Chart, err)
	}
	return c, out, nil
}

// refusal rewrites what the schema's checker says, "- at '/proxy/workers': minimum …", with the names by
// which --set knows values.
func refusal(chart string, err error) error {
	var wrong []string
	for line := range strings.Lines(err.Error()) {
		indent, line, found := strings.Cut(strings.TrimRight(line, "\n"), "- at '")
		if !found {
			continue
		}
		path, why, _ := strings.Cut(line, "': ")
		path = strings.TrimPrefix(strings.ReplaceAll(path, "/", "."), ".")
		wrong = append(wrong, indent+cmp.Or(path, "the values")+": "+why)
	}
	if len(wrong) == 0 {
		return err
	}
	return fmt.Errorf("chart %s: %s", chart, strings.Join(wrong, "\n"))
}

// given merges what o sets over the chart's own values.
func given(o Options) (map[string]any, error) {
	values := map[string]any{}
	if o.Chart == Tulle {
		values["createNamespace"] = true
	}
	for _, name := range o.Profiles {
		p, err := profile(o.Chart, name)
		if err != nil {
			return nil, err
		}
		values = loader.MergeMaps(values, p)
	}
	data, err := yaml.Marshal(o.Values) // a copy, into which Set may write
	if err != nil {
		return nil, err
	}
	own, err := ParseValues(data)
	if err != nil {
		return nil, err
	}
	values = loader.MergeMaps(values, own)
	for _, s := range o.Set {
		if err := strvals.ParseInto(s, values); err != nil {
			return nil, fmt.Errorf("--set %s: %w", s, err)
		}
	}
	return values, nil
}

// capabilities are what the templates may ask about the cluster.
func (o Options) capabilities() (*common.Capabilities, error) {
	v, err := common.ParseKubeVersion(cmp.Or(o.KubeVersion, KubeVersion))
	if err != nil {
		return nil, fmt.Errorf("version of Kubernetes %q: %w", o.KubeVersion, err)
	}
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = *v
	caps.APIVersions = slices.Concat(common.DefaultVersionSet, o.APIVersions)
	return caps, nil
}
