package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestControlPlaneGone: R11.4, R5.2, R5.6, R6.4, R7.1, R10.2, R11.1, R13.1. Three minutes without a control plane, under
// traffic: what proxies were told stays in force, and whatever happens meanwhile fails nobody.
func TestControlPlaneGone(t *testing.T) { controlPlaneGone(t, 3*time.Minute) }

// TestLongControlPlaneGone is the same for ten minutes: longer than a target may be idle (TULLE_TARGET_IDLE).
func TestLongControlPlaneGone(t *testing.T) {
	long(t)
	controlPlaneGone(t, 10*time.Minute)
}

func controlPlaneGone(t *testing.T, d time.Duration) {
	e := setup(t)
	e.configure("identity.leafLifetime="+(3*d/2).String(), "injector.failurePolicy=Fail")
	o := e.outage()
	end := o.end(d)
	o.during("destination ends", func() { o.away("tulle-destination") })
	o.during("the address goes to another meshed one", func() { o.reuse("victim-1", usurperMeshed) })
	o.during("identity and injector end", func() { o.away("tulle-identity", "tulle-injector") })
	o.during("the address goes to one without a mesh", func() { o.reuse("victim-2", usurperPlain) })
	o.during("servers 4, 2", func() {
		begun := time.Now()
		o.kubectl("scale", "deployment/gracefully", "--replicas=2")
		o.settled()
		o.ended = step{"applications that nobody announced", begun, time.Now()}
	})
	o.during("more servers are wanted", o.wantMore)
	o.during("proxies are killed", o.killProxies)
	o.during("the rest of the time", func() { o.rest(end) })
	o.during("what was idle, and what is new", o.strangers)
	o.plain.none()
	o.comeBack()
	o.verdict()
}

// configure gives the mesh other values, and its own back after the test.
func (e *env) configure(values ...string) {
	e.t.Helper()
	e.mesh()
	set := func(values ...string) {
		args := []string{"upgrade", "--reset-values"}
		for _, v := range values {
			args = append(args, "--set", v)
		}
		e.applyNamed(e.mustTulle(args...))
		e.in(e.t, "tulle").rollout(controlPlane...)
	}
	set(values...)
	e.t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(e.t.Context()), 3*patience)
		defer stop()
		out, err := exec.CommandContext(ctx, e.tulle, "--kubeconfig="+e.Kubeconfig(), "upgrade", "--reset-values").Output()
		if err == nil {
			err = e.Apply(ctx, string(out))
		}
		for _, name := range controlPlane {
			if err == nil {
				_, err = e.Kubectl(ctx, "--namespace=tulle", "rollout", "status", name)
			}
		}
		if err != nil {
			e.t.Errorf("the mesh's own values: %v", err)
		}
	})
}

// outage is traffic of which the control plane takes leave.
type outage struct {
	*traffic
	plane  *env
	plain  *capture
	before map[string]standing // by pod
	// kills are the moments in which something was killed: what was on its way there may fail.
	kills []step
	// ended is when applications ended of their own accord.
	ended step
	// killed are the pods whose proxies were.
	killed map[string]bool
}

func (e *env) outage() *outage {
	e.t.Helper()
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	o := &outage{traffic: e.traffic("gracefully"), plane: e.in(e.t, "tulle"), killed: map[string]bool{}}
	e.kubectl("scale", "deployment/gracefully", "--replicas=4")
	e.apply(outageYAML())
	e.rollout("deployment/asker", "deployment/cut-off", "deployment/idle", "deployment/stranger", "pod/victim-1", "pod/victim-2")
	e.ready("load=server")
	for _, asker := range []string{"asker", "cut-off"} {
		e.ask("deployment/"+asker, "asker", "http://idle/")
	}
	for _, victim := range []string{"victim-1", "victim-2"} {
		e.until(func(context.Context) error {
			if !strings.Contains(e.log(victim, "server"), "got ") {
				return fmt.Errorf("%s was asked nothing", victim)
			}
			return nil
		})
	}
	o.plain = e.capture(o.only("app=client") + ".")
	o.before = o.standings()
	return o
}

// only is the name of the one pod that a selector matches.
func (e *env) only(selector string) (name string) {
	e.t.Helper()
	e.until(func(context.Context) error {
		pods := e.pods(selector)
		for name = range pods {
		}
		if len(pods) != 1 {
			return fmt.Errorf("%d pods are %s", len(pods), selector)
		}
		return nil
	})
	return name
}

