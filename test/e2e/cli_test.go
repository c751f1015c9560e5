package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommandLineOnARealCluster asks a mesh that runs by every command that reads one, and looks at what is said.
func TestCommandLineOnARealCluster(t *testing.T) {
	long(t)
	e := setup(t)
	e.mesh()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled", "config.tulle.dev/log-level=debug")
	e.apply(pair)
	e.rollout("deployment/server", "deployment/client")
	e.ask("deployment/client", "client", "http://server/")
	ns := []string{"-n", e.namespace}
	spiffe := regexp.QuoteMeta("spiffe://cluster.local/ns/" + e.namespace + "/sa/default")
	for _, c := range []struct {
		args   string
		status int
		out    string // a regular expression of what is printed
		err    string
	}{
		{"identity", 0, `server-\S+\s+.*` + spiffe, ""},
		{"identity deploy/client -o json", 0, `"identity": "` + spiffe, ""},
		{"identity deploy/client -o pem", 0, `BEGIN CERTIFICATE`, ""},
		{"identity nobody", 1, ``, `nobody`},
		{"explain deploy/server", 0, `log-level\s+debug\s+namespace ` + e.namespace, ""},
		{"explain svc/server", 0, `80\s`, ""},
		{"diagnostics endpoints server." + e.namespace + ":80", 0, `:8080\s+\S+\s+` + spiffe + `\s+server-`, ""},
		{"diagnostics endpoints nobody.nowhere:80", 1, ``, `knows no target "nobody.nowhere:80"`},
		{"diagnostics policy deploy/server", 0, `all-unauthenticated`, ""},
		{"diagnostics policy svc/server", 0, `server`, ""},
		{"diagnostics proxy deploy/client", 0, `server.` + e.namespace, ""},
		{"diagnostics proxy-metrics deploy/client", 0, `(?m)^request_total\{.*server_id="` + spiffe, ""},
		{"diagnostics controller-metrics", 0, `(?m)^discovery_`, ""},
		{"diagnostics log-level deploy/client", 0, `debug`, ""},
		{"diagnostics log-level deploy/client warn", 0, `warn`, ""},
		{"diagnostics log-level deploy/client", 0, `warn`, ""},
		{"diagnostics log-level destination", 0, `info`, ""},
		{"version --short", 0, `Client: ` + regexp.QuoteMeta(e.version) + `\nServer: ` + regexp.QuoteMeta(e.version), ""},
		{"version --proxies", 0, regexp.QuoteMeta(e.version) + ` in 2 pods`, ""},
		{"check --proxy --wait 60s", 0, `✓ proxies agree with the control plane \(2 proxies\)`, ""},
		{"install", 4, ``, `already installed in namespace tulle\n  try: tulle upgrade`},
		{"uninstall", 4, ``, `pods still have a proxy: .*\n  try: kubectl get deploy`},
		{"prune", 0, `^$`, `nothing is left of older versions`},
		{"identity --as nobody", 3, ``, `User "nobody" cannot list resource "pods"`},
	} {
		s := e.runTulle("", append(strings.Fields(c.args), ns...)...)
		if s.status != c.status || !regexp.MustCompile(c.out).MatchString(s.stdout) || !regexp.MustCompile(c.err).MatchString(s.stderr) {
			t.Errorf("tulle %s: exit code %d, want %d, %q and %q:\n%s%s", c.args, s.status, c.status, c.out, c.err, s.stdout, s.stderr)
		}
	}
	e.heldByAProxy()
	e.upgradeChangesNothing()
	e.bundle()
}

// heldByAProxy: the context and the port-forward of a kubeconfig of one's own.
func (e *env) heldByAProxy() {
	e.t.Helper()
	for pod := range e.pods("app=client") {
		out := e.mustTulle("diagnostics", "endpoints", "-n", e.namespace, "--pod", pod, "--context",
			e.kubectl("config", "current-context"))
		if !strings.Contains(out, "spiffe://cluster.local/ns/"+e.namespace+"/sa/default") || !strings.Contains(out, "good") {
			e.t.Errorf("the proxy of %s holds:\n%s", pod, out)
		}
	}
}

// upgradeChangesNothing: the API server itself reads what is printed, strictly, for each profile; with the values that
// were installed nothing differs. What is installed besides is found by prune.
func (e *env) upgradeChangesNothing() {
	e.t.Helper()
	for _, args := range [][]string{{"install", "--crds"}, {"install"}, {"install", "--profile", "dev"}, {"install", "--ha"}} {
		manifests := e.mustTulle(append(args, "--ignore-cluster")...)
		s := e.kubectlSays(manifests, "--namespace=tulle", "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if s.status != 0 || strings.Contains(s.stderr, "unknown field") {
			e.t.Errorf("tulle %s: the API server does not take it: %s", strings.Join(args, " "), s.stderr)
		}
	}
	s := e.kubectlSays(e.mustTulle("upgrade"), "--namespace=tulle", "apply", "-f", "-")
	for line := range strings.Lines(s.stdout) {
		if !strings.HasSuffix(strings.TrimSpace(line), "unchanged") && !strings.HasPrefix(line, "poddisruptionbudget") {
			e.t.Errorf("an upgrade to the same changes %s", line)
		}
	}
	e.applyNamed(`{apiVersion: v1, kind: ConfigMap, metadata: {name: of-old, namespace: tulle, labels: {app.kubernetes.io/part-of: tulle}}}`)
	if out := e.mustTulle("prune"); strings.Count(out, "kind:") != 1 || !strings.Contains(out, "name: of-old") {
		e.t.Errorf("tulle prune prints\n%s", out)
	} else {
		e.delete(out)
	}
}

// bundle looks into the archive for a bug report: what must be in it, and that no secret is.
func (e *env) bundle() {
	e.t.Helper()
	file := filepath.Join(e.t.TempDir(), "bundle.tar.gz")
	e.mustTulle("diagnostics", "bundle", "-n", e.namespace, "--file", file)
	raw, err := os.ReadFile(file)
	if err != nil {
		e.t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		e.t.Fatal(err)
	}
	names, all := "", ""
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			e.t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			e.t.Fatal(err)
		}
		names += h.Name + "\n"
		all += string(text)
	}
	for _, want := range []string{"tulle-bundle/version.txt", "tulle-bundle/tulle/deployments.yaml", "/streams.txt", e.namespace + "/pods.yaml"} {
		if !strings.Contains(names, want) {
			e.t.Errorf("the bundle has no %s:\n%s", want, names)
		}
	}
	key := e.in(e.t, "tulle").field("secret/tulle-identity-root", `{.data.tls\.key}`)
	for _, secret := range []string{key, "PRIVATE KEY", "eyJhbGciOi"} {
		if len(secret) == 0 || strings.Contains(all, secret) {
			e.t.Errorf("the bundle holds %.20q", secret)
		}
	}
}
