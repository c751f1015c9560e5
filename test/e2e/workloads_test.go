package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestWorkloads puts what Kubernetes runs besides Deployments into the mesh.
func TestWorkloads(t *testing.T) {
	e := setup(t)
	e.mesh()
	t.Parallel()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	e.apply(workloads)
	e.rollout("statefulset/web", "pod/client", "pod/self", "pod/near", "pod/host")
	for _, s := range []struct {
		name string
		run  func(*env)
	}{
		{"a StatefulSet's pods by name and by address are mutual TLS", statefulSet},
		{"a headless Service's name is mutual TLS", headless},
		{"a pod reaches its own Service, and itself", itself},
		{"what listens on localhost stays out of reach, what listens on the pod's address is reached", onLocalhost},
		{"hostNetwork is left alone, with a reason", onHostNetwork},
		{"a client of a Service with affinity stays with one endpoint", affinity},
		{"a Job completes, and its init container is in the mesh", job},
		{"a CronJob's Job completes", cronJob},
		{"without native sidecars a Job ends its proxy, and init containers are told of", ordinaryJob},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(e.in(t, e.namespace)) })
	}
}

// from asks url from a container, which has the identity of the namespace's default account, and wants the body.
func (e *env) from(pod, url, want string) {
	e.t.Helper()
	if got := e.ask(pod, "app", url); got != want {
		e.t.Errorf("from %s, %s answered %q, not %q", pod, url, got, want)
	}
}

// meshedFrom waits until the proxy of a pod has counted a request of the default account's over mutual TLS.
func (e *env) meshedFrom(selector string, more ...string) {
	e.t.Helper()
	e.counted(selector, append([]string{"request_total{", `direction="inbound"`, `tls="true"`, e.id("client_id", "default")}, more...)...)
}

func (e *env) id(label, account string) string {
	return fmt.Sprintf("%s=%q", label, "spiffe://cluster.local/ns/"+e.namespace+"/sa/"+account)
}

func statefulSet(e *env) {
	byName, byAddress := "marker-by-the-pods-name", "marker-by-its-address"
	c := e.capture(byName, byAddress)
	e.from("client", fmt.Sprintf("http://web-0.web.%s.svc.cluster.local:8080/%s", e.namespace, byName), "web-0")
	ip := e.field("pod/web-1", "{.status.podIP}")
	e.from("client", "http://"+net.JoinHostPort(ip, "8080")+"/"+byAddress, "web-1")
	c.none()
	for _, pod := range []string{"web-0", "web-1"} {
		e.meshedFrom("statefulset.kubernetes.io/pod-name="+pod, e.id("server_id", "web"))
	}
	e.counted("app=client", "request_total{", `direction="outbound"`, `tls="true"`, e.id("server_id", "web"))
}

// headless asks by the Service's name, which leads to the pods' addresses at the port that they listen on.
func headless(e *env) {
	marker := "marker-by-the-headless-name"
	c := e.capture(marker)
	if got := e.ask("client", "app", "http://web:8080/"+marker); got != "web-0" && got != "web-1" {
		e.t.Errorf("the headless Service answered %q", got)
	}
	c.none()
}

// itself: a pod's own Service (of another name: /etc/hosts has the pod's) has one endpoint, the pod (R1.4, R5.6), whose policy lets nobody in who has no
// identity: it is itself who asks.
func itself(e *env) {
	ip := e.field("pod/self", "{.status.podIP}")
	for _, to := range []string{"own", net.JoinHostPort(ip, "8080"), "127.0.0.1:8080"} {
		e.from("self", "http://"+to+"/", "self")
	}
	e.counted("app=self", "request_total{", `direction="outbound"`, `tls="false"`, `no_tls_reason="loopback"`)
	e.plainly(net.JoinHostPort(ip, "8080"), "all-authenticated", 403) // somebody else
}

// onLocalhost: the proxy dials what was dialled, the pod's address, and never 127.0.0.1 (R1.3).
func onLocalhost(e *env) {
	ip := e.field("pod/near", "{.status.podIP}")
	for _, to := range []string{"near:8080", net.JoinHostPort(ip, "8080")} {
		if got := e.exec("client", "app", "/app", "get", "http://"+to+"/"); !strings.HasPrefix(got, "502") {
			e.t.Errorf("what listens on localhost alone, asked at %s from the mesh, says %q", to, got)
		}
	}
	if text, status, err := fetch(e.t.Context(), "http://"+net.JoinHostPort(ip, "8080")+"/"); err == nil && status < 500 {
		e.t.Errorf("what listens on localhost alone, asked from outside, says %d %q", status, text)
	}
	if got := e.exec("near", "app", "/app", "get", "http://127.0.0.1:8080/"); got != "200\nnear" {
		e.t.Errorf("asked from its own pod it says %q", got)
	}
	e.from("client", "http://near:8081/", "near")
	e.meshedFrom("app=near")
}

