package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// replica is a Server that runs until the test ends.
type replica struct {
	*Server
	addr string
	stop func()
}

func start1(t *testing.T, c *fake.Clientset, name string) *replica {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Log: zap.NewNop(), Client: c, Registerer: prometheus.NewRegistry(), Listener: l, Namespace: "tulle", Replica: name, LameDuck: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &replica{Server: s, addr: l.Addr().String()}
	r.stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *replica) ready() bool { return len(r.Missing()) == 0 }

// askTLS asks the way that the API server does: by the Service's name, trusting the caBundle.
func (r *replica) askTLS(t *testing.T, c *fake.Clientset, body []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(hooks(t, c).Webhooks[0].ClientConfig.CABundle)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "tulle-injector.tulle.svc"}}}
	resp, err := client.Post("https://"+r.addr+Path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Response == nil {
		t.Fatal(resp.Status, err)
	}
	return got.Response
}

// TestReplicasServe runs two replicas against one cluster: both answer with a certificate that the API
// server accepts, one of them mirrors, and when it ends the other one does.
func TestReplicasServe(t *testing.T) { // R13.1
	c := cluster(pod("shop", "missed"))
	a, b := start1(t, c, "a"), start1(t, c, "b")
	for _, r := range []*replica{a, b} {
		until(t.Context(), t, "ready replica", r.ready)
		if resp := r.askTLS(t, c, review(t, pod("shop", "web"))); !resp.Allowed || len(resp.Patch) == 0 {
			t.Errorf("%+v", resp)
		}
	}
	label := func(name string) string {
		ns, err := c.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return ns.Labels[inject.AnnotationInject]
	}
	until(t.Context(), t, "mirrored namespace", func() bool { return label("shop") == "enabled" })
	until(t.Context(), t, "event about the pod without a proxy", func() bool {
		events, err := c.CoreV1().Events("shop").List(t.Context(), metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(events.Items, func(e corev1.Event) bool { return e.Reason == eventMissing && e.InvolvedObject.Name == "missed" })
	})
	// A Namespace that is made later, and is annotated.
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), namespace("late", map[string]string{inject.AnnotationInject: "enabled"}, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t.Context(), t, "mirrored late namespace", func() bool { return label("late") == "enabled" })
	lease, err := c.CoordinationV1().Leases("tulle").Get(t.Context(), Lease, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leader, other := a, b
	if *lease.Spec.HolderIdentity == "b" {
		leader, other = b, a
	}
	leader.stop()
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), namespace("later", map[string]string{inject.AnnotationInject: "enabled"}, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t.Context(), t, "mirror by the other replica", func() bool { return label("later") == "enabled" })
	if resp := other.askTLS(t, c, review(t, pod("later", "web"))); len(resp.Patch) == 0 {
		t.Errorf("%+v", resp)
	}
}

// TestValuesAreFollowed: what the ConfigMap says holds for the next pod; a mistake in it leaves the last
// good values in force.
func TestValuesAreFollowed(t *testing.T) {
	c := cluster()
	r := start1(t, c, "a")
	until(t.Context(), t, "ready replica", r.ready)
	set := func(values string) {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.ConfigMap, Namespace: "tulle"}, Data: map[string]string{config.ConfigKey: values}}
		if _, err := c.CoreV1().ConfigMaps("tulle").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	says := func(want string) func() bool {
		return func() bool {
			return strings.Contains(string(r.askTLS(t, c, review(t, pod("shop", "web"))).Patch), want)
		}
	}
	until(t.Context(), t, "log level warn", says(`"TULLE_LOG_LEVEL","value":"warn"`))
	set("proxy: {logLevel: error}")
	until(t.Context(), t, "log level error", says(`"TULLE_LOG_LEVEL","value":"error"`))
	set("proxy: {logLevel: loud}")
	until(t.Context(), t, "invalid values", func() bool { return gauge(t, r.counts.config) == 0 })
	if !says(`"TULLE_LOG_LEVEL","value":"error"`)() || !r.ready() {
		t.Error("a mistake has put the last good values out of force", r.Missing())
	}
	set("proxy: {logLevel: debug}")
	until(t.Context(), t, "log level debug", says(`"TULLE_LOG_LEVEL","value":"debug"`))
}

// TestReadyOnlyWhenTheAPIServerCanAsk: what is missing is named.
func TestReadyOnlyWhenTheAPIServerCanAsk(t *testing.T) { // R11.1
	c := cluster()
	ctx := t.Context()
	configs, all := c.CoreV1().ConfigMaps("tulle"), c.AdmissionregistrationV1().MutatingWebhookConfigurations()
	cfg := hooks(t, c)
	if err := configs.Delete(ctx, config.ConfigMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := all.Delete(ctx, WebhookConfig, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start1(t, c, "a")
	door := r.Admin(http.NotFoundHandler())
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		door.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w.Code, w.Body.String()
	}
	const waiting = "not ready: the caBundle of MutatingWebhookConfiguration tulle-injector is not set; " +
		"ConfigMap tulle/tulle-config has not been read without a mistake yet\n"
	until(ctx, t, "word of what is missing", func() bool { code, body := get("/ready"); return code == 503 && body == waiting })
	if code, _ := get("/live"); code != 200 {
		t.Error(code)
	}
	if _, err := all.Create(ctx, cfg, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.ConfigMap, Namespace: "tulle"}}
	if _, err := configs.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "ready replica", func() bool { code, _ := get("/ready"); return code == 200 })
	r.stop()
	if code, body := get("/ready"); code != 503 || !strings.Contains(body, "it was asked to end") {
		t.Errorf("%d %s", code, body)
	}
}

var updateDocs = flag.Bool("update-docs", false, "write docs/metrics-injector.md")

const metricsDoc = "../../docs/metrics-injector.md"

var descText = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)

func TestMetricsAreDocumented(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := newCounts(reg)
	c.admissions.WithLabelValues(injected, "").Inc() // what has no child is not looked at
	c.rotations.WithLabelValues("step").Inc()
	c.missing.WithLabelValues("missed").Set(1)
	problems, err := testutil.GatherAndLint(reg) // promtool check metrics
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	descs := make(chan *prometheus.Desc)
	go func() { reg.Describe(descs); close(descs) }() // ends with the last one
	var rows []string
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s is not understood", d)
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", m[1], strings.ReplaceAll(m[3], ",", ", "), m[2]))
	}
	slices.Sort(rows)
	want := "# Metrics of the injector\n\nWritten by a test of package injector/webhook from what is registered. The injector serves them at its admin\n" +
		"address, path /metrics, beside those of the Go runtime and the process.\n\n| metric | labels | what |\n| --- | --- | --- |\n" + strings.Join(rows, "")
	if *updateDocs {
		if err := os.WriteFile(metricsDoc, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale; run: go test ./injector/webhook -run MetricsAreDocumented -update-docs", metricsDoc)
	}
}
