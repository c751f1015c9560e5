package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestInjectOnTheCommandLine puts workloads into the mesh without touching their namespace:
// kubectl get -o yaml | tulle inject - | kubectl apply -f -, and out of it again.
func TestInjectOnTheCommandLine(t *testing.T) {
	e := setup(t)
	e.mesh()
	e.apply(pair)
	e.rollout("deployment/server", "deployment/client")
	e.pipe("inject", "-")
	e.rollout("deployment/server", "deployment/client")
	e.until(func(ctx context.Context) error { return e.allMeshed(ctx, true) })

	c := e.capture("marker-injected-by-hand")
	e.ask("deployment/client", "client", "http://server/marker-injected-by-hand")
	c.none()
	e.counted("app=server", "request_total{", `direction="inbound"`, `tls="true"`,
		fmt.Sprintf(`client_id="spiffe://cluster.local/ns/%s/sa/default"`, e.namespace))

	e.pipe("uninject", "-")
	e.rollout("deployment/server", "deployment/client")
	e.until(func(ctx context.Context) error { return e.allMeshed(ctx, false) })
	e.ask("deployment/client", "client", "http://server/")
}

// pipe has tulle change the namespace's Deployments.
func (e *env) pipe(args ...string) {
	e.t.Helper()
	s := e.runTulle(e.kubectl("get", "deployments", "--output=yaml"), args...)
	if s.status != 0 {
		e.t.Fatalf("tulle %s: exit status %d\n%s", strings.Join(args, " "), s.status, s.stderr)
	}
	e.apply(s.stdout)
}

// allMeshed is nil when every pod of the namespace has a proxy, or none has.
func (e *env) allMeshed(ctx context.Context, want bool) error {
	pods, err := e.living(ctx)
	for _, p := range pods {
		if meshed(p) != want {
			return fmt.Errorf("pod %s: has a proxy and is ready with it: %t: %+v", p.Metadata.Name, !want, p.Status)
		}
	}
	return err
}

// deploymentYAML is one pod on a node, labelled app: name.
func deploymentYAML(name, node, container string) string {
	return strings.NewReplacer("NAME", name, "NODE", node, "CONTAINER", container).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {nodeName: NODE, terminationGracePeriodSeconds: 1, containers: [CONTAINER]}
---
`)
}

// serviceYAML is in front of the pods that are labelled app: name.
func serviceYAML(name string) string {
	return strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{port: 80, targetPort: 8080}]}
---
`, "NAME", name)
}

// pair is a server on one node and a client on the other.
var pair = deploymentYAML("server", "n2", `{name: server, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}}`) +
	deploymentYAML("client", "n1", `{name: client, image: "tulle.test/tools:1", args: [sleep]}`) + serviceYAML("server")