// end is when the control plane comes back: after d, on a machine that did not need so long to begin that certificates
// would expire first.
func (o *outage) end(d time.Duration) time.Time {
	o.t.Helper()
	end := time.Now().Add(d)
	for pod, s := range o.before {
		if last := s.expires.Add(-45 * time.Second); last.Before(end) {
			o.t.Logf("%s: its certificate ends at %s: the outage is cut short", pod, s.expires.Format(time.TimeOnly))
			end = last
		}
	}
	return end
}

// away ends services of the control plane, to the last pod.
func (o *outage) away(names ...string) {
	o.t.Helper()
	for _, name := range names {
		o.plane.kubectl("scale", "deployment/"+name, "--replicas=0")
	}
	o.until(func(ctx context.Context) error {
		out, err := o.Kubectl(ctx, "--namespace=tulle", "get", "pods", "--output=name")
		for _, name := range names {
			if err == nil && strings.Contains(out, name) {
				err = errors.New(out)
			}
		}
		return err
	})
}

// reuse kills a server, and has another workload get its address.
func (o *outage) reuse(victim, usurper string) {
	o.t.Helper()
	ip := netip.MustParseAddr(o.field("pod/"+victim, "{.status.podIP}"))
	begun := time.Now()
	o.kubectl("delete", "pod", victim) // its grace is none
	o.until(func(ctx context.Context) error { return o.released(ctx, ip) })
	o.kills = append(o.kills, step{victim, begun, time.Now()})
	name := "usurper-of-" + victim
	yaml := strings.NewReplacer("NAME", name).Replace(usurper)
	o.until(func(ctx context.Context) error {
		// The plugin takes the address after the one that it gave last.
		last := fmt.Sprintf("printf %s > /var/lib/cni/networks/tulle/last_reserved_ip.0", ip.Prev())
		if out, err := o.Node("n2").Command(ctx, "sh", "-c", last).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		o.apply(yaml)
		o.kubectl("wait", "--for=jsonpath={.status.podIP}", "--timeout=60s", "pod/"+name)
		if got := o.field("pod/"+name, "{.status.podIP}"); got != ip.String() {
			o.kubectl("delete", "pod", name)
			return fmt.Errorf("%s got %s, want %s", name, got, ip)
		}
		return nil
	})
	o.until(func(context.Context) error {
		if state := o.field("pod/"+name, `{.status.containerStatuses[?(@.name=="server")].state}`); !strings.Contains(state, "running") {
			return fmt.Errorf("%s: %s", name, state)
		}
		return nil
	})
	o.until(func(ctx context.Context) error { return o.ejected(ctx, netip.AddrPortFrom(ip, 8080)) })
}

// released reports whether the address of a pod of n2 is free.
func (o *outage) released(ctx context.Context, ip netip.Addr) error {
	if err := o.Node("n2").Command(ctx, "test", "!", "-e", "/var/lib/cni/networks/tulle/"+ip.String()).Run(); err != nil {
		return fmt.Errorf("%s is not free: %w", ip, err)
	}
	return nil
}

