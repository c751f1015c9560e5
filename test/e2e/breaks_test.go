package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// breakage is one thing that is wrong with a cluster, how tulle check names it, and what mends it.
type breakage struct {
	name string
	// flags of tulle check, and those with which it is asked again where they are others.
	flags, mended []string
	breaks        func(e, control *env)
	// says is what checks find, by their names.
	says map[string]string
	// hint is a part of what the checks say to try. It is typed in as it stands, unless mends is what its reader makes
	// of it.
	hint  string
	mends func(e, control *env)
}

const (
	plain  = "tulle upgrade | kubectl apply -f -"
	server = "tulle upgrade | kubectl apply --server-side --force-conflicts -f -"
)

// TestEachBreakIsNamed breaks one thing at a time; tulle check names it, and what it says to try mends it.
func TestEachBreakIsNamed(t *testing.T) {
	long(t)
	e := setup(t)
	e.mesh()
	e.in(t, "tulle").rollout("deployment/tulle-identity", "deployment/tulle-destination", "deployment/tulle-injector")
	for _, c := range slices.Concat(breaksBefore(), breaksOfInstallation(), breaksOfCertificates(), breaksOfInjection(), breaksOfProxies()) {
		if !t.Run(c.name, func(t *testing.T) {
			e, control := e.in(t, e.namespace), e.in(t, "tulle")
			c.breaks(e, control)
			e.until(func(context.Context) error { return e.named(c) })
			if c.mends != nil {
				c.mends(e, control)
			} else {
				e.typed(c.hint)
			}
			if c.mended == nil {
				c.mended = c.flags
			}
			e.until(func(context.Context) error { return e.well(c) })
		}) {
			return // the control plane is not what it was
		}
	}
	e.typed(plain) // nothing differs from what was installed, for the tests to come
	e.mustTulle("check", "--wait", "90s")
}

// named is nil when each check says what is wrong, and one what to try.
func (e *env) named(c breakage) error {
	found, hinted := e.checkedWith(c.with(e, c.flags)...), false
	for check, want := range c.says {
		f := found[check]
		if f.Result != "failure" && f.Result != "warning" || !strings.Contains(strings.Join(f.Problems, "\n"), want) {
			return fmt.Errorf("%s: want %q, got %+v", check, want, f)
		}
		hinted = hinted || strings.Contains(f.Hint, c.hint)
	}
	if !hinted {
		return fmt.Errorf("nothing says to try %q: %+v", c.hint, found)
	}
	return nil
}

// well is nil when the same checks find nothing any more.
func (e *env) well(c breakage) error {
	found := e.checkedWith(c.with(e, c.mended)...)
	for check := range c.says {
		if f, made := found[check]; !made || f.Result != "ok" && f.Result != "skipped" {
			return fmt.Errorf("%s, after it was mended: %+v", check, f)
		}
	}
	return nil
}

// with are flags, for the checks in question alone; $NS is the test's namespace.
func (c *breakage) with(e *env, flags []string) []string {
	out := []string{"--only=" + strings.Join(slices.Sorted(maps.Keys(c.says)), ",")}
	for _, f := range flags {
		out = append(out, strings.ReplaceAll(f, "$NS", e.namespace))
	}
	return out
}

// typed runs a line in a shell, as somebody does who was told to try it.
func (e *env) typed(line string) {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", line)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Kubeconfig(),
		"PATH="+strings.Join([]string{filepath.Dir(e.tulle), filepath.Dir(e.Programs().Kubectl), os.Getenv("PATH")}, ":"))
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// off takes the pods of a service of the control plane away.
func off(name string) func(e, control *env) {
	return func(e, control *env) {
		control.kubectl("scale", "deployment/tulle-"+name, "--replicas=0")
		e.gone(control, "app.kubernetes.io/component="+name)
	}
}

// then takes one step after another.
func then(steps ...func(e, control *env)) func(e, control *env) {
	return func(e, control *env) {
		for _, step := range steps {
			step(e, control)
		}
	}
}

// inControl and inTest run kubectl in the namespace of the control plane, or of the test, whose name is $NS.
func inControl(args ...string) func(e, control *env) {
	return func(_, control *env) { control.kubectl(args...) }
}

