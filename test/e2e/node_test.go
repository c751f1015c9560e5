package e2e

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// TestLongNodeWithoutPower measures, without a mesh, how long a Service sends to a node that was killed: what
// Kubernetes alone gives, for meshed tests to be compared with.
func TestLongNodeWithoutPower(t *testing.T) {
	long(t)
	e := setup(t)
	e.apply(spread)
	e.rollout("deployment/spread")
	url := "http://" + net.JoinHostPort(e.field("service/spread", "{.spec.clusterIP}"), "80") + "/"
	e.get(url)
	n := e.Node("n2")
	killed := time.Now()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	failed, lastFailure := 0, killed
	for time.Since(lastFailure) < 30*time.Second && time.Since(killed) < 3*time.Minute {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		if _, _, err := fetch(ctx, url); err != nil {
			failed++
			lastFailure = time.Now()
		}
		<-ctx.Done() // one request a second
		stop()
	}
	t.Logf("%d requests failed, the last %.0f s after the node's end", failed, lastFailure.Sub(killed).Seconds())
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	e.until(n.Ready)
	e.rollout("deployment/spread")
	e.until(func(context.Context) error {
		if ready := e.field("deployment/spread", "{.status.readyReplicas}"); ready != "2" {
			return fmt.Errorf("%s replicas are ready", ready)
		}
		return nil
	})
	t.Logf("both replicas ready %.0f s after the node's end", time.Since(killed).Seconds())
}

const spread = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 2
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: spread}}}
      containers: [{name: server, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}}]
---
apiVersion: v1
kind: Service
metadata: {name: spread}
spec: {selector: {app: spread}, ports: [{port: 80, targetPort: 8080}]}
`
