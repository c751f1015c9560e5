package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNothingIsLeftBehind installs the mesh, puts workloads into it by every way that there is, takes them out
// again and the mesh down. Then the cluster is what it was: every object of every kind, the nodes' files, the nftables
// of nodes and pods.
func TestNothingIsLeftBehind(t *testing.T) {
	e := setup(t)
	if e.installed() {
		e.delete(e.uninstall())
	}
	e.alone()
	e.apply(leaving)
	e.rollout("deployment/by-annotation", "deployment/by-hand", "statefulset/by-hand-whole", "daemonset/by-namespace")
	before := e.cluster()

	e.mesh()
	e.join()
	met := e.cluster()
	for what, want := range map[string]string{
		"objects": "customresourcedefinition", "files": "tulle-identity-token", "nftables": "table inet tulle",
	} { // what would be overlooked here would be overlooked at the end
		if lines := diff(before[what], met[what]); !strings.Contains(strings.ToLower(strings.Join(lines, "\n")), want) {
			t.Errorf("with the mesh, the %s show no %q: %v", what, want, lines)
		}
	}

	e.part()
	e.uninstallCarefully()
	for _, what := range []string{"objects", "files", "nftables"} {
		e.until(func(context.Context) error { // what goes with its owner takes a moment
			if left := diff(before[what], e.look(what)); len(left) > 0 {
				return fmt.Errorf("the %s differ:\n%s", what, strings.Join(left, "\n"))
			}
			return nil
		})
		t.Logf("%s: all %d are as they were", what, len(before[what]))
	}
}

// alone waits until no earlier test's namespace is left: those may have a wish, a bundle, pods that end.
func (e *env) alone() {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		ending, err := e.Kubectl(ctx, "get", "namespaces", `--output=jsonpath={range .items[?(@.status.phase=="Terminating")]}{.metadata.name} {end}`)
		if err == nil && ending != "" {
			err = fmt.Errorf("namespaces %s are still there", ending)
		}
		return err
	})
}

// join puts each workload into the mesh in its own way.
func (e *env) join() {
	e.t.Helper()
	e.kubectl("patch", "deployment/by-annotation", "--patch", `{"spec":{"template":{"metadata":{"annotations":{"tulle.dev/inject":"enabled"}}}}}`)
	for _, w := range []struct {
		object string
		args   []string
	}{
		{"deployment/by-hand", []string{"inject", "--config", "log-level=debug", "-"}},
		{"statefulset/by-hand-whole", []string{"inject", "--manual", "-"}},
		{"cronjob/by-hand-whole", []string{"inject", "--manual", "-"}},
	} {
		e.through(w.object, w.args...)
	}
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	e.kubectl("rollout", "restart", "daemonset/by-namespace")
	e.rollout("deployment/by-annotation", "deployment/by-hand", "statefulset/by-hand-whole", "daemonset/by-namespace")
	e.until(func(ctx context.Context) error { return e.allMeshed(ctx, true) })
	e.ask("deployment/by-hand", "app", "http://by-annotation/")
	e.counted("app=by-annotation", "request_total{", `direction="inbound"`, `tls="true"`)
}

// part takes all of it back, with what the user guides say.
func (e *env) part() {
	e.t.Helper()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject-")
	e.kubectl("patch", "deployment/by-annotation", "--patch", `{"spec":{"template":{"metadata":{"annotations":{"tulle.dev/inject":null}}}}}`)
	for _, object := range []string{"deployment/by-hand", "statefulset/by-hand-whole", "cronjob/by-hand-whole"} {
		e.through(object, "uninject", "-")
	}
	e.kubectl("rollout", "restart", "daemonset/by-namespace")
	e.rollout("deployment/by-annotation", "deployment/by-hand", "statefulset/by-hand-whole", "daemonset/by-namespace")
	e.until(func(ctx context.Context) error { return e.allMeshed(ctx, false) })
}

