package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestClusterCarriesPlaintext is what every other test is compared with: without a mesh, names resolve,
// pods answer, and the capture sees what they say, across nodes and on one.
func TestClusterCarriesPlaintext(t *testing.T) {
	e := setup(t)
	e.apply(plainPods)
	e.rollout("pod/server-1", "pod/server-2", "pod/client")
	across, beside := "marker-across-nodes", "marker-on-one-node"
	c := e.capture(across, beside)
	for server, marker := range map[string]string{"server-2": across, "server-1": beside} {
		url := fmt.Sprintf("http://%s.%s.svc.cluster.local/%s", server, e.namespace, marker)
		if got := e.ask("client", "client", url); got != server {
			t.Errorf("%s answered %q", url, got)
		}
	}
	c.all()
	for _, server := range []string{"server-1", "server-2"} {
		ip := e.field("service/"+server, "{.spec.clusterIP}")
		if got := strings.TrimSpace(e.get("http://" + net.JoinHostPort(ip, "80") + "/")); got != server {
			t.Errorf("from the host, %s answered %q", server, got)
		}
	}
}

const plainPods = `
apiVersion: v1
kind: Pod
metadata: {name: server-1, labels: {app: server-1}}
spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: server, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server-2, labels: {app: server-2}}
spec: {nodeName: n2, terminationGracePeriodSeconds: 0, containers: [{name: server, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: client, image: "tulle.test/tools:1", args: [sleep]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server-1}
spec: {selector: {app: server-1}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: server-2}
spec: {selector: {app: server-2}, ports: [{port: 80, targetPort: 8080}]}
`

// TestImagesRun starts each of Tulle's images under the restricted Pod Security level, which their charts
// promise, and has it say its version.
func TestImagesRun(t *testing.T) {
	e := setup(t)
	e.kubectl("label", "namespace", e.namespace, "pod-security.kubernetes.io/enforce=restricted")
	names := []string{"tulle-proxy", "tulle-controller", "tulle-shop"}
	for _, name := range names {
		e.apply(strings.ReplaceAll(versionJob, "NAME", name))
	}
	for _, name := range names {
		e.rollout("job/" + name)
		if got := e.log("job/"+name, name); !strings.Contains(got, e.version) {
			t.Errorf("%s says it is %q, not %q", name, got, e.version)
		}
	}
}

const versionJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: NAME}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: NAME
          image: ghcr.io/tulle-mesh/NAME:$VERSION
          imagePullPolicy: Never
          args: [version]
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`
