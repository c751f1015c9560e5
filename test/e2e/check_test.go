package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestCheckOnARealCluster asks an empty, a half-installed, a healthy and a broken cluster: what tulle check says of each is
// golden.
func TestCheckOnARealCluster(t *testing.T) {
	long(t)
	e := setup(t)
	if e.installed() {
		e.delete(e.uninstall())
	}
	e.alone()
	tr := e.transcript("check")
	tr.add("an empty cluster", "tulle check", e.runTulle("", "check", "--wait", "0"))
	tr.add("an empty cluster, before installing", "tulle check --pre", e.runTulle("", "check", "--pre", "--wait", "0"))

	all := e.mustTulle("install", "--ignore-cluster", "-o", "json")
	e.applyNamed(without(t, all, "tulle-destination", "tulle-injector"))
	e.in(t, "tulle").rollout("deployment/tulle-identity")
	tr.add("half-installed: no definitions, and of the control plane only identity", "tulle check", e.runTulle("", "check", "--wait", "0"))
	tr.add("installing over it", "tulle install", e.runTulle("", "install"))

	e.applyNamed(e.mustTulle("upgrade", "--crds"))
	e.established()
	e.applyNamed(e.mustTulle("upgrade"))
	e.mustTulle("check", "--wait", "90s")
	tr.add("healthy", "tulle check", e.runTulle("", "check", "--wait", "0"))
	tr.add("healthy, before installing", "tulle check --pre", e.runTulle("", "check", "--pre", "--wait", "0"))

	mend := e.breakAll()
	tr.add("broken", "tulle check", e.runTulle("", "check", "--wait", "0"))
	tr.add("broken, in short", "tulle check -o short", e.runTulle("", "check", "--wait", "0", "-o", "short"))
	mend()
	tr.end()
	e.mustTulle("check", "--wait", "90s")
}

// says is nil when a check finds what is wanted, and says what to do.
func (e *env) says(anchor, want string) error {
	f := e.checked(anchor)[anchor]
	if f.Result != "failure" && f.Result != "warning" || !strings.Contains(strings.Join(f.Problems, "\n"), want) || f.Hint == "" {
		return fmt.Errorf("%s: want %q, got %+v", anchor, want, f)
	}
	return nil
}

// gone waits until no pod has the labels.
func (e *env) gone(in *env, selector string) {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		out, err := e.Kubectl(ctx, "--namespace="+in.namespace, "get", "pods", "--selector="+selector, "--output=name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("%s is still there", out)
		}
		return err
	})
}

// breakAll breaks one thing of each group that can be without another repairing it, and returns what mends it all.
func (e *env) breakAll() (mend func()) {
	e.t.Helper()
	control := e.in(e.t, "tulle")
	for _, name := range []string{"tulle-identity", "tulle-injector"} {
		control.kubectl("scale", "deployment/"+name, "--replicas=0")
	}
	e.gone(control, "app.kubernetes.io/component in (identity,injector)")
	e.kubectl("delete", "crd/externalworkloads.policy.tulle.dev")
	control.kubectl("delete", "rolebinding/tulle-identity", "secret/tulle-injector-tls")
	control.kubectl("patch", "secret/tulle-identity-issuer", "--patch", `{"data":{"tls.crt":"bm9uc2Vuc2U="}}`)
	e.apply(`{apiVersion: v1, kind: Pod, metadata: {name: odd, annotations: {tulle.dev/inject: enabled, config.tulle.dev/log-level: loud, config.tulle.dev/colour: blue}},
spec: {terminationGracePeriodSeconds: 0, containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]}}`)
	e.applyNamed(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: tulle}, spec: {podSelector: {}, policyTypes: [Ingress]}}`)
	e.kubectl("label", "namespace", e.namespace, "tulle.dev/inject=enabled", "pod-security.kubernetes.io/enforce=baseline")
	e.rollout("pod/odd")
	e.until(func(context.Context) error { return e.says("services", "tulle-identity has no ready endpoint") })
	return func() {
		control.kubectl("delete", "networkpolicy/deny", "secret/tulle-identity-issuer")
		e.kubectl("delete", "pod/odd")
		e.kubectl("label", "namespace", e.namespace, "tulle.dev/inject-", "pod-security.kubernetes.io/enforce-")
		e.applyNamed(e.mustTulle("install", "--crds"))
		e.established()
		e.applyNamed(e.mustTulle("upgrade"))
	}
}

// without is a rendered chart, as JSON, without the Deployments that are named.
func without(t *testing.T, manifests string, names ...string) string {
	t.Helper()
	var list struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Items      []item `json:"items"`
	}
	if err := json.Unmarshal([]byte(manifests), &list); err != nil {
		t.Fatal(err)
	}
	list.Items = slices.DeleteFunc(list.Items, func(o item) bool {
		return o.text("kind") == "Deployment" && slices.Contains(names, o.text("metadata", "name"))
	})
	out, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