// uninstallCarefully uninstalls as long as a route is left, and then wholly: a definition that Tulle brought
// goes only when nobody else needs it.
func (e *env) uninstallCarefully() {
	e.t.Helper()
	e.apply(routeOfOthers)
	e.uninstall() // it refuses while pods with proxies end
	s := e.runTulle("", "uninstall")
	if strings.Contains(s.stdout, "httproutes.gateway") || !strings.Contains(s.stdout, "grpcroutes.gateway") {
		e.t.Errorf("a route is left, and its definition alone should stay; exit status %d:\n%s%s", s.status, s.stdout, s.stderr)
	}
	for _, want := range []string{"httproutes.gateway.networking.k8s.io stays", e.namespace + "/of-others"} {
		if !strings.Contains(s.stderr, want) {
			e.t.Errorf("tulle uninstall does not say %q: %s", want, s.stderr)
		}
	}
	e.kubectl("delete", "httproute", "of-others")
	e.delete(e.uninstall())
}

// through has tulle change one object, and applies it.
func (e *env) through(object string, args ...string) {
	e.t.Helper()
	s := e.runTulle(e.kubectl("get", object, "--output=yaml"), args...)
	if s.status != 0 {
		e.t.Fatalf("tulle %s: exit status %d\n%s", strings.Join(args, " "), s.status, s.stderr)
	}
	e.apply(s.stdout)
}

// cluster is all that may be left behind, by what it is.
func (e *env) cluster() map[string]inventory {
	e.t.Helper()
	return map[string]inventory{"objects": e.look("objects"), "files": e.look("files"), "nftables": e.look("nftables")}
}

func (e *env) look(what string) inventory {
	e.t.Helper()
	switch what {
	case "objects":
		return e.objects()
	case "files":
		return e.files()
	}
	return e.nftables()
}

// Parts of a path that are drawn anew for each pod, container or write.
var (
	uid       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	container = regexp.MustCompile(`[0-9a-f]{64}`)
	attempt   = regexp.MustCompile(`/[0-9a-f]{8}$`)
	written   = regexp.MustCompile(`\.\.[0-9]{4}(_[0-9]{2}){5}\.[0-9]+`)
)

// files is what lies on the nodes where anything of a mesh could: what it would write itself, and what kubelet and CNI
// write for pods. Left out are stores of content with a life of their own (images, etcd), and logs and sandboxes of pods,
// which kubelet alone writes and collects once a minute.
func (e *env) files() inventory {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	all := inventory{}
	for _, node := range []string{"n1", "n2"} {
		cmd := e.Node(node).Command(ctx, "sh", "-c", `find /etc /run /var/lib/kubelet /var/lib/cni `+
			`-path /run/tulle -prune -o -path '/run/containerd/io.containerd.*' -prune -o -print; `+
			`for d in /etc/cni /opt /usr/local /usr/libexec; do [ ! -e $d ] || find $d -maxdepth 4; done; `+
			`ls -d /var/lib/*`)
		out, err := cmd.Output()
		if err != nil && len(out) == 0 {
			e.t.Fatal(err)
		}
		pods := e.podNames(node)
		for line := range strings.Lines(string(out)) {
			path := strings.TrimSpace(line)
			for uid, name := range pods {
				path = strings.ReplaceAll(path, uid, name)
			}
			path = uid.ReplaceAllString(path, "UID")
			path = attempt.ReplaceAllString(container.ReplaceAllString(path, "CONTAINER"), "/ATTEMPT")
			path = written.ReplaceAllString(drawn.ReplaceAllString(path, "kube-api-access-"), "..WRITTEN")
			all.add(node + " " + address.ReplaceAllString(path, "ADDRESS"))
		}
	}
	return all
}