func inTest(args ...string) func(e, control *env) {
	return func(e, _ *env) {
		filled := slices.Clone(args)
		for i := range filled {
			filled[i] = strings.ReplaceAll(filled[i], "$NS", e.namespace)
		}
		e.kubectl(filled...)
	}
}

func nothing(_, _ *env) {}

func breaksBefore() []breakage {
	node := func(e, _ *env) {
		e.t.Cleanup(func() {
			_, _ = e.Kubectl(context.WithoutCancel(e.t.Context()), "delete", "node/odd", "--ignore-not-found")
		})
		e.applyNamed(`{apiVersion: v1, kind: Node, metadata: {name: odd}, spec: {unschedulable: true}}`)
		e.kubectl("patch", "node/odd", "--subresource=status", "--patch",
			`{"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"kernelVersion":"4.4.0","operatingSystem":"linux",
"architecture":"","bootID":"","containerRuntimeVersion":"","kubeProxyVersion":"","kubeletVersion":"","machineID":"","osImage":"","systemUUID":""}}}`)
	}
	return []breakage{
		{
			name: "there is no such namespace", flags: []string{"-L", "nowhere"}, mended: []string{"-L", "tulle"}, breaks: nothing,
			says: map[string]string{"namespace": "namespace nowhere does not exist"}, hint: "-L with the namespace that it is in", mends: nothing,
		},
		{
			name: "nobody may install", flags: []string{"--pre", "--as", "e2e-nobody"}, breaks: nothing,
			says: map[string]string{"permissions": "you may not create clusterroles.rbac.authorization.k8s.io"},
			hint: "have somebody with the rights install, or be given them", mends: func(e, _ *env) {
				e.kubectl("create", "clusterrolebinding", "e2e-nobody", "--clusterrole=cluster-admin", "--user=e2e-nobody")
				e.t.Cleanup(func() {
					_, _ = e.Kubectl(context.WithoutCancel(e.t.Context()), "delete", "clusterrolebinding/e2e-nobody")
				})
			},
		},
		{
			name: "no node has room", flags: []string{"--pre", "--set", "destination.resources.requests.memory=9000Gi"},
			mended: []string{"--pre", "--set", "destination.resources.requests.memory=32Mi"}, breaks: nothing,
			says: map[string]string{"capacity": "of memory in 3 pods, and the nodes have"}, hint: "--set destination.resources.requests.memory=32Mi", mends: nothing,
		},
		{
			name: "a quota is too small", flags: []string{"--pre", "-L", "$NS"}, breaks: inTest("create", "quota", "small", "--hard=pods=2"),
			says: map[string]string{"quota": "/small leaves 2 of pods, and 3 are asked for"}, hint: "raise the quota",
			mends: inTest("patch", "quota/small", "--patch", `{"spec":{"hard":{"pods":"30"}}}`),
		},
		{
			name: "a node's kernel is too old", flags: []string{"--pre"}, breaks: node,
			says: map[string]string{"kernel": "node odd has kernel 4.4.0; the redirect needs 5.2"}, hint: "upgrade their kernel",
			mends: inTest("patch", "node/odd", "--subresource=status", "--patch", `{"status":{"nodeInfo":{"kernelVersion":"6.12.0"}}}`),
		},
		{
			name: "a plugin balances before the proxy", flags: []string{"--pre"}, breaks: func(e, _ *env) {
				e.t.Cleanup(func() {
					_, _ = e.Kubectl(context.WithoutCancel(e.t.Context()), "--namespace=kube-system", "delete", "configmap/cilium-config")
				})
				e.kubectl("--namespace=kube-system", "create", "configmap", "cilium-config", "--from-literal=kube-proxy-replacement=true")
			},
			says:  map[string]string{"kube-proxy-replacement": "set socketLB.hostNamespaceOnly=true (bpf-lb-sock-hostns-only)"},
			hint:  "have the network plugin balance for the nodes' own network alone",
			mends: inTest("--namespace=kube-system", "patch", "configmap/cilium-config", "--patch", `{"data":{"bpf-lb-sock-hostns-only":"true"}}`),
		},
	}
}