// ejected reports whether the client's proxy has an endpoint out of its balancer (R6.4).
func (o *outage) ejected(ctx context.Context, addr netip.AddrPort) error {
	out, err := exec.CommandContext(ctx, o.tulle, "--kubeconfig="+o.Kubeconfig(), "--namespace="+o.namespace, "diagnostics", "proxy", "deploy/client", "--output=json").Output()
	if err != nil {
		return err
	}
	var said struct {
		Endpoints []struct {
			Addr    string
			Ejected bool
		}
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, e := range said.Endpoints {
		if e.Addr == addr.String() && e.Ejected {
			return nil
		}
	}
	return fmt.Errorf("%s is not out of the balancer: %+v", addr, said.Endpoints)
}

// wantMore asks for servers that nobody can inject: with failurePolicy Fail there are none rather than some without a
// proxy (R13.1).
func (o *outage) wantMore() {
	o.t.Helper()
	o.kubectl("scale", "deployment/gracefully", "--replicas=5")
	o.until(func(ctx context.Context) error {
		out, err := o.Kubectl(ctx, "--namespace="+o.namespace, "get", "events", "--field-selector=reason=FailedCreate", "--output=jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(out, "inject.tulle.dev") {
			err = fmt.Errorf("no event tells why there are no more servers: %q", out)
		}
		return err
	})
	if pods := o.pods("app=gracefully,load!=usurper"); len(pods) != 2 {
		o.t.Errorf("servers are %v, want the two with a proxy", pods)
	}
}

// killProxies kills a server's proxy and a client's. Without a control plane they cannot come back (R11.1): nobody is
// sent to the server, and the client reaches nobody, not in plaintext either.
func (o *outage) killProxies() {
	o.t.Helper()
	for pod := range o.pods("app=gracefully,pod-template-hash") {
		o.killProxy(pod)
		break
	}
	o.killProxy(o.only("app=cut-off"))
	for pod := range o.killed {
		o.kubectl("wait", "--for=condition=Ready=false", "--timeout=60s", "pod/"+pod)
	}
	if status, body := o.once("deployment/cut-off", "http://idle/marker-of-a-killed-proxy"); status == "200" {
		o.t.Errorf("a pod whose proxy is gone was answered %q", body)
	}
}

// killProxy ends a pod's proxy as the kernel does that has no memory left.
func (o *outage) killProxy(pod string) {
	o.t.Helper()
	begun := time.Now()
	want := fmt.Appendf(nil, "TULLE_WORKLOAD=%s/%s\x00", o.namespace, pod)
	pid, err := processWith("environ", func(b []byte) bool { return bytes.Contains(b, want) })
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		o.t.Fatalf("the proxy of %s: %v", pod, err)
	}
	o.until(func(context.Context) error {
		if holds(pid) {
			return fmt.Errorf("process %d has not ended", pid)
		}
		return nil
	})
	o.killed[pod] = true
	o.kills = append(o.kills, step{"proxy of " + pod, begun, time.Now()})
}

// holds reports whether a killed process still has its sockets: until its last thread has ended, it takes
// what comes. Whether its parent was told does not matter.
func holds(pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return false
	}
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && (len(threads) > 1 || !strings.HasPrefix(state, "Z"))
}

// once asks a single time.
func (o *outage) once(pod, url string) (status, body string) {
	ctx, stop := o.ctx()
	defer stop()
	out, err := o.Kubectl(ctx, "--namespace="+o.namespace, "exec", pod, "--container=asker", "--", "/app", "get", url)
	if err != nil {
		return "", err.Error()
	}
	status, body, _ = strings.Cut(out, "\n")
	return status, body
}

// rest waits for the end, and until every proxy has tried to renew its certificate.
func (o *outage) rest(end time.Time) {
	o.t.Helper()
	select {
	case <-time.After(time.Until(end)):
	case <-o.t.Context().Done():
	}
	o.until(func(context.Context) error {
		for pod, s := range o.standings() {
			if before, ok := o.before[pod]; ok && !o.killed[pod] && s.failedRenewals == before.failedRenewals {
				return fmt.Errorf("%s has not tried to renew its certificate: %+v", pod, s)
			}
		}
		return nil
	})
}

// strangers asks what was asked before the control plane went away, and what was never asked: that one is in the
// cluster, unknown, and refused (R11.4).
func (o *outage) strangers() {
	o.t.Helper()
	if status, body := o.once("deployment/asker", "http://idle/"); status != "200" {
		o.t.Errorf("what was idle answers %s %s", status, body)
	}
	if status, body := o.once("deployment/asker", "http://stranger/"); status == "200" {
		o.t.Errorf("what was never asked answers %s", body)
	}
	if said := o.log("deployment/stranger", "server"); strings.Contains(said, "GET") {
		o.t.Errorf("what was never asked was reached: %s", said)
	}
}

// comeBack has the control plane back, and looks how soon everybody agrees with it.
func (o *outage) comeBack() {
	o.t.Helper()
	away := o.standings()
	maps.DeleteFunc(away, func(pod string, _ standing) bool { return o.killed[pod] }) // they begin anew
	begun := time.Now()
	for _, name := range controlPlane {
		o.plane.kubectl("scale", name, "--replicas=1")
	}
	o.plane.rollout(controlPlane...)
	back := time.Now()
	o.until(func(context.Context) error { return o.agreed(away) })
	took := time.Since(back)
	o.t.Logf("the control plane was ready after %.1f s; %d proxies agreed with it %.1f s later (goal 5 s)", back.Sub(begun).Seconds(), len(away), took.Seconds())
	if took > time.Minute {
		o.t.Errorf("agreed only after %s", took)
	}
	o.until(func(context.Context) error {
		for pod, s := range o.standings() {
			if before, ok := o.before[pod]; ok && (!s.expires.After(before.expires) || s.connected != 1) {
				return fmt.Errorf("%s: %+v, before %+v", pod, s, before)
			}
		}
		return nil
	})
	o.t.Logf("every certificate is new %.1f s after", time.Since(back).Seconds())
	o.rollout("deployment/gracefully", "deployment/cut-off")
	o.ask("deployment/cut-off", "asker", "http://idle/")
	o.ask("deployment/asker", "asker", "http://stranger/")
	o.t.Logf("what was wanted meanwhile is there %.1f s after", time.Since(back).Seconds())
	o.steps = append(o.steps, step{"it comes back", begun, time.Now()})
}

