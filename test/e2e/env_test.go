package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster"
)

// patience is for one step, on a machine that may do other things; none takes a tenth of it.
const patience = 2 * time.Minute

// env is the cluster as one test sees it; every method fails the test with what was said.
type env struct {
	*world
	t *testing.T
	// namespace is the test's own; $NS stands for it in what is applied, and $VERSION for Tulle's version,
	// which is the tag of its images.
	namespace string
}

var unnamed = regexp.MustCompile(`[^a-z0-9]+`)

// setup makes the test's namespace, which goes away with the test.
func setup(t *testing.T) *env {
	t.Helper()
	name := strings.Trim(unnamed.ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "-"), "-")
	e := &env{world: shared, t: t, namespace: "e2e-" + name[:min(len(name), 50)]}
	e.kubectl("create", "namespace", e.namespace)
	t.Cleanup(func() {
		if t.Failed() {
			e.explain(e.namespace)
		}
		_, err := e.Kubectl(context.WithoutCancel(t.Context()), "delete", "namespace", e.namespace, "--wait=false")
		if err != nil {
			t.Error(err)
		}
	})
	return e
}

// long skips what takes minutes, unless asked.
func long(t *testing.T) {
	t.Helper()
	if !*longRun {
		t.Skip("long: make e2e-long runs it")
	}
}

// ctx ends with the test, or when a step takes too long.
func (e *env) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.t.Context(), patience)
}

// in is the same test with another of the cluster's namespaces as its own.
func (e *env) in(t *testing.T, namespace string) *env {
	return &env{world: e.world, t: t, namespace: namespace}
}

// kubectl runs kubectl in the test's namespace and returns what it printed.
func (e *env) kubectl(args ...string) string {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	out, err := e.Kubectl(ctx, append([]string{"--namespace=" + e.namespace}, args...)...)
	if err != nil {
		e.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply applies manifests, in the test's namespace where they name none.
func (e *env) apply(yaml string) {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	cmd := e.Command(ctx, "--namespace="+e.namespace, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.NewReplacer("$NS", e.namespace, "$VERSION", e.version).Replace(yaml))
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// applyNamed applies manifests that name their namespaces.
func (e *env) applyNamed(yaml string) {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	if err := e.Apply(ctx, yaml); err != nil {
		e.t.Fatal(err)
	}
}

// rollout waits for Deployments, StatefulSets and DaemonSets (KIND/NAME), pods and Jobs.
func (e *env) rollout(names ...string) {
	e.t.Helper()
	limit := fmt.Sprintf("--timeout=%s", patience-5*time.Second)
	for _, name := range names {
		switch kind, _, _ := strings.Cut(name, "/"); kind {
		case "pod":
			e.kubectl("wait", "--for=condition=Ready", limit, name)
		case "job":
			e.kubectl("wait", "--for=condition=Complete", limit, name)
		default:
			e.kubectl("rollout", "status", limit, name)
		}
	}
}

// exec runs a command in a container of a pod (NAME, or KIND/NAME for one of its pods).
func (e *env) exec(pod, container string, command ...string) string {
	e.t.Helper()
	return e.kubectl(append([]string{"exec", pod, "--container=" + container, "--"}, command...)...)
}

// log is what a container printed.
func (e *env) log(pod, container string) string {
	e.t.Helper()
	return e.kubectl("logs", pod, "--container="+container)
}

// field evaluates a JSONPath template on an object: field("service/web", "{.spec.clusterIP}").
func (e *env) field(object, template string) string {
	e.t.Helper()
	return e.kubectl("get", object, "--output=jsonpath="+template)
}

// pods are the addresses of the running pods that a selector matches, by their names.
func (e *env) pods(selector string) map[string]string {
	e.t.Helper()
	out := e.kubectl("get", "pods", "--selector="+selector, "--field-selector=status.phase=Running",
		"--output=jsonpath={range .items[*]}{.metadata.name} {.status.podIP}\n{end}")
	pods := map[string]string{}
	for line := range strings.Lines(out) {
		if name, ip, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			pods[name] = ip
		}
	}
	return pods
}

// podState is what tests ask about a pod.
type podState struct {
	Metadata struct {
		Name              string
		Labels            map[string]string
		DeletionTimestamp string
	}
	Status struct {
		Phase                                    string
		InitContainerStatuses, ContainerStatuses []struct {
			Name  string
			Ready bool
		}
	}
}

// living are the pods of the namespace that nobody has deleted.
func (e *env) living(ctx context.Context) ([]podState, error) {
	out, err := e.Kubectl(ctx, "--namespace="+e.namespace, "get", "pods", "--output=json")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []podState }
	err = json.Unmarshal([]byte(out), &list)
	return slices.DeleteFunc(list.Items, func(p podState) bool { return p.Metadata.DeletionTimestamp != "" }), err
}

// until repeats try until it succeeds.
func (e *env) until(try func(context.Context) error) {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	if err := cluster.Until(ctx, try); err != nil {
		e.t.Fatal(err)
	}
}

// ask asks url from a container that has /app, until it is answered with 200: names and rules of a new
// Service take a moment.
func (e *env) ask(pod, container, url string, headers ...string) (body string) {
	e.t.Helper()
	command := append([]string{"--namespace=" + e.namespace, "exec", pod, "--container=" + container, "--", "/app", "get", url}, headers...)
	e.until(func(ctx context.Context) error {
		out, err := e.Kubectl(ctx, command...)
		if err != nil {
			return err
		}
		text, ok := strings.CutPrefix(out, "200\n")
		if !ok {
			return fmt.Errorf("%s answered %q", url, out)
		}
		body = strings.TrimSpace(text)
		return nil
	})
	return body
}

// get asks url from the host, until it is answered with 200; pods, Services and nodes are all within reach
// by address.
func (e *env) get(url string) (body string) {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		text, status, err := fetch(ctx, url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("GET %s: %d: %s", url, status, text)
		}
		body = text
		return err
	})
	return body
}

