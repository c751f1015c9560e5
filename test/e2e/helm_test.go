package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// helms are the releases of Helm that users of each major version have.
var helms = map[string]string{
	"Helm 3": "helm.sh/helm/v3/cmd/helm@v3.22.0",
	"Helm 4": "helm.sh/helm/v4/cmd/helm@v4.3.1",
}

// TestLongHelm installs the charts with Helm's own programs, as docs/install.md says: --wait ends when the mesh can
// inject, applying the same again changes nothing, other values arrive, and what stays after uninstalling is what the
// document names.
func TestLongHelm(t *testing.T) {
	long(t)
	e := setup(t)
	if e.installed() {
		e.delete(e.uninstall())
	}
	e.kubectl("label", "namespace", e.namespace, "tulle.dev/inject=enabled")
	for name, module := range helms {
		t.Run(name, func(t *testing.T) {
			h := &helm{env: e.in(t, e.namespace), program: buildHelm(t, module)}
			h.alone()
			h.lifecycle()
		})
	}
}

// helm is a cluster as one of Helm's programs sees it.
type helm struct {
	*env
	program string
}

// buildHelm compiles the program, unless an earlier run has, and returns its path.
func buildHelm(t *testing.T, module string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tulle", "helm", regexp.MustCompile(`[^a-z0-9.]+`).ReplaceAllString(module, "-"))
	program := filepath.Join(dir, "helm")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	cmd := exec.CommandContext(t.Context(), "go", "install", module)
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", module, err, out)
	}
	return program
}

// do runs Helm in the mesh's namespace.
func (h *helm) do(args ...string) {
	h.t.Helper()
	ctx, stop := h.ctx()
	defer stop()
	cmd := exec.CommandContext(ctx, h.program, append([]string{"--kubeconfig=" + h.Kubeconfig(), "--namespace=tulle"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (h *helm) lifecycle() {
	before := h.objects()
	const definitions, chart = "../../charts/tulle-crds", "../../charts/tulle"
	h.do("install", "tulle-crds", definitions, "--create-namespace")
	begun := time.Now()
	h.do("install", "tulle", chart, "--wait")
	h.t.Logf("helm install --wait: %.1f s", time.Since(begun).Seconds())
	h.injects() // at once
	h.mustTulle("check", "--wait", "60s")

	was := h.state()
	h.do("upgrade", "tulle", chart, "--wait")
	if is := h.state(); is != was {
		h.t.Errorf("the same values again changed\n%s\nto\n%s", was, is)
	}
	h.do("upgrade", "tulle", chart, "--wait", "--set", "controlPlane.replicas=2,injector.failurePolicy=Fail")
	if policy := h.field("mutatingwebhookconfiguration/tulle-injector", "{.webhooks[0].failurePolicy}"); policy != "Fail" {
		h.t.Errorf("the webhook's failurePolicy is %s", policy)
	}
	h.injects()
	h.mustTulle("check", "--wait", "60s")
	if s := h.runTulle("", "upgrade"); s.status == 0 || !strings.Contains(s.stderr, "helm upgrade") {
		h.t.Errorf("tulle upgrade of what Helm installed: exit status %d, %s", s.status, s.stderr)
	}

	h.do("uninstall", "tulle", "--wait")
	for _, kept := range []string{"secret/tulle-identity-root", "secret/tulle-identity-issuer", "configmap/tulle-trust-bundle"} {
		h.kubectl("--namespace=tulle", "get", kept)
	}
	h.do("uninstall", "tulle-crds", "--wait")
	h.kubectl("delete", "namespace", "tulle")
	h.kubectl("delete", "configmap", "tulle-trust-bundle", "--ignore-not-found")
	for _, line := range diff(before, h.objects()) {
		if !stays.MatchString(line) {
			h.t.Errorf("left behind: %s", line)
		}
	}
	h.kubectl("delete", "--ignore-not-found", "-f", filepath.Join(definitions, "definitions"))
	h.until(func(context.Context) error {
		if left := diff(before, h.objects()); len(left) > 0 {
			return fmt.Errorf("left behind: %s", strings.Join(left, "\n"))
		}
		return nil
	})
}

// stays is what a definition is, and what the API server makes of it.
var stays = regexp.MustCompile(`^\+1 (kind |apiextensions\.k8s\.io/v1/CustomResourceDefinition |apiregistration\.k8s\.io/v1/APIService /v[0-9a-z]+\.(gateway\.networking\.k8s\.io|policy\.tulle\.dev) )`)

// injects asks once what would become of a pod.
func (h *helm) injects() {
	h.t.Helper()
	got := h.kubectl("run", "asked", "--image=tulle.test/tools:1", "--dry-run=server", "--output=jsonpath={.spec.initContainers[*].name}")
	if !strings.Contains(got, "tulle-proxy") {
		h.t.Errorf("a pod gets the init containers %q", got)
	}
}

// state is what must stay as it is: generations, pods, and the authority that the webhook was given.
func (h *helm) state() string {
	h.t.Helper()
	in := h.in(h.t, "tulle")
	return in.kubectl("get", "deployments,services,serviceaccounts,roles,rolebindings", "--output=jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation}\n{end}") +
		in.kubectl("get", "pods", "--output=name") +
		in.field("mutatingwebhookconfiguration/tulle-injector", "{.webhooks[0].clientConfig.caBundle}")
}
