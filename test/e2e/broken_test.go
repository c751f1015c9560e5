package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBrokenInputGivesTheMessageThatIsNeeded: bad annotation values, a webhook that is down under each failurePolicy, missing
// definitions, wrong kubeconfigs and an expired token, on a real API server. What an operator reads is golden.
func TestBrokenInputGivesTheMessageThatIsNeeded(t *testing.T) {
	long(t)
	e := setup(t)
	e.mesh()
	tr := e.transcript("broken")
	e.badAnnotations(tr)
	e.badKubeconfigs(tr)
	e.webhookDown(tr)
	e.definitionsMissing(tr)
	tr.end()
	e.mustTulle("check", "--wait", "90s")
}

// kubectlSays runs kubectl with stdin, whatever comes of it.
func (e *env) kubectlSays(stdin string, args ...string) said {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	cmd := e.Command(ctx, append([]string{"--namespace=" + e.namespace}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the status says it
	return said{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func podWith(annotations string) string {
	return `{apiVersion: v1, kind: Pod, metadata: {name: pod, annotations: {` + annotations + `}},
spec: {terminationGracePeriodSeconds: 0, containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]}}`
}

func (e *env) badAnnotations(tr *transcript) {
	e.t.Helper()
	for _, a := range []string{
		"tulle.dev/inject: enabled, config.tulle.dev/log-level: loud",
		"tulle.dev/inject: enabled, config.tulle.dev/opaque-ports: \"70000\", config.tulle.dev/cpu-request: lots",
		"tulle.dev/inject: maybe",
	} {
		tr.add("a pod with the annotations "+a, "kubectl apply -f pod.yaml", e.kubectlSays(podWith(a), "apply", "-f", "-"))
	}
	tr.add("the same on the command line", "tulle inject --config log-level=loud pod.yaml",
		e.runTulle(podWith(""), "inject", "--config", "log-level=loud", "-"))
	e.kubectl("annotate", "namespace", e.namespace, "config.tulle.dev/default-inbound-policy=open", "tulle.dev/inject=enabled")
	tr.add("a namespace with a policy that there is not", "kubectl apply -f pod.yaml", e.kubectlSays(podWith(""), "apply", "-f", "-"))
	tr.add("and what check says of it", "tulle check --only annotations", e.runTulle("", "check", "--wait", "0", "--only", "annotations"))
	e.kubectl("annotate", "namespace", e.namespace, "config.tulle.dev/default-inbound-policy-")
}

// kubeconfig writes the cluster's own, changed.
func (e *env) kubeconfig(name string, change func(string) string) string {
	e.t.Helper()
	raw, err := os.ReadFile(e.Kubeconfig())
	if err != nil {
		e.t.Fatal(err)
	}
	file := filepath.Join(e.t.TempDir(), name)
	if err := os.WriteFile(file, []byte(change(string(raw))), 0o600); err != nil {
		e.t.Fatal(err)
	}
	return file
}

func (e *env) badKubeconfigs(tr *transcript) {
	e.t.Helper()
	server := e.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
	nowhere := e.kubeconfig("nowhere", func(s string) string { return strings.ReplaceAll(s, server, "https://127.0.0.1:9") })
	unnamed := e.kubeconfig("unnamed", func(s string) string { return strings.ReplaceAll(s, server, "https://api.invalid:6443") })
	for _, c := range []struct {
		title string
		args  []string
	}{
		{"a kubeconfig that does not exist", []string{"check", "--kubeconfig", filepath.Join(e.t.TempDir(), "none")}},
		{"a context that does not exist", []string{"check", "--context", "production"}},
		{"an address where nothing listens", []string{"check", "--kubeconfig", nowhere}},
		{"a name that nobody knows", []string{"identity", "-n", "default", "--kubeconfig", unnamed}},
		{"another cluster's authority", []string{"uninstall", "--kubeconfig", e.distrusting(server)}},
		{"an expired token", []string{"check", "--kubeconfig", e.withToken(server, -time.Hour)}},
		{"an expired token, to install", []string{"install", "--kubeconfig", e.withToken(server, -time.Hour)}},
		{"a token that is good, of somebody who may nothing", []string{"uninstall", "--kubeconfig", e.withToken(server, time.Hour)}},
		{"the same for somebody else", []string{"identity", "-n", "default", "--as", "nobody"}},
		{"a version, whatever is wrong", []string{"version", "--short", "--kubeconfig", nowhere}},
	} {
		s := e.runTulle("", append(c.args, waitNot(c.args[0])...)...)
		tr.add(c.title, "tulle "+strings.Join(c.args, " "), s)
	}
}

func waitNot(command string) []string {
	if command == "check" {
		return []string{"--wait", "0"}
	}
	return nil
}

// distrusting is a kubeconfig whose authority is not the cluster's: that of its etcd.
func (e *env) distrusting(server string) string {
	e.t.Helper()
	dir := filepath.Dir(e.Kubeconfig())
	return e.write("distrusting", fmt.Sprintf(kubeconfigOf, server, filepath.Join(dir, "etcd-ca.crt"), "token: x"))
}

const kubeconfigOf = `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}],
users: [{name: c, user: {%s}}], contexts: [{name: c, context: {cluster: c, user: c}}]}`

func (e *env) write(name, text string) string {
	return e.kubeconfig(name, func(string) string { return text })
}

// withToken is a kubeconfig with a token that the cluster signed for the account "default" of the test's namespace, and
// that expires at some time from now: the API server itself signs none that has expired.
func (e *env) withToken(server string, expires time.Duration) string {
	e.t.Helper()
	dir := filepath.Dir(e.Kubeconfig())
	parts := strings.Split(e.kubectl("create", "token", "default"), ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		e.t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(raw, &claims); err != nil {
		e.t.Fatal(err)
	}
	at := time.Now().Add(-2 * time.Hour)
	claims["iat"], claims["nbf"], claims["exp"] = at.Unix(), at.Unix(), time.Now().Add(expires).Unix()
	body, err := json.Marshal(claims)
	if err != nil {
		e.t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(body)
	token := signed + "." + base64.RawURLEncoding.EncodeToString(sign(e.t, filepath.Join(dir, "sa.key"), signed))
	return e.write("token", fmt.Sprintf(kubeconfigOf, server, filepath.Join(dir, "ca.crt"), "token: "+token))
}

// sign signs as the API server does: RS256, or ES256 with r and s side by side (RFC 7518 3.4).
func sign(t *testing.T, file, text string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	switch k := key.(type) {
	case *rsa.PrivateKey:
		out, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return out
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out
	}
	t.Fatalf("%T signs no tokens here", key)
	return nil
}

// webhookDown has the injector away, as the profile default and as one that closes wants it.
func (e *env) webhookDown(tr *transcript) {
	e.t.Helper()
	control := e.in(e.t, "tulle")
	e.until(func(context.Context) error { // the stricter rule is for namespaces with the label, which mirrors the annotation
		if label := e.field("namespace/"+e.namespace, `{.metadata.labels.tulle\.dev/inject}`); label != "enabled" {
			return fmt.Errorf("the label is %q", label)
		}
		return nil
	})
	away := func() {
		control.kubectl("scale", "deployment/tulle-injector", "--replicas=0")
		e.gone(control, "app.kubernetes.io/component=injector")
		e.until(func(context.Context) error { return e.says("services", "tulle-injector has no ready endpoint") })
	}
	away()
	tr.add("failurePolicy Ignore, and no injector: the pod starts without a proxy", "kubectl apply -f pod.yaml",
		e.kubectlSays(podWith(""), "apply", "-f", "-"))
	tr.add("and check says so", "tulle check --only webhook,unmeshed,services -o short",
		e.runTulle("", "check", "--wait", "0", "--only", "webhook,unmeshed,services", "-o", "short"))
	e.kubectl("delete", "pod/pod")
	e.applyNamed(e.mustTulle("upgrade", "--set", "injector.failurePolicy=Fail"))
	control.rollout("deployment/tulle-injector")
	away()
	tr.add("failurePolicy Fail, and no injector: no pod starts", "kubectl apply -f pod.yaml", e.kubectlSays(podWith(""), "apply", "-f", "-"))
	tr.add("and check says so", "tulle check --only webhook -o short", e.runTulle("", "check", "--wait", "0", "--only", "webhook", "-o", "short"))
	tr.add("a pod that is let past", "kubectl apply -f pod.yaml", e.kubectlSays(
		strings.Replace(podWith(""), "name: pod,", "name: pod, labels: {tulle.dev/inject: disabled},", 1), "apply", "-f", "-"))
	e.applyNamed(e.mustTulle("upgrade", "--reset-values"))
	e.mustTulle("check", "--wait", "90s", "--only", "webhook,control-plane")
}

// definitionsMissing takes the definitions away.
func (e *env) definitionsMissing(tr *transcript) {
	e.t.Helper()
	e.kubectl("delete", "crd/externalworkloads.policy.tulle.dev")
	tr.add("a definition is missing", "tulle check --only crds", e.runTulle("", "check", "--wait", "0", "--only", "crds"))
	tr.add("to upgrade without it", "tulle upgrade", e.runTulle("", "upgrade"))
	tr.add("to install without it, elsewhere", "tulle install -L other", e.runTulle("", "install", "-L", "other"))
	e.applyNamed(e.mustTulle("upgrade", "--crds"))
	e.established()
}
