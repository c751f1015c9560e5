package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/debian"
)

// servers differ in how they end. None has a preStop of its own.
var servers = []struct{ name, container, listens string }{
	{"nginx", `image: "tulle.test/nginx:1", command: [/usr/sbin/nginx, -c, /etc/load/nginx.conf], volumeMounts: [{name: config, mountPath: /etc/load}]`, "h1 h2"},
	{"at-once", `image: "` + loadRef + `", args: [serve, at-once]`, "h1 h2 grpc"},
	{"gracefully", `image: "` + loadRef + `", args: [serve, gracefully]`, "h1 h2 grpc"},
}

// serverYAML is one of them. How it ends at SIGTERM is its own affair; nginx's way is "fast". It asks for CPU so that it
// has its share of a machine that does other things too.
const serverYAML = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, labels: {app: NAME, load: server}}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}, annotations: {config.tulle.dev/cpu-request: 50m}}
    spec:
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: NAME}}, matchLabelKeys: [pod-template-hash]}
      containers: [{name: server, CONTAINER, resources: {requests: {cpu: 50m}}, readinessProbe: {periodSeconds: 1, timeoutSeconds: 10, httpGet: {path: /, port: 8080}}}]
      volumes: [{name: config, configMap: {name: nginx, optional: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{name: a, port: 8080}, {name: b, port: 8081}, {name: c, port: 9090}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: NAME}
spec: {minAvailable: 1, selector: {matchLabels: {app: NAME}}}
---
`

// nginxConfig leaves everything as Debian and nginx have it, but for what a request is answered with.
const nginxConfig = `
apiVersion: v1
kind: ConfigMap
metadata: {name: nginx}
data:
  nginx.conf: |
    daemon off;
    worker_processes 1;
    pid /tmp/nginx.pid;
    error_log stderr warn;
    events { worker_connections 768; }
    http {
      map $http_x_request_id $named { "" 0; default 1; }
      log_format id 'got $http_x_request_id';
      access_log /dev/stdout id if=$named;
      server { listen 8080; location / { return 200 $http_x_request_id; } }
      server { listen 8081 http2; location / { return 200 $http_x_request_id; } }
    }
---
`

// clientYAML ends only when all answers are there.
const clientYAML = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, labels: {load: client}}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}, annotations: {config.tulle.dev/cpu-request: 50m}}
    spec:
      terminationGracePeriodSeconds: 90
      containers: [{name: client, image: "tulle.test/load:1", args: [send, -rate, "200", URLS], resources: {requests: {cpu: 50m}}}]
---
`

// urls are all ways to ask one of the servers.
func urls(server, listens string) string {
	var out []string
	for scheme := range strings.FieldsSeq(listens) {
		port := map[string]int{"h1": 8080, "h2": 8081, "grpc": 9090}[scheme]
		out = append(out, fmt.Sprintf("%q", fmt.Sprintf("%s://%s:%d", scheme, server, port)))
	}
	return strings.Join(out, ", ")
}

// traffic is a run: servers, clients, and what both wrote.
type traffic struct {
	*env
	*journals
	stop  func()
	steps []step
}

// traffic starts servers, all or those that are named, and a client that asks them in turn.
func (e *env) traffic(names ...string) *traffic {
	e.t.Helper()
	e.loadImage()
	var all strings.Builder
	var asked []string
	for _, s := range servers {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if s.name == "nginx" {
			e.debian(debian.Nginx)
			all.WriteString(nginxConfig)
		}
		all.WriteString(strings.NewReplacer("NAME", s.name, "CONTAINER", s.container).Replace(serverYAML))
		asked = append(asked, urls(s.name, s.listens))
	}
	t := &traffic{env: e}
	t.journals, t.stop = e.follow()
	e.t.Cleanup(t.stop)
	e.apply(all.String())
	e.ready("load=server")
	e.apply(strings.ReplaceAll(clientYAML, "URLS", strings.Join(asked, ", ")))
	e.ready("load=client")
	return t
}

// ready waits for the Deployments that a selector matches.
func (e *env) ready(selector string) {
	e.t.Helper()
	e.rollout(strings.Fields(e.kubectl("get", "deployments", "--selector="+selector, "--output=name"))...)
}

// restart does what kubectl rollout restart does, to its end.
func (e *env) restart(selector string) {
	e.t.Helper()
	e.kubectl("rollout", "restart", "deployment", "--selector="+selector)
	e.ready(selector)
}

// scale changes the number of replicas, and waits until there are as many, no less and no more.
func (e *env) scale(selector string, replicas int) {
	e.t.Helper()
	e.kubectl("scale", "deployment", "--selector="+selector, fmt.Sprintf("--replicas=%d", replicas))
	e.ready(selector)
	e.settled()
}

// settled waits until no pod of the namespace is on its way out.
func (e *env) settled() {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		out, err := e.Kubectl(ctx, "--namespace="+e.namespace, "get", "pods", "--output=jsonpath={.items[*].metadata.deletionTimestamp}")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("pods that end since %s", out)
		}
		return err
	})
}

// during is a step of the run.
func (t *traffic) during(name string, do func()) {
	t.t.Helper()
	begun := time.Now()
	do()
	t.settled()
	t.steps = append(t.steps, step{name, begun, time.Now()})
}

// end ends the clients, which end what they began, and judges.
func (t *traffic) end() verdict {
	t.t.Helper()
	// In the foreground: else the pods are told to end a moment after the Deployment is gone.
	t.kubectl("delete", "deployment", "--selector=load=client", "--cascade=foreground")
	t.settled()
	t.stop()
	return t.judge()
}