func breaksOfInstallation() []breakage {
	config := func(key, text string) func(e, control *env) {
		return inControl("patch", "configmap/tulle-config", "--patch", fmt.Sprintf(`{"data":{%q:%q}}`, key, text))
	}
	image := func(name, tag string) func(e, control *env) {
		return inControl("set", "image", "deployment/tulle-"+name, name+"=ghcr.io/tulle-mesh/tulle-controller:"+tag)
	}
	return []breakage{
		{
			name: "the configuration is gone", breaks: inControl("delete", "configmap/tulle-config"),
			says: map[string]string{"config": "ConfigMap tulle/tulle-config does not exist"}, hint: "tulle install | kubectl apply -f -",
		},
		{
			name: "a value cannot be", breaks: config("values.yaml", "proxy: {logLevel: loud}"),
			says: map[string]string{"config": `proxy.logLevel="loud"`}, hint: plain,
		},
		{
			name: "what was set cannot be read", breaks: config("wishes.yaml", "profiles: {"),
			says: map[string]string{"config": "wishes.yaml: what was set cannot be read"}, hint: "tulle upgrade --reset-values | kubectl apply -f -",
		},
		{
			name: "a definition is gone", breaks: inTest("delete", "crd/externalworkloads.policy.tulle.dev"),
			says: map[string]string{"crds": "customresourcedefinition/externalworkloads.policy.tulle.dev does not exist"}, hint: "tulle install --crds | kubectl apply -f -",
		},
		{
			name: "an account is gone", breaks: inControl("delete", "serviceaccount/tulle-destination"),
			says: map[string]string{"objects": "serviceaccount/tulle-destination in tulle does not exist"},
			hint: plain + "; kubectl -n tulle rollout restart deploy/tulle-destination",
		},
		{
			name: "a Deployment has no pods", breaks: off("destination"),
			says: map[string]string{
				"control-plane": "deployment tulle/tulle-destination is scaled to 0", "services": "service tulle/tulle-destination has no ready endpoint",
			}, hint: plain,
		},
		{
			name: "an image cannot be pulled", breaks: image("destination", "0.0.9"),
			says: map[string]string{"control-plane": "container destination: ", "version": "tulle-destination is 0.0.9, and this is tulle"},
			hint: "kubectl -n tulle describe pod tulle-destination-", mends: func(e, _ *env) { e.typed(plain) },
		},
		{
			name: "a quota lets no pod be", breaks: then(inControl("create", "quota", "none", "--hard=pods=0"), off("identity"), inControl("scale", "deployment/tulle-identity", "--replicas=1")),
			says: map[string]string{"control-plane": "deployment tulle/tulle-identity: its pods are not created: pods"}, hint: "raise the quota that is named",
			mends: inControl("delete", "quota/none"),
		},
		{
			name: "a Service is gone", breaks: inControl("delete", "service/tulle-destination"),
			says: map[string]string{"services": "service tulle/tulle-destination does not exist"}, hint: plain,
		},
		{
			name: "a Service leads nowhere", breaks: inControl("patch", "service/tulle-injector", "--patch", `{"spec":{"selector":{"app.kubernetes.io/name":"nobody"}}}`),
			says: map[string]string{"services": "service tulle/tulle-injector selects pods by app.kubernetes.io/component=injector,app.kubernetes.io/name=nobody"},
			hint: server,
		},
		{
			name: "replicas stand on one node", breaks: func(e, control *env) {
				on := control.field("pods", `{.items[?(@.metadata.labels.app\.kubernetes\.io/component=="destination")].spec.nodeName}`)
				other := map[string]string{"n1": "n2", "n2": "n1"}[on]
				e.t.Cleanup(func() { _, _ = e.Kubectl(context.WithoutCancel(e.t.Context()), "uncordon", "n1", "n2") })
				e.kubectl("cordon", other)
				control.kubectl("scale", "deployment/tulle-destination", "--replicas=2")
				control.rollout("deployment/tulle-destination")
				e.kubectl("uncordon", other)
			},
			says: map[string]string{"replicas": "all 2 pods of tulle-destination are on node"}, hint: "delete one of the pods to have it placed anew",
			mends: func(_, control *env) {
				pods := control.pods("app.kubernetes.io/component=destination")
				control.kubectl("delete", "pod/"+slices.Sorted(maps.Keys(pods))[0])
				control.rollout("deployment/tulle-destination")
			},
		},
	}
}

