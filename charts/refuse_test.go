package charts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
)

// TestWrongValuesAreRefusedByName keeps what a person is told.
func TestWrongValuesAreRefusedByName(t *testing.T) {
	var out strings.Builder
	for _, set := range []string{
		"controlPlane.replica=3",
		"controlPlane.replicas=0",
		"controlPlane.replicas=three",
		"controlPlane.logLevel=loud",
		"controlPlane.spread=zones",
		"controlPlane.rollingUpdate.maxSurge=half",
		"proxy.cpu=100m",
		"proxy.memoryLimit=64MB",
		"proxy.opaquePorts=mysql",
		"proxy.opaquePorts=70000",
		"proxy.skipSubnets=10.0.0.0",
		"proxy.defaultInboundPolicy=allow",
		"proxy.workers=0",
		"proxy.preStop=500ms",
		"proxy.detect.silent=1s",
		"proxy.detect.silence=soon",
		"proxy.limits.connections=-1",
		"proxy.timeouts=connect",
		"injector.failurePolicy=Never",
		"injector.timeoutSeconds=31",
		"identity.leafLifetime=1d",
		"identity.resources.requests.gpu=1",
		"image.version=v1:2",
		"image.pullSecrets={regcred}",
		"clusterNetworks=10.0.0.0/8",
		"trustDomain=Example.org",
		"profile=prod",
		"foo=1",
	} {
		_, err := Render(Options{Chart: Tulle, Set: []string{set}})
		if err == nil {
			t.Errorf("--set %s is taken", set)
		}
		fmt.Fprintf(&out, "--set %s\n\t%s\n", set, strings.ReplaceAll(fmt.Sprint(err), "\n", "\n\t"))
	}
	golden(t, "testdata/refused.txt", []byte(out.String()))
}

func TestMistakesInOptionsAreNamed(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Chart: "tulle-viz"}, `no chart "tulle-viz": there are tulle and tulle-crds`},
		{Options{Chart: Tulle, Profiles: []string{"prod"}}, `no profile "prod": there are default, dev, ha`},
		{Options{Chart: CRDs, Profiles: []string{"ha"}}, `no profile "ha": there are default`},
		{Options{Chart: Tulle, KubeVersion: "new"}, `version of Kubernetes "new"`},
		{Options{Chart: Tulle, KubeVersion: "v1.20.0"}, "chart tulle wants Kubernetes >=1.25.0-0, the cluster is v1.20.0"},
		{Options{Chart: Tulle, Set: []string{"a"}}, "--set a: key"},
	} {
		if _, err := Render(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.o, err, c.want)
		}
	}
}

func TestOptionsAreNotChanged(t *testing.T) {
	proxy := map[string]any{"workers": 2}
	o := Options{Chart: Tulle, Values: map[string]any{"proxy": proxy}, Set: []string{"proxy.workers=4"}}
	if _, err := Render(o); err != nil {
		t.Fatal(err)
	}
	if proxy["workers"] != 2 || len(proxy) != 1 {
		t.Errorf("rendering wrote into the caller's values: %v", proxy)
	}
}

// TestTheLaterWins: chart, profile, Values, Set.
func TestTheLaterWins(t *testing.T) {
	replicas := func(o Options) any {
		t.Helper()
		o.Chart = Tulle
		v, err := Values(o)
		if err != nil {
			t.Fatal(err)
		}
		plane, _ := v["controlPlane"].(map[string]any)
		return fmt.Sprint(plane["replicas"])
	}
	five := map[string]any{"controlPlane": map[string]any{"replicas": 5}}
	for want, o := range map[string]Options{
		"1": {},
		"3": {Profiles: []string{"dev", "ha"}},
		"5": {Profiles: []string{"ha"}, Values: five},
		"7": {Profiles: []string{"ha"}, Values: five, Set: []string{"controlPlane.replicas=6", "controlPlane.replicas=7"}},
	} {
		if got := replicas(o); got != want {
			t.Errorf("%+v: %v replicas, want %s", o, got, want)
		}
	}
}

// TestHelmLint runs helm's own linter.
func TestHelmLint(t *testing.T) {
	for _, chart := range []string{Tulle, CRDs} {
		profiles, err := Profiles(chart)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range profiles {
			values, err := profile(chart, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range lint.RunAll(chart, values, "tulle").Messages {
				// An icon would be fetched from the network by whoever shows it.
				if !strings.Contains(m.Err.Error(), "icon is recommended") {
					t.Errorf("%s with %s: %v", chart, p, m)
				}
			}
		}
	}
}

// TestTheChartsAreOfThisVersion: chart, images and command line are released together.
func TestTheChartsAreOfThisVersion(t *testing.T) {
	for _, name := range []string{Tulle, CRDs} {
		c, err := load(name)
		if err != nil {
			t.Fatal(err)
		}
		if c.Metadata.Version != Version() || c.Metadata.AppVersion != Version() {
			t.Errorf("%s/Chart.yaml: version %s, appVersion %s, internal/version says %s", name, c.Metadata.Version, c.Metadata.AppVersion, Version())
		}
		if c.Metadata.Name != name {
			t.Errorf("%s/Chart.yaml: name %s", name, c.Metadata.Name)
		}
	}
}

// TestProfilesSayTheirName: tulle-config keeps it.
func TestProfilesSayTheirName(t *testing.T) {
	for _, p := range []string{"default", "dev", "ha"} {
		v, err := Values(Options{Chart: Tulle, Profiles: []string{p}})
		if err != nil || v["profile"] != p {
			t.Errorf("profile %s: %v (%v)", p, v["profile"], err)
		}
	}
	found, err := filepath.Glob("tulle/values-*.yaml")
	if err != nil || len(found) != 2 {
		t.Errorf("profiles %v (%v)", found, err)
	}
	if names, err := Profiles(Tulle); err != nil || !slices.Equal(names, []string{"default", "dev", "ha"}) {
		t.Errorf("Profiles are %v (%v)", names, err)
	}
	if _, err := os.Stat("tulle/values-default.yaml"); err == nil {
		t.Error("the profile default is values.yaml alone")
	}
}
