package controller

import (
	"flag"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/runtime"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tulle-mesh/tulle/controller/reflect"
)

var updateDocs = flag.Bool("update-docs", false, "write docs/metrics-control-plane.md")

const metricsDoc = "../docs/metrics-control-plane.md"

// descText is how client_golang shows a Desc.
var descText = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)

// TestMetricsAreDocumented holds docs/metrics-control-plane.md to what a control
// plane with every part registers.
func TestMetricsAreDocumented(t *testing.T) {
	p, err := New(Config{
		Source:      "files:" + t.TempDir(),
		Identity:    &IdentityConfig{Listener: listener(t), StateDir: t.TempDir()},
		Destination: &DestinationConfig{Listener: listener(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	reflect.New(reflect.Config{ // the source of a cluster
		Client: fake.NewClientset(), Dynamic: dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()),
		Store: p.store, Registerer: p.reg,
	})
	problems, err := testutil.GatherAndLint(p.reg) // promtool check metrics
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	want := metricsPage(p.reg)
	if *updateDocs {
		if err := os.WriteFile(metricsDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale; run: go test ./controller -run MetricsAreDocumented -update-docs", metricsDoc)
	}
}

func metricsPage(reg *prometheus.Registry) string {
	descs := make(chan *prometheus.Desc)
	go func() { reg.Describe(descs); close(descs) }() // ends with the last one
	var rows []string
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		if m == nil || strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			continue
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", m[1], strings.ReplaceAll(m[3], ",", ", "), m[2]))
	}
	slices.Sort(rows)
	return "# Metrics of the control plane\n\nWritten by a test of package controller from what is registered. Every controller serves them at its admin\n" +
		"address, path /metrics, beside those of the Go runtime and the process.\n\n| metric | labels | what |\n| --- | --- | --- |\n" +
		strings.Join(rows, "")
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
