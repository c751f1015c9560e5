package config_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/version"
)

func TestMain(m *testing.M) { leak.Main(m) }

func resolve(t *testing.T, values string, ns, pod map[string]string) (*config.Settings, []config.Notice, error) {
	t.Helper()
	m, err := config.FromValues("tulle", []byte(values))
	if err != nil {
		t.Fatal(err)
	}
	return m.Resolve(
		config.Layer{From: config.FromNamespace, Object: "namespace shop", Annotations: prefixed(ns)},
		config.Layer{From: config.FromPod, Object: "pod shop/web-1", Annotations: prefixed(pod)},
	)
}

func prefixed(m map[string]string) map[string]string {
	out := map[string]string{"tulle.dev/inject": "enabled", "example.org/x": "y"}
	for k, v := range m {
		out[config.Prefix+k] = v
	}
	return out
}

// TestTheNarrowerWordHolds: pod over Namespace over the chart's values over defaults, and each says where it came from.
func TestTheNarrowerWordHolds(t *testing.T) { // R13.1
	const values = "proxy: {workers: 2, logLevel: warn, logFormat: plain}"
	s, notices, err := resolve(t, values,
		map[string]string{"log-level": "debug", "log-format": "json"}, map[string]string{"log-level": "error"})
	if err != nil || len(notices) > 0 {
		t.Fatal(err, notices)
	}
	for _, want := range []config.Value{
		{Name: config.LogLevel, Text: "error", From: config.FromPod, Object: "pod shop/web-1"},
		{Name: config.LogFormat, Text: "json", From: config.FromNamespace, Object: "namespace shop"},
		{Name: config.Workers, Text: "2", From: config.FromChart, Object: "ConfigMap tulle/tulle-config"},
		{Name: config.PreStop, Text: "5s", From: config.FromDefault},
	} {
		if got := s.Get(want.Name); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestMistakesNameObjectAnnotationValueAndWant(t *testing.T) { // R13.1
	for name, c := range map[string]struct{ value, want string }{
		"workers":                      {"many", "a number from 1 to 64"},
		"cpu-request":                  {"-1", "a positive amount such as 100m or 64Mi, or nothing"},
		"cpu-limit":                    {"much", "a positive amount such as 100m or 64Mi, or nothing"},
		"memory-request":               {"64 MB", "a positive amount such as 100m or 64Mi, or nothing"},
		"memory-limit":                 {"1Mi", "an amount of at least 16Mi, or nothing"},
		"opaque-ports":                 {"http", "ports and ranges of ports such as 3306,9000-9099, or nothing"},
		"skip-inbound-ports":           {"80-70", "ports and ranges of ports such as 3306,9000-9099, or nothing"},
		"skip-outbound-ports":          {"70000", "ports and ranges of ports such as 3306,9000-9099, or nothing"},
		"skip-subnets":                 {"10.0.0.0", "networks such as 10.0.0.0/8,fd00::/8, or nothing"},
		"default-inbound-policy":       {"allow", "all-unauthenticated, all-authenticated, cluster-authenticated, deny or audit"},
		"default-inbound-policy.0":     {"deny", "a port from 1 to 65535 at the name's end"},
		"default-inbound-policy.80":    {"no", "all-unauthenticated, all-authenticated, cluster-authenticated, deny or audit"},
		"strict":                       {"true", "enabled or disabled"},
		"detect":                       {"10ms", "some of silence=a positive duration; timeout=a positive duration"},
		"timeouts":                     {"connect=1s,connect=2s", "some of connect=a positive duration; app-connect="},
		"limits":                       {"header-bytes=1", "header-bytes=a number from 1024 to 1048576"},
		"native-sidecar":               {"yes", "auto, enabled or disabled"},
		"await":                        {"", "enabled or disabled"},
		"pre-stop":                     {"500ms", "whole seconds such as 5s, or 0s"},
		"drain":                        {"timeout=0s", "some of lame-duck=a positive duration; timeout=a positive duration"},
		"shutdown":                     {"on", "enabled or disabled"},
		"log-level":                    {"loud", "debug, info, warn or error"},
		"log-format":                   {"xml", "json or plain"},
		"access-log":                   {"yes", "off, apache or json"},
		"trace-sampling":               {"101%", "a percentage such as 1%"},
		"tap":                          {"yes", "enabled or disabled"},
		"proxy-image":                  {"an image", "an image's name without a tag"},
		"proxy-version":                {"", "an image's tag, or a digest sha256:…"},
		"image-pull-policy":            {"Sometimes", "IfNotPresent, Always or Never"},
		"proxy-uid":                    {"0", "a number from 1 to 2147483647"},
		"default-inbound-policy.70000": {"deny", "a port from 1 to 65535 at the name's end"},
	} {
		_, _, err := resolve(t, "", map[string]string{"log-level": "loud"}, map[string]string{name: c.value})
		want := `pod shop/web-1: annotation config.tulle.dev/` + name + `="` + c.value + `": want `
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%q:\n%v\nwant\n%s%s", name, c.value, err, want, c.want)
		} else if !strings.Contains(err.Error(), `namespace shop: annotation config.tulle.dev/log-level="loud"`) {
			t.Errorf("the namespace's mistake is not told beside the pod's: %v", err)
		}
	}
}

func TestEverySettingHasATestOfItsMistake(t *testing.T) {
	src := map[string]bool{}
	for _, s := range config.Table() {
		src[s.Name] = true
		if s.Doc == "" || s.Sets == "" || s.Wants() == "" {
			t.Errorf("%s is not documented", s.Name)
		}
		if s.Default != "" {
			if _, _, err := resolve(t, "", nil, map[string]string{s.Name: s.Default}); err != nil {
				t.Errorf("the default of %s: %v", s.Name, err)
			}
		}
	}
	for name := range strings.FieldsSeq("workers cpu-request cpu-limit memory-request memory-limit opaque-ports skip-inbound-ports " +
		"skip-outbound-ports skip-subnets default-inbound-policy log-level log-format access-log detect timeouts drain native-sidecar " +
		"await pre-stop proxy-image proxy-version trace-sampling tap") {
		if !src[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// TestWhatDoesNotWorkYetIsSaid: nothing is accepted as if it worked.
func TestWhatDoesNotWorkYetIsSaid(t *testing.T) {
	_, notices, err := resolve(t, "proxy: {tap: true}", map[string]string{"trace-sampling": "1%"}, map[string]string{"access-log": "json", "wrokers": "2"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range notices {
		got = append(got, n.String())
	}
	want := []string{
		`pod shop/web-1: annotation config.tulle.dev/access-log: "json" has no effect: this version's proxy writes no access log`,
		`namespace shop: annotation config.tulle.dev/trace-sampling: "1%" has no effect: this version's proxy sends no traces`,
		`ConfigMap tulle/tulle-config: annotation config.tulle.dev/tap: "enabled" has no effect: this version's proxy has no tap`,
		`pod shop/web-1: annotation config.tulle.dev/wrokers: is no setting of this version; did you mean config.tulle.dev/workers?`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestValuesAreReadLikeAnnotations(t *testing.T) {
	m, err := config.FromValues("mesh", []byte(`
trustDomain: example.org
clusterDomain: cluster.example
clusterNetworks: [10.0.0.0/8, fd00::/8]
image: {registry: x}
proxy:
  workers: 3
  opaquePorts: [25, "9000-9099"]
  timeouts: {idle: 5m, connect: 2s}
  strict: true
  image: registry.example/proxy
  memoryLimit: 128Mi
  cpuLimit:
`))
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := m.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	if m.Address("tulle-identity", 8080) != "tulle-identity.mesh.svc.cluster.example.:8080" || m.Identity("tulle-identity") != "spiffe://example.org/ns/mesh/sa/tulle-identity" {
		t.Error(m.Address("tulle-identity", 8080), m.Identity("tulle-identity"))
	}
	want := []config.Variable{
		{Name: "TULLE_WORKERS", Value: "3"}, {Name: "TULLE_STRICT", Value: "on"},
		{Name: "TULLE_CONNECT_TIMEOUT", Value: "2s"}, {Name: "TULLE_IDLE_TIMEOUT", Value: "5m0s"},
	}
	if d := cmp.Diff(want, s.Environment()); d != "" {
		t.Error(d)
	}
	if s.Text(config.OpaquePorts) != "25,9000-9099" || s.Text(config.ProxyImage) != "registry.example/proxy" || s.Text(config.MemoryLimit) != "128Mi" {
		t.Errorf("%+v", s.All())
	}
}

// TestWrittenDefaultsAreDefaults: a chart writes every default out, or leaves a name empty.
func TestWrittenDefaultsAreDefaults(t *testing.T) {
	var values strings.Builder
	for _, s := range config.Table() {
		fmt.Fprintf(&values, "%s: %q\n", strings.TrimPrefix(s.Value(), "proxy."), s.Default)
	}
	for _, text := range []string{"proxy:\n  " + strings.ReplaceAll(values.String(), "\n", "\n  "), `proxy: {image: "", version: "", detect: {}, cpuLimit: }`} {
		s, notices, err := resolve(t, text, nil, nil)
		if err != nil || len(notices) > 0 || len(s.Environment()) > 0 {
			t.Errorf("%v %v %v", s.Environment(), notices, err)
		}
		for _, v := range s.All() {
			if v.From != config.FromDefault {
				t.Errorf("%+v", v)
			}
		}
	}
}

// docs/proxy.md has the proxy's own defaults: they must be the table's, or the table's must be said.
var proxyDefault = regexp.MustCompile("(?m)^\\| `(TULLE_[A-Z_]+)` \\| (?:`([^`]*)`)? \\|")

func TestTheProxyHasTheSameDefaults(t *testing.T) {
	raw, err := os.ReadFile("../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	proxy := map[string]string{}
	for _, m := range proxyDefault.FindAllStringSubmatch(string(raw), -1) {
		proxy[m[1]] = m[2]
	}
	for _, s := range config.Table() {
		for _, name := range s.Variables() {
			got, known := proxy[name]
			if !known {
				t.Errorf("%s sets %s, which the proxy does not know", s.Name, name)
			}
			want := map[string]string{config.Enabled: "on", config.Disabled: "off"}[s.Default]
			if want == "" {
				want = s.Default
			}
			if want != "" && got != want {
				t.Errorf("%s is %q by default, %s is %q", s.Name, s.Default, name, got)
			}
		}
	}
}

var update = flag.Bool("update", false, "write the table of docs/injection.md")

const docFile, tableBegin, tableEnd = "../../docs/injection.md", "<!-- settings: written by go test ./injector/config -update -->\n", "<!-- end of settings -->"

func TestTheTableIsDocumented(t *testing.T) {
	raw, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), tableBegin)
	old, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", docFile)
	}
	want := markdown()
	if *update {
		if err := os.WriteFile(docFile, []byte(head+tableBegin+want+tableEnd+tail), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Errorf("%s does not say what the code does; run: go test ./injector/config -update", docFile)
	}
}

func markdown() string {
	var b strings.Builder
	b.WriteString("| annotation `config.tulle.dev/…` | default | want | becomes | what it is |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range config.Table() {
		initial, name, doc := "", "`"+s.Name+"`", s.Doc
		if s.Default != "" {
			initial = "`" + strings.Replace(s.Default, version.Number(), "this version's", 1) + "`"
		}
		if s.On != "" {
			name += " (also on a " + s.On + ")"
		}
		if s.Missing != "" {
			doc += " **No effect yet: " + s.Missing + "; injection says so.**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, initial, s.Wants(), s.Sets, doc)
	}
	return b.String()
}

func TestBadValuesAreToldAtOnce(t *testing.T) {
	_, err := config.FromValues("tulle", []byte("clusterNetworks: ten\nproxy: {workers: 0, wrokers: 1, tap: {a: [{}]}, logLevel: loud}"))
	for _, want := range []string{
		`ConfigMap tulle/tulle-config: values.yaml: clusterNetworks="ten": want networks`,
		`ConfigMap tulle/tulle-config: values.yaml: proxy.workers="0": want a number from 1 to 64`,
		`ConfigMap tulle/tulle-config: values.yaml: proxy.wrokers is no setting`,
		`proxy.logLevel="loud"`, `proxy.tap=`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if _, err := config.FromValues("tulle", []byte("proxy: [")); err == nil {
		t.Error("what is no YAML was read")
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("workers", "2", "proxy: {workers: 1}")
	f.Add("timeouts", "connect=1s, idle=90s", "")
	f.Add("skip-subnets", "10.0.0.0/8,::/0", "clusterNetworks: 10.0.0.0/8")
	f.Add("default-inbound-policy.80", "deny", "proxy: {drain: {timeout: 9s}}")
	f.Fuzz(func(t *testing.T, name, value, values string) {
		m, err := config.FromValues("tulle", []byte(values))
		if err != nil {
			return
		}
		resolve := func(value string) (*config.Settings, error) {
			s, _, err := m.Resolve(config.Layer{From: config.FromPod, Object: "pod", Annotations: map[string]string{config.Prefix + name: value}})
			return s, err
		}
		s, err := resolve(value)
		if err != nil {
			return
		}
		// What was read once reads the same again.
		for _, v := range s.All() {
			if v.Name != name {
				continue
			}
			again, err := resolve(v.Text)
			if err != nil {
				t.Fatalf("%s=%q became %q, which is not accepted: %v", name, value, v.Text, err)
			}
			for _, w := range again.All() {
				if w.Name == name && w.Text != v.Text {
					t.Errorf("%s: %q became %q, and that %q", name, value, v.Text, w.Text)
				}
			}
		}
	})
}