func breaksOfCertificates() []breakage {
	damaged := func(secret string) func(e, control *env) {
		return then(off("identity"), inControl("patch", "secret/"+secret, "--patch", `{"data":{"tls.crt":"bm9uc2Vuc2U="}}`))
	}
	return []breakage{
		{
			name: "the root is damaged", breaks: damaged("tulle-identity-root"),
			says: map[string]string{"root": "Secret tulle/tulle-identity-root: tls.crt: holds no certificate"}, hint: plain,
		},
		{
			name: "the issuer is damaged", breaks: damaged("tulle-identity-issuer"),
			says: map[string]string{"issuer": "Secret tulle/tulle-identity-issuer: tls.crt: holds no certificate"}, hint: plain,
		},
		{
			name: "the trust bundle is gone", breaks: then(off("identity"), inControl("delete", "configmap/tulle-trust-bundle")),
			says: map[string]string{"trust-bundle": "ConfigMap tulle/tulle-trust-bundle does not exist"}, hint: plain,
		},
		{
			name: "the webhook's certificate is gone", breaks: then(off("injector"), inControl("delete", "secret/tulle-injector-tls")),
			says: map[string]string{"webhook-certificate": "Secret tulle/tulle-injector-tls does not exist"}, hint: plain,
		},
		{
			name: "the webhook's CA is another's", breaks: foreignCA,
			says: map[string]string{
				"webhook-certificate": "the CA bundle does not verify the injector's certificate", "objects": "clusterrolebinding/tulle-injector does not exist",
			}, hint: plain,
		},
	}
}

func breaksOfInjection() []breakage {
	return []breakage{
		{
			name: "the injector is away", breaks: then(off("injector"), inTest("annotate", "namespace", "$NS", "tulle.dev/inject=enabled")),
			says: map[string]string{
				"webhook": "was admitted without a proxy", "namespace-labels": "has the annotation tulle.dev/inject: enabled and not the label",
			}, hint: plain + ": deployment tulle/tulle-injector is scaled to 0", mends: func(e, _ *env) { e.typed(plain) },
		},
		{
			name: "a setting cannot be", breaks: inTest("annotate", "namespace", "$NS", "config.tulle.dev/log-level=loud"),
			says: map[string]string{"annotations": `annotation config.tulle.dev/log-level="loud": want debug, info, warn or error`}, hint: "docs/injection.md lists every setting",
			mends: inTest("annotate", "namespace", "$NS", "config.tulle.dev/log-level-"),
		},
		{
			name: "pods came before the wish for a proxy", breaks: func(e, control *env) {
				e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject-")
				e.until(func(context.Context) error { return e.labelled("") })
				e.apply(pair)
				e.rollout("deployment/server", "deployment/client")
				e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
				e.until(func(context.Context) error { return e.labelled("enabled") })
			},
			says: map[string]string{"unmeshed": "/client: created before a proxy was asked for"}, hint: "rollout restart deploy/NAME",
			mends: func(e, _ *env) {
				e.kubectl("rollout", "restart", "deploy/server", "deploy/client")
				e.rollout("deployment/server", "deployment/client")
			},
		},
		{
			name: "Pod Security admits no proxy", breaks: inTest("label", "namespace", "$NS", "pod-security.kubernetes.io/enforce=baseline"),
			says: map[string]string{"pod-security": `enforces Pod Security "baseline"`}, hint: "kubectl label namespace NAMESPACE pod-security.kubernetes.io/enforce=privileged --overwrite",
			mends: inTest("label", "namespace", "$NS", "pod-security.kubernetes.io/enforce=privileged", "--overwrite"),
		},
		{
			name: "a Service speaks what nobody knows", breaks: inTest("patch", "service/server", "--patch", `{"spec":{"ports":[{"port":80,"appProtocol":"gopher"}]}}`),
			says: map[string]string{"app-protocol": `/server: port 80 has appProtocol "gopher", which is not known`}, hint: "or none: then it is detected",
			mends: inTest("patch", "service/server", "--patch", `{"spec":{"ports":[{"port":80,"appProtocol":null}]}}`),
		},
	}
}

