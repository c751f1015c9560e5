package inject_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/version"
)

func TestMain(m *testing.M) { leak.Main(m) }

var update = flag.Bool("update", false, "write the golden files")

// around is what a case says besides the object: the file around.yaml.
type around struct {
	Minor     int              `json:"minor"`
	Namespace inject.Namespace `json:"namespace"`
	Values    map[string]any   `json:"values"`
	Force     bool             `json:"force"`
	Owner     string           `json:"owner"`
	Object    string           `json:"object"`
}

func (a around) params(t *testing.T) inject.Params {
	t.Helper()
	values, err := yaml.Marshal(a.Values)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := config.FromValues("tulle", values)
	if err != nil {
		t.Fatal(err)
	}
	if a.Namespace.Name == "" {
		a.Namespace.Name = "shop"
	}
	return inject.Params{
		Mesh: mesh, Cluster: inject.Cluster{Minor: a.Minor}, Namespace: a.Namespace,
		Force: a.Force, Owner: a.Owner, Object: a.Object,
	}
}

// TestGolden reads testdata: around.yaml, in.yaml and what comes of them, out.yaml and report.
func TestGolden(t *testing.T) { // R13.1, R13.2, R13.4, R9.3, R11.2
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatal(len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { golden(t, name) })
	}
}

func golden(t *testing.T, name string) {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(raw)
	var a around
	if err := yaml.UnmarshalStrict(part(archive, "around.yaml"), &a); err != nil {
		t.Fatal(err)
	}
	object := decode(t, part(archive, "in.yaml"))
	template, ok := inject.Find(object)
	if !ok {
		t.Fatalf("%T makes no pods", object)
	}
	before := template.Get()
	p := a.params(t)
	after, report, err := inject.Inject(before, p)
	template.Set(after)
	out, told := "", describe(report, err)
	if err == nil && report.Injected {
		out = strings.ReplaceAll(encode(t, object), version.Number(), "VERSION")
		properties(t, before, p)
	}
	if *update {
		set(archive, "out.yaml", out)
		set(archive, "report", told)
		if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(part(archive, "out.yaml")), out); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(string(part(archive, "report")), told); d != "" {
		t.Error(d)
	}
}

// describe is what a person is told.
func describe(r inject.Report, err error) string {
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	b.WriteString(r.String() + "\n")
	for _, n := range r.Notices {
		b.WriteString("notice: " + n + "\n")
	}
	for _, v := range r.Settings {
		if v.From != config.FromDefault {
			b.WriteString("setting: " + v.Name + "=" + v.Text + " from " + string(v.From) + ", " + v.Object + "\n")
		}
	}
	return b.String()
}

func part(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func set(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
}

func decode(t *testing.T, raw []byte) any {
	t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(raw, &kind); err != nil {
		t.Fatal(err)
	}
	objects := map[string]any{
		"Pod": &corev1.Pod{}, "PodTemplate": &corev1.PodTemplate{}, "ReplicationController": &corev1.ReplicationController{},
		"Deployment": &appsv1.Deployment{}, "StatefulSet": &appsv1.StatefulSet{}, "DaemonSet": &appsv1.DaemonSet{},
		"ReplicaSet": &appsv1.ReplicaSet{}, "Job": &batchv1.Job{}, "CronJob": &batchv1.CronJob{},
	}
	object, ok := objects[kind.Kind]
	if !ok {
		t.Fatalf("kind %q", kind.Kind)
	}
	if err := yaml.UnmarshalStrict(raw, object); err != nil {
		t.Fatal(err)
	}
	if _, ok := inject.Path(kind.Kind); !ok {
		t.Errorf("Path does not know %s", kind.Kind)
	}
	return object
}

func encode(t *testing.T, object any) string {
	t.Helper()
	raw, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	// The API's types write these whether they are there or not.
	for _, empty := range []string{"status: {}\n", "    resources: {}\n", "        resources: {}\n", "strategy: {}\n", "updateStrategy: {}\n"} {
		raw = bytes.ReplaceAll(raw, []byte("\n"+empty), []byte("\n"))
	}
	return string(raw)
}