// podNames are a node's pods by their UID; a pod is named by its owner.
func (e *env) podNames(node string) map[string]string {
	e.t.Helper()
	var list struct{ Items []item }
	out := e.kubectl("get", "pods", "--all-namespaces", "--field-selector=spec.nodeName="+node, "--output=json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		e.t.Fatal(err)
	}
	names := map[string]string{}
	for _, p := range list.Items {
		names[p.text("metadata", "uid")] = p.text("metadata", "namespace") + "/" + p.text("metadata", "labels", "app")
	}
	return names
}

// What differs in kube-proxy's rules from moment to moment: names that it makes of a Service's or an endpoint's hash,
// counters, and chains that it has emptied, because their Service is gone, and deletes with its next change.
var (
	chain   = regexp.MustCompile(`\b[0-9A-Z]{8}\b`)
	passed  = regexp.MustCompile(`counter packets \d+ bytes \d+`)
	emptied = regexp.MustCompile(`\n*\tchain (service|endpoint)-[^\n]* \{\n\t\}\n`)
)

// nftables is what the kernel holds for the nodes themselves, and for each pod's network.
func (e *env) nftables() inventory {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	all := inventory{}
	for _, node := range []string{"n1", "n2"} {
		out, err := e.Node(node).Command(ctx, "sh", "-c",
			`nft list ruleset; for n in /run/netns/*; do echo "# pod"; nsenter --net=$n nft list ruleset; done`).CombinedOutput()
		if err != nil {
			e.t.Fatalf("%v\n%s", err, out)
		}
		host, pods, _ := strings.Cut(string(out), "# pod\n")
		host = passed.ReplaceAllString(emptied.ReplaceAllString(host, ""), "counter")
		for line := range strings.Lines(host) {
			line = strings.TrimSpace(chain.ReplaceAllString(address.ReplaceAllString(line, "ADDRESS"), "HASH"))
			if line = strings.TrimRight(line, ","); line != "" {
				all.add(node + ": " + line)
			}
		}
		for line := range strings.Lines(pods) {
			all.add(node + ", in a pod: " + strings.TrimSpace(line))
		}
	}
	return all
}

// leaving are workloads of every kind that lasts; without a history, whose templates would be of the mesh.
var leaving = strings.Join(slices.Collect(func(yield func(string) bool) {
	const template = `
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: tulle.test/tools:1
          args: [serve, ":8080"]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: http}}
          livenessProbe: {tcpSocket: {port: 8080}}
          lifecycle: {preStop: {exec: {command: [/bin/busybox, "true"]}}}`
	for _, w := range []struct{ kind, name, more string }{
		{"Deployment", "by-annotation", ""}, {"Deployment", "by-hand", ""},
		{"StatefulSet", "by-hand-whole", "  serviceName: none\n"}, {"DaemonSet", "by-namespace", ""},
	} {
		pinned := template // what is compared is by node
		if w.kind != "DaemonSet" {
			pinned = strings.Replace(template, "      terminationGracePeriodSeconds", "      nodeName: n2\n      terminationGracePeriodSeconds", 1)
		}
		yield(strings.ReplaceAll(fmt.Sprintf("apiVersion: apps/v1\nkind: %s\nmetadata: {name: NAME}\nspec:\n  revisionHistoryLimit: 0\n%s"+
			"  selector: {matchLabels: {app: NAME}}\n  template:%s\n", w.kind, w.more, pinned), "NAME", w.name))
	}
	yield(`apiVersion: batch/v1
kind: CronJob
metadata: {name: by-hand-whole}
spec:
  schedule: "0 0 29 2 *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: "tulle.test/tools:1", args: [get, "http://by-annotation/"]}]}}}}
`)
	yield(`apiVersion: v1
kind: Service
metadata: {name: by-annotation}
spec: {selector: {app: by-annotation}, ports: [{port: 80, targetPort: http}]}
`)
}), "---\n")

// routeOfOthers has a Gateway for its parent, which is nothing of a mesh's.
const routeOfOthers = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-others}
spec: {parentRefs: [{name: some-gateway}]}
`
