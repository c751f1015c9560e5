package e2e

import (
	"fmt"
	"net"
	"testing"
)

// TestInitRedirectsAPod stands a program that tells original destinations where the proxy would be: all that the
// application dials, and all that is dialled in the pod, arrives there and is told apart (R13.3).
func TestInitRedirectsAPod(t *testing.T) {
	e := setup(t)
	e.apply(redirectedPod)
	e.rollout("pod/redirected", "pod/outside")
	var ips [2]string
	if n, err := fmt.Sscan(e.field("pod/redirected", "{.status.podIPs[*].ip}"), &ips[0], &ips[1]); err != nil || n != 2 {
		t.Fatalf("the pod has not an address of each family: %v", ips)
	}
	for _, c := range []struct{ from, to string }{
		{"redirected", "192.0.2.7:7777"},
		{"redirected", "[2001:db8::7]:7777"},
		{"outside", net.JoinHostPort(ips[0], "8080")},
		{"outside", net.JoinHostPort(ips[1], "8080")},
	} {
		if got := e.exec(c.from, "app", "/app", "get", "http://"+c.to+"/"); got != "200\n"+c.to {
			t.Errorf("%s dialled %s, and the other side says %q", c.from, c.to, got)
		}
	}
	// The proxy's own connections go out as they are, and a port that is skipped comes in as it is.
	if got := e.exec("redirected", "outbound", "/app", "get", "http://127.0.0.1:9999/"); got != "200\nredirected" {
		t.Errorf("the proxy's user dialled the application, which says %q", got)
	}
	if got := e.exec("outside", "app", "/app", "get", "http://"+net.JoinHostPort(ips[0], "9999")+"/"); got != "200\nredirected" {
		t.Errorf("a skipped port says %q", got)
	}
}

const redirectedPod = `
apiVersion: v1
kind: Pod
metadata: {name: redirected}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
    - name: tulle-init
      image: ghcr.io/tulle-mesh/tulle-proxy:$VERSION
      imagePullPolicy: Never
      command: [/tulle-init, -skip-inbound-ports=9999]
      securityContext: {runAsUser: 0, runAsNonRoot: false, capabilities: {drop: [ALL], add: [NET_ADMIN]}}
    - name: outbound
      image: tulle.test/tools:1
      args: [original, ":4140"]
      restartPolicy: Always
      securityContext: {runAsUser: 2102}
    - name: inbound
      image: tulle.test/tools:1
      args: [original, ":4143"]
      restartPolicy: Always
      securityContext: {runAsUser: 2102}
  containers:
    - name: app
      image: tulle.test/tools:1
      args: [serve, ":9999"]
      readinessProbe: {periodSeconds: 1, tcpSocket: {port: 9999}}
---
apiVersion: v1
kind: Pod
metadata: {name: outside}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]
`