func breaksOfProxies() []breakage {
	asked := []string{"--proxy", "-n", "$NS"}
	return []breakage{
		{
			name: "nobody tells the proxies", flags: asked, breaks: off("destination"),
			says: map[string]string{"proxies-connected": "it has no stream to the destination service"},
			hint: plain + ": deployment tulle/tulle-destination is scaled to 0", mends: func(e, _ *env) { e.typed(plain) },
		},
		{
			name: "nobody certifies a new proxy", flags: asked, breaks: then(off("identity"), func(e, _ *env) { e.apply(cutOff) }),
			says: map[string]string{"proxies-ready": "/cut-off: the proxy is not ready", "proxies-certified": "/cut-off: it has no certificate"},
			hint: plain + ": deployment tulle/tulle-identity is scaled to 0", mends: func(e, _ *env) { e.typed(plain) },
		},
		{
			name: "a proxy is of an old version", flags: asked, breaks: func(e, _ *env) {
				for pod := range e.pods("app=client") {
					e.kubectl("patch", "pod/"+pod, "--patch", `{"spec":{"initContainers":[{"name":"tulle-proxy","image":"ghcr.io/tulle-mesh/tulle-proxy:0.0.9"}]}}`)
				}
			},
			says: map[string]string{"proxies-version": "/client: proxy 0.0.9, control plane"}, hint: "kubectl -n NAMESPACE rollout restart deploy/NAME",
			mends: func(e, _ *env) {
				e.kubectl("rollout", "restart", "deploy/client")
				e.rollout("deployment/client")
			},
		},
		{
			name: "a port's server speaks first", flags: asked, breaks: func(e, _ *env) {
				e.apply(greeter)
				e.rollout("deployment/greeter")
				e.greeted()
			},
			says: map[string]string{"opaque-ports": "/greeter: port 2525 speaks no HTTP"}, hint: "config.tulle.dev/opaque-ports",
			mends: func(e, _ *env) {
				e.kubectl("patch", "deployment/greeter", "--patch", `{"spec":{"template":{"metadata":{"annotations":{"config.tulle.dev/opaque-ports":"2525"}}}}}`)
				e.rollout("deployment/greeter")
				e.greeted()
			},
		},
	}
}

// greeter greets who connects, once each.
const greeter = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: greeter}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: greeter}}
  template:
    metadata: {labels: {app: greeter}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: greeter, image: "tulle.test/tools:1", command: [/bin/busybox, sh, -c, "while :; do echo welcome | /bin/busybox nc -l -p 2525; done"]}]
---
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec: {selector: {app: greeter}, ports: [{port: 2525}]}
`

// greeted waits until the client is greeted.
func (e *env) greeted() {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		out, err := e.Kubectl(ctx, "--namespace="+e.namespace, "exec", "deploy/client", "--container=client", "--",
			"/bin/busybox", "sh", "-c", "/bin/busybox sleep 1 | /bin/busybox nc greeter 2525")
		if err == nil && !strings.Contains(out, "welcome") {
			err = fmt.Errorf("the greeter said %q", out)
		}
		return err
	})
}

// labelled is nil when the namespace's label is what the injector should have made of the annotation.
func (e *env) labelled(want string) error {
	if got := e.field("namespace/"+e.namespace, `{.metadata.labels.tulle\.dev/inject}`); got != want {
		return fmt.Errorf("the label is %q, want %q", got, want)
	}
	return nil
}

// foreignCA writes another authority into the webhook; without the right to, the injector cannot mend it.
func foreignCA(e, control *env) {
	e.kubectl("delete", "clusterrolebinding/tulle-injector")
	other := base64.StdEncoding.EncodeToString([]byte(control.field("configmap/kube-root-ca.crt", `{.data.ca\.crt}`)))
	e.kubectl("patch", "mutatingwebhookconfiguration/tulle-injector", "--type=json", "--patch",
		fmt.Sprintf(`[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":%q}]`, other))
}

// TestADeletedRootIsRestored: of the two Secrets of the authority the root alone is deleted, and the same one comes back.
func TestADeletedRootIsRestored(t *testing.T) {
	long(t)
	e := setup(t)
	e.mesh()
	control := e.in(t, "tulle")
	root := control.field("secret/tulle-identity-root", `{.data.tls\.crt}`)
	control.kubectl("delete", "secret/tulle-identity-root")
	e.until(func(ctx context.Context) error {
		now, err := e.Kubectl(ctx, "--namespace=tulle", "get", "secret/tulle-identity-root", `--output=jsonpath={.data.tls\.crt}`)
		if err == nil && now != root {
			t.Errorf("another root was made, which no proxy knows")
		}
		return err
	})
	e.mustTulle("check", "--wait", "60s", "--only", "root,issuer,trust-bundle")
}