// want fails the test for every request that failed, was lost or doubled.
func (t *traffic) want(v verdict, least int) {
	t.t.Helper()
	v.report(t.t, t.steps)
	if len(v.sent) < least {
		t.t.Errorf("only %d requests were sent", len(v.sent))
	}
	if t.t.Failed() {
		t.around(t.t, v)
		t.save(t.t)
	}
}

// TestRestartsLoseNothing: R11.2, R13.2, R7.1, R4.3. Open-loop traffic of every kind to servers that end in every
// way; nobody retries but the mesh. Nothing fails and nothing is done twice while everything is restarted.
func TestRestartsLoseNothing(t *testing.T) {
	e := setup(t)
	e.mesh()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	x := e.traffic()
	x.round("", "at-once")
	x.want(x.end(), 2000)
}

// TestLongRestartsLoseNothing is the same for every server, with a node that is drained, three times in a row.
func TestLongRestartsLoseNothing(t *testing.T) {
	long(t)
	e := setup(t)
	e.mesh()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	x := e.traffic()
	for n := range 3 {
		round := fmt.Sprintf("%d: ", n+1)
		x.round(round, "nginx", "at-once", "gracefully")
		x.during(round+"the control plane grows", func() { x.replicas(2) })
		x.during(round+"a node is drained", x.drain)
		x.during(round+"the control plane shrinks", func() { x.replicas(1) })
	}
	x.want(x.end(), 20000)
}

// round restarts everything, and scales those of the servers that are named.
func (t *traffic) round(prefix string, scaled ...string) {
	t.t.Helper()
	t.during(prefix+"servers restart", func() { t.restart("load=server") })
	t.during(prefix+"clients restart", func() { t.restart("load=client") })
	t.during(prefix+"the control plane restarts", t.restartControlPlane)
	for _, name := range scaled {
		t.during(prefix+name+" 1, 10, 2", func() {
			for _, n := range []int{1, 10, 2} {
				t.scale("app="+name, n)
			}
		})
	}
}

// drain drains the node without the test bed's DNS; what was there starts on the other one. The control plane has two
// replicas meanwhile, one to a node.
func (t *traffic) drain() {
	t.t.Helper()
	t.kubectl("drain", "n2", "--ignore-daemonsets", "--timeout=100s")
	defer t.kubectl("uncordon", "n2")
	t.ready("load=server")
	t.ready("load=client")
	t.in(t.t, "tulle").rollout(controlPlane...)
}

// replicas gives every service of the control plane as many.
func (t *traffic) replicas(n int) {
	t.t.Helper()
	plane := t.in(t.t, "tulle")
	plane.kubectl(append([]string{"scale", fmt.Sprintf("--replicas=%d", n)}, controlPlane...)...)
	plane.rollout(controlPlane...)
	plane.settled()
}

var controlPlane = []string{"deployment/tulle-identity", "deployment/tulle-destination", "deployment/tulle-injector"}

func (t *traffic) restartControlPlane() {
	t.t.Helper()
	plane := t.in(t.t, "tulle")
	plane.kubectl("rollout", "restart", "deployment")
	plane.rollout(controlPlane...)
	plane.settled()
}

// TestRestartsLoseRequestsWithoutTheMesh is the same judge and the same servers, and nobody between them: it tells
// that requests are lost.
func TestRestartsLoseRequestsWithoutTheMesh(t *testing.T) {
	e := setup(t)
	t.Parallel()
	x := e.traffic("at-once")
	x.during("servers restart", func() { x.restart("load=server") })
	v := x.end()
	t.Logf("without the mesh: %s", v.between(time.Time{}, time.Now()))
	if len(v.failed) == 0 {
		t.Error("no request failed: the run with the mesh proves nothing")
	}
	for _, w := range v.wrong {
		t.Error(w)
	}
}

// TestLongNodeKilledUnderTraffic: R1.1, R6.4, R7.1. What a node's sudden end costs a client elsewhere: what is on its way
// to it cannot be saved, and fails when the proxy holds the connection for dead, after two PING intervals of 10 s. The
// proxy must soon choose others, and do nothing twice.
func TestLongNodeKilledUnderTraffic(t *testing.T) {
	long(t)
	e := setup(t)
	e.mesh()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	e.kubectl("cordon", "n2")
	t.Cleanup(func() { _, _ = e.Kubectl(context.WithoutCancel(t.Context()), "uncordon", "n2") })
	x := e.traffic()
	x.restartControlPlane() // it stays, and so does the client
	e.kubectl("uncordon", "n2")
	x.during("servers spread over both nodes", func() { x.restart("load=server") })
	n := e.Node("n2")
	var killed time.Time
	x.during("a node is killed", func() {
		killed = time.Now()
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
	})
	x.during("it comes back", func() {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		e.until(n.Ready)
		x.ready("load=server")
	})
	v := x.end()
	t.Logf("the node's end: %s", v.since(killed))
	v.failed = slices.DeleteFunc(v.failed, func(r request) bool {
		return r.left.After(killed.Add(-5*time.Second)) && r.left.Before(killed.Add(30*time.Second))
	})
	v.lost = slices.DeleteFunc(v.lost, func(r request) bool { // answered, and the journal was still on its way to the disk
		return r.left.After(killed.Add(-5*time.Second)) && r.left.Before(killed)
	})
	x.want(v, 10000)
}