// fetch asks once, on a connection of its own.
func fetch(ctx context.Context, url string) (body string, status int, err error) {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), resp.StatusCode, err
}

// said is what a run of the command line left.
type said struct {
	stdout, stderr string
	status         int
}

// runTulle runs the command line as a user would, with stdin.
func (e *env) runTulle(stdin string, args ...string) said {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	cmd := exec.CommandContext(ctx, e.tulle, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Kubeconfig())
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		e.t.Fatal(err)
	}
	return said{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// mustTulle runs the command line, which succeeds, and returns what it printed.
func (e *env) mustTulle(args ...string) string {
	e.t.Helper()
	s := e.runTulle("", args...)
	if s.status != 0 {
		e.t.Fatalf("tulle %s: exit status %d\n%s%s", strings.Join(args, " "), s.status, s.stdout, s.stderr)
	}
	return s.stdout
}

// installed reports whether the cluster has a control plane.
func (e *env) installed() bool {
	e.t.Helper()
	return e.kubectl("--namespace=tulle", "get", "deployment/tulle-injector", "--ignore-not-found", "--output=name") != ""
}

// mesh installs the mesh, for tests that stand on it, unless it is there. Tests that run in parallel may
// all ask for it.
func (e *env) mesh() {
	e.t.Helper()
	e.installing.Lock()
	defer e.installing.Unlock()
	if e.installed() {
		return
	}
	e.applyNamed(e.mustTulle("install", "--crds"))
	e.established()
	e.applyNamed(e.mustTulle("install"))
	e.mustTulle("check", "--wait", "90s")
}

// established waits until the definitions are served. kubectl wait alone fails on one that is so new that
// it has no condition at all.
func (e *env) established() {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		_, err := e.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
		return err
	})
}

// delete deletes what manifests name, and waits for its end.
func (e *env) delete(yaml string) {
	e.t.Helper()
	ctx, stop := e.ctx()
	defer stop()
	cmd := e.Command(ctx, "delete", "--ignore-not-found", "-f", "-")
	cmd.Stdin = strings.NewReader(yaml)
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("kubectl delete: %v\n%s", err, out)
	}
}

// explain writes down what a failed test's namespace looked like.
func (e *env) explain(namespace string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(e.t.Context()), 20*time.Second)
	defer stop()
	for _, args := range [][]string{
		{"get", "pods", "--output=wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "--selector=!tulle.test/none", "--all-containers", "--prefix", "--tail=30", "--ignore-errors"},
	} {
		out, err := e.Kubectl(ctx, append(args, "--namespace="+namespace)...)
		if err != nil {
			out += err.Error()
		}
		e.t.Logf("kubectl %s in %s:\n%s", strings.Join(args, " "), namespace, out)
	}
}
