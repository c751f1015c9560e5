package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFirstQuarterOfAnHour types what docs/install.md says, in its order.
func TestFirstQuarterOfAnHour(t *testing.T) {
	e := setup(t)
	if e.installed() { // by an earlier test or run
		e.delete(e.uninstall())
	}
	for _, s := range []struct {
		name string
		run  func(*env)
	}{
		{"check --pre finds the cluster fit", checkPre},
		{"the definitions are applied", installCRDs},
		{"the sample runs without a mesh, in plaintext", shopInPlaintext},
		{"from install to a green check in 60 s", installAndCheck},
		{"an annotation and a restart put the sample into the mesh", meshShop},
		{"every hop is mutual TLS, and no marker crosses", shopInMesh},
		{"the proxies count it, by identity", goldenMetrics},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.run(e.in(t, "shop")) }) {
			break // each stands on those before
		}
	}
	if t.Failed() {
		e.explain("tulle")
		e.explain("shop")
	}
	e.kubectl("delete", "namespace/shop", "--ignore-not-found", "--wait=false")
}

// uninstall is what tulle uninstall prints. It refuses while a pod has a proxy, and those of an
// earlier test may still be ending.
func (e *env) uninstall() (manifests string) {
	e.t.Helper()
	e.until(func(context.Context) error {
		s := e.runTulle("", "uninstall")
		manifests = s.stdout
		if s.status != 0 {
			return fmt.Errorf("tulle uninstall: exit status %d: %s", s.status, s.stderr)
		}
		return nil
	})
	return manifests
}

func checkPre(e *env) {
	s := e.runTulle("", "check", "--pre", "--wait", "0")
	if s.status != 0 {
		e.t.Errorf("exit status %d\n%s%s", s.status, s.stdout, s.stderr)
	}
}

func installCRDs(e *env) {
	e.applyNamed(e.mustTulle("install", "--crds"))
	e.established()
}

// shop is the sample as it lies in the repository.
func shop(e *env) string {
	files, err := filepath.Glob("../../samples/shop/*.yaml")
	if err != nil || len(files) == 0 {
		e.t.Fatalf("no sample: %v", err)
	}
	var all strings.Builder
	for _, name := range files {
		yaml, err := os.ReadFile(name)
		if err != nil {
			e.t.Fatal(err)
		}
		all.Write(yaml)
		all.WriteString("\n---\n")
	}
	return all.String()
}

// rolloutShop waits for every Deployment of the sample and of the test.
func rolloutShop(e *env) {
	e.t.Helper()
	names := strings.Fields(e.kubectl("get", "deployments", "--output=name"))
	if len(names) < 8 {
		e.t.Fatalf("the sample consists of %v only", names)
	}
	e.rollout(names...)
}

// shopInPlaintext shows that shopInMesh's capture would see what the sample says.
func shopInPlaintext(e *env) {
	e.kubectl("delete", "namespace/shop", "--ignore-not-found") // of an earlier run
	e.applyNamed(shop(e))
	e.apply(shopper)
	rolloutShop(e)
	head, metadata := "marker-plain-http", "marker-plain-grpc"
	c := e.capture(head, metadata)
	shopping(e, head, metadata)
	c.all()
}

// shopper is a client of the sample that says what it is told to; its request ids pass through web, as
// gRPC metadata, to catalog.
const shopper = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shopper, namespace: shop}
spec:
  selector: {matchLabels: {app: shopper}}
  template:
    metadata: {labels: {app: shopper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: shopper, image: "tulle.test/tools:1", args: [sleep]}]
`

// shopping sends one marker in a request's target and the other in its id.
func shopping(e *env, head, id string) {
	e.t.Helper()
	e.ask("deployment/shopper", "shopper", "http://web.shop.svc.cluster.local/products/1?marker="+head, "X-Request-Id: "+id)
}

func installAndCheck(e *env) {
	begun := time.Now()
	e.applyNamed(e.mustTulle("install"))
	e.mustTulle("check", "--wait", "90s")
	took := time.Since(begun)
	e.t.Logf("from install to a green check: %.1f s", took.Seconds())
	if took > time.Minute {
		e.t.Errorf("from install to a green check: %s, over a minute", took)
	}
}

func meshShop(e *env) {
	e.kubectl("annotate", "namespace", "shop", "tulle.dev/inject=enabled")
	e.kubectl("rollout", "restart", "deployment")
	rolloutShop(e)
	e.until(func(ctx context.Context) error { return e.allMeshed(ctx, true) })
}

// meshed reports whether a pod has a proxy as a native sidecar, and is ready with it.
func meshed(p podState) bool {
	proxy := false
	for _, c := range p.Status.InitContainerStatuses {
		proxy = proxy || c.Name == "tulle-proxy" && c.Ready
	}
	for _, c := range p.Status.ContainerStatuses {
		proxy = proxy && c.Ready
	}
	return proxy
}

func shopInMesh(e *env) {
	head, id := "marker-meshed-http", "marker-meshed-grpc"
	c := e.capture(head, id)
	shopping(e, head, id)
	c.none()
}

// hops are who dials whom in the sample; store is no HTTP.
var hops = []struct{ client, server, metric string }{
	{"traffic", "web", "request_total{"},
	{"web", "catalog", "request_total{"},
	{"traffic", "cart", "request_total{"},
	{"cart", "store", "tcp_open_total{"},
	{"traffic", "payments", "request_total{"},
	{"traffic", "feed", "request_total{"},
	{"shopper", "web", "request_total{"},
}

// goldenMetrics reads what the proxies counted: each hop by its identities, at the side that was dialled.
func goldenMetrics(e *env) {
	for _, h := range hops {
		account := h.client
		if account == "shopper" {
			account = "default"
		}
		e.counted("app="+h.server, h.metric, `direction="inbound"`, `tls="true"`,
			`client_id="spiffe://cluster.local/ns/shop/sa/`+account+`"`, `server_id="spiffe://cluster.local/ns/shop/sa/`+h.server)
	}
	e.counted("app=web", "request_total{", `direction="outbound"`, `tls="true"`, `server_id="spiffe://cluster.local/ns/shop/sa/catalog"`)
	e.counted("app=web", "response_total{", `direction="inbound"`, `classification="success"`)
	e.counted("app=web", "response_latency_ms_bucket{", `direction="inbound"`)
	e.counted("app=store", "tcp_read_bytes_total{", `direction="inbound"`, `tls="true"`)
}

// counted waits until a proxy of the pods that a selector matches shows a line with all these parts.
func (e *env) counted(selector string, parts ...string) {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		for _, ip := range e.pods(selector) {
			text, _, err := fetch(ctx, "http://"+net.JoinHostPort(ip, "4191")+"/metrics")
			if err == nil && hasLine(text, parts) {
				return nil
			}
		}
		return fmt.Errorf("no proxy of %s counts %v", selector, parts)
	})
}

func hasLine(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}