// verdict ends the traffic. What may fail is what was on its way to something when that was killed.
func (o *outage) verdict() {
	o.t.Helper()
	o.noOtherRestarts()
	v := o.traffic.end()
	for _, f := range o.all {
		for _, l := range f.lines {
			if strings.HasPrefix(f.pod, "usurper-") && strings.HasPrefix(l.text, "got ") {
				o.t.Errorf("%s was given what was meant for another: %s", f.pod, l.text)
			}
		}
	}
	var others []request
	excused := map[string]int{}
	for _, r := range v.failed {
		cause := ""
		for _, k := range o.kills {
			if r.left.Before(k.end) && r.left.Add(r.took).After(k.begun) {
				cause = k.name
			}
		}
		// Nobody tells the proxy that its application is about to close its connections (R11.2), nor whether it has done
		// what was on its way on one of them: there is no second attempt (R7.2), as without a mesh.
		const closed = "inbound application "
		if strings.Contains(r.failure, closed) && r.left.After(o.ended.begun) && r.left.Before(o.ended.end) {
			cause = o.ended.name
		}
		if cause == "" {
			others = append(others, r)
			continue
		}
		excused[cause]++
		o.t.Logf("failed, on its way when %s was killed: %v", cause, r)
	}
	for cause, n := range excused {
		if n > 40 || n > 6 && cause == o.ended.name {
			o.t.Errorf("%d requests failed when %s was killed", n, cause)
		}
	}
	v.failed = others
	o.want(v, 10_000)
}

// noOtherRestarts demands that nothing was started again but the proxies that were killed.
func (o *outage) noOtherRestarts() {
	o.t.Helper()
	out := o.kubectl("get", "pods", `--output=jsonpath={range .items[*]}{.metadata.name} {.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		restarts := 0
		for _, f := range fields[1:] {
			n, _ := strconv.Atoi(f)
			restarts += n
		}
		want := 0
		if o.killed[fields[0]] {
			want = 1
		}
		if restarts != want {
			o.t.Errorf("%s: %d containers were started again, want %d", fields[0], restarts, want)
		}
	}
}

// outageYAML is what there is besides the traffic, each twice.
func outageYAML() string {
	var all strings.Builder
	for _, name := range []string{"victim-1", "victim-2"} {
		all.WriteString(strings.ReplaceAll(victimYAML, "NAME", name))
	}
	for _, name := range []string{"asker", "cut-off"} {
		all.WriteString(deploymentYAML(name, "n1", `{name: asker, image: "tulle.test/tools:1", args: [sleep]}`))
	}
	for _, name := range []string{"idle", "stranger"} {
		all.WriteString(deploymentYAML(name, "n2", `{name: server, image: "tulle.test/tools:1", args: [serve, ":8080"]}`) + serviceYAML(name))
	}
	return all.String() + "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other}\n"
}

const victimYAML = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: gracefully, load: victim}}
spec: {nodeName: n2, terminationGracePeriodSeconds: 0, containers: [{name: server, image: "tulle.test/load:1", args: [serve, gracefully], readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}}]}
---
`

// usurperMeshed is in the mesh, under another account. Its proxy cannot be ready without destination; its application
// does not wait for that.
const usurperMeshed = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {load: usurper}, annotations: {config.tulle.dev/await: disabled}}
spec: {nodeName: n2, serviceAccountName: other, terminationGracePeriodSeconds: 0, containers: [{name: server, image: "tulle.test/load:1", args: [serve, gracefully]}]}
`

const usurperPlain = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {load: usurper, tulle.dev/inject: disabled}}
spec: {nodeName: n2, serviceAccountName: other, terminationGracePeriodSeconds: 0, containers: [{name: server, image: "tulle.test/load:1", args: [serve, gracefully]}]}
`