func onHostNetwork(e *env) {
	if got := e.field("pod/host", "{.spec.initContainers[*].name} {.spec.containers[*].name}"); strings.TrimSpace(got) != "app" {
		e.t.Errorf("the pod has containers %q", got)
	}
	e.event("InjectionSkipped", e.namespace+"/host: skipped", "it uses the node's network (hostNetwork)")
	if got := e.mustTulle("explain", "pod/host", "--namespace", e.namespace); !strings.Contains(got, "hostNetwork") {
		e.t.Errorf("tulle explain says no word of it:\n%s", got)
	}
}

// event waits for an event with a reason whose message has these words.
func (e *env) event(reason string, words ...string) {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		out, err := e.Kubectl(ctx, "--namespace="+e.namespace, "get", "events", "--field-selector=reason="+reason,
			"--output=jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name}: {.message}{\"\\n\"}{end}")
		if err == nil && !hasLine(strings.ToLower(out), lower(words)) {
			err = fmt.Errorf("no event %s with %q:\n%s", reason, words, out)
		}
		return err
	})
}

func lower(words []string) []string {
	all := slices.Clone(words)
	for i := range all {
		all[i] = strings.ToLower(all[i])
	}
	return all
}

// affinity asks often enough that chance would have found the other endpoint (2^-19).
func affinity(e *env) {
	first := e.ask("client", "app", "http://sticky/")
	got := e.exec("client", "app", "/bin/busybox", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do /app get http://sticky/; done")
	if want := strings.TrimSpace(strings.Repeat("200\n"+first+"\n", 19)); got != want {
		e.t.Errorf("after %s, it was answered\n%s", first, got)
	}
}

func job(e *env) {
	e.apply(strings.NewReplacer("NAME", "native", "MORE", "").Replace(jobs))
	e.rollout("job/native")
	for _, container := range []string{"early", "app"} {
		if got := e.log("job/native", container); !strings.HasPrefix(got, "200\n") {
			e.t.Errorf("container %s was answered %q", container, got)
		}
	}
	e.counted("app=web", "request_total{", `direction="inbound"`, `tls="true"`, e.id("client_id", "worker"))
	if got := e.field("job/native", "{.status.failed}"); got != "" && got != "0" {
		e.t.Errorf("%s pods of the Job failed", got)
	}
}

func cronJob(e *env) {
	e.apply(cron)
	e.kubectl("create", "job", "now", "--from=cronjob/nightly")
	e.rollout("job/now")
	if got := e.field("pods", "{.items[?(@.metadata.labels.job-name=='now')].metadata.labels.tulle\\.dev/proxy}"); got != "true" {
		e.t.Errorf("its pod has the label tulle.dev/proxy=%q", got)
	}
}

// ordinaryJob: the proxy as an ordinary container does not end by itself; the Job asks it to (R11.3).
func ordinaryJob(e *env) {
	e.apply(strings.NewReplacer("NAME", "ordinary",
		"MORE", "config.tulle.dev/native-sidecar: disabled, config.tulle.dev/shutdown: enabled").Replace(jobs))
	e.rollout("job/ordinary")
	for _, container := range []string{"early", "app"} {
		if got := e.log("job/ordinary", container); !strings.HasPrefix(got, "200\n") {
			e.t.Errorf("container %s was answered %q", container, got)
		}
	}
	e.event("InjectionNotice", "init container early runs before the proxy, outside of the mesh")
}

const workloads = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: worker}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {sessionAffinity: ClientIP, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, httpGet: {port: 8080}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]
---
apiVersion: v1
kind: Service
metadata: {name: own}
spec: {selector: {app: self}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: self, labels: {app: self}, annotations: {config.tulle.dev/default-inbound-policy: all-authenticated}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "tulle.test/tools:1", args: [serve, ":8080"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}}]
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {selector: {app: near}, ports: [{name: localhost, port: 8080}, {name: address, port: 8081}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: near}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: "tulle.test/tools:1", args: [serve, "127.0.0.1:8080"]}
    - name: address
      image: tulle.test/tools:1
      env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
      args: [serve, "$(POD_IP):8081"]
      readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8081}}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "tulle.test/tools:1", args: [sleep]}]
`

// jobs are of a Job whose init container asks, too. It ends its proxy where that does not end by itself.
const jobs = `
apiVersion: batch/v1
kind: Job
metadata: {name: NAME}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {MORE}}
    spec:
      serviceAccountName: worker
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      initContainers: [{name: early, image: "tulle.test/tools:1", args: [get, "http://web.$NS.svc.cluster.local:8080/early"]}]
      containers:
        - name: app
          image: tulle.test/tools:1
          command:
            - /bin/busybox
            - sh
            - -c
            - "/app get http://web.$NS.svc.cluster.local:8080/ && { /bin/busybox wget -q -O - --header 'Tulle-Shutdown: yes' --post-data x http://127.0.0.1:4191/shutdown || true; }"
`

const cron = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 1
          containers: [{name: app, image: "tulle.test/tools:1", args: [get, "http://web.$NS.svc.cluster.local:8080/"]}]
`
