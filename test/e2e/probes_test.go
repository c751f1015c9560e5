package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kinds are those of probes that Kubernetes has.
var kinds = []string{"http", "https", "grpc", "tcp", "exec"}

// probedContainer is a container's probes, by their kinds.
type probedContainer struct{ readiness, liveness, startup string }

// probedIn are the containers of a pod: every kind for readiness and for liveness once, in one pod, and under
// the other policies those that they could hurt.
func probedIn(policy string) []probedContainer {
	if policy != "deny" {
		return []probedContainer{{"http", "grpc", "tcp"}, {"tcp", "https", "http"}}
	}
	var all []probedContainer
	for i := range kinds {
		all = append(all, probedContainer{kinds[i], kinds[(i+1)%len(kinds)], kinds[(i+2)%len(kinds)]})
	}
	return all
}

// handlers are how a probe of each kind asks; PORT is the container's first door.
var handlers = map[string]func(port int) string{
	"http": func(int) string {
		return `httpGet: {path: "/well?full=1", port: web, httpHeaders: [{name: X-Probe, value: "yes"}]}`
	},
	"https": func(port int) string {
		return fmt.Sprintf(`httpGet: {path: /well, port: %d, scheme: HTTPS, httpHeaders: [{name: X-Probe, value: "yes"}]}`, port+1)
	},
	"grpc": func(port int) string { return fmt.Sprintf(`grpc: {port: %d}`, port+2) },
	"tcp":  func(port int) string { return fmt.Sprintf(`tcpSocket: {port: %d}`, port+3) },
	"exec": func(port int) string {
		return fmt.Sprintf(`exec: {command: [/app, get, "http://127.0.0.1:%d/up"]}`, port+9)
	},
}

// policies are the five defaults, and what a client without an identity gets of an HTTP door.
var policies = map[string]int{
	"all-unauthenticated": http.StatusOK, "audit": http.StatusOK,
	"all-authenticated": http.StatusForbidden, "cluster-authenticated": http.StatusForbidden, "deny": http.StatusForbidden,
}

// TestProbes has a pod under every default policy. Probes pass while the application is up, whatever the policy,
// and fail when it is stopped, door by door (R9.3).
func TestProbes(t *testing.T) {
	e := setup(t)
	e.mesh()
	t.Parallel()
	var names []string
	for policy := range policies {
		e.apply(probedPod(policy))
		names = append(names, "pod/"+policy)
	}
	slices.Sort(names)
	e.rollout(names...)
	ips := e.pods("app=probed")
	for policy, want := range policies {
		e.plainly(net.JoinHostPort(ips[policy], "7000"), policy, want)
	}

	readiness := func(c probedContainer) string { return c.readiness }
	e.turn(ips, "close", readiness)
	e.timed("no longer ready", func(c containerState) bool { return !c.Ready && c.RestartCount == 0 })
	e.turn(ips, "open", readiness)
	e.timed("ready again", func(c containerState) bool { return c.Ready && c.RestartCount == 0 })
	e.turn(ips, "close", func(c probedContainer) string { return c.liveness })
	e.timed("started anew", func(c containerState) bool { return c.Ready && c.RestartCount == 1 })
}

// plainly asks once, without an identity, until the proxy answers as its policy wants.
func (e *env) plainly(addr, policy string, want int) {
	e.t.Helper()
	e.until(func(ctx context.Context) error {
		_, status, err := fetch(ctx, "http://"+addr+"/")
		if err == nil && status != want {
			err = fmt.Errorf("under %s, a client without an identity is answered %d, not %d", policy, status, want)
		}
		return err
	})
}

// turn has every container open or close the door that one of its probes asks.
func (e *env) turn(ips map[string]string, verb string, door func(probedContainer) string) {
	e.t.Helper()
	for policy := range policies {
		for i, c := range probedIn(policy) {
			e.get("http://" + net.JoinHostPort(ips[policy], strconv.Itoa(7009+100*i)) + "/" + verb + "/" + door(c))
		}
	}
}

// containerState is what the kubelet says of a container.
type containerState struct {
	Name         string
	Ready        bool
	RestartCount int
}

// timed waits until all containers are so and says how long that took since the last door was turned.
func (e *env) timed(what string, is func(containerState) bool) {
	e.t.Helper()
	begun := time.Now()
	n := 0
	e.until(func(ctx context.Context) error {
		out, err := e.Kubectl(ctx, "--namespace="+e.namespace, "get", "pods", "--selector=app=probed", "--output=json")
		if err != nil {
			return err
		}
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Status   struct{ ContainerStatuses []containerState }
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		n = 0
		for _, pod := range list.Items {
			for _, c := range pod.Status.ContainerStatuses {
				if n++; !is(c) {
					return fmt.Errorf("want %s: pod %s: %+v", what, pod.Metadata.Name, c)
				}
			}
		}
		return nil
	})
	if n != 2*len(policies)-2+len(kinds) {
		e.t.Fatalf("%d containers", n)
	}
	e.t.Logf("all %d containers %s %.1f s after the last door was turned; they are probed every second", n, what, time.Since(begun).Seconds())
}

// probedPod is a pod under a policy. A probe may take long, as this machine does other things; a door that is
// shut refuses at once.
func probedPod(policy string) string {
	var b, skip strings.Builder
	for i, c := range probedIn(policy) {
		port := 7000 + 100*i
		fmt.Fprintf(&skip, "%d,", port+9)
		fmt.Fprintf(&b, "    - name: ready-%s\n      image: tulle.test/tools:1\n      args: [doors, \"%d\"]\n", c.readiness, port)
		fmt.Fprintf(&b, "      ports: [{name: web, containerPort: %d}]\n", port)
		for _, p := range []struct {
			name, kind string
			failures   int
		}{{"readiness", c.readiness, 1}, {"liveness", c.liveness, 1}, {"startup", c.startup, 60}} {
			fmt.Fprintf(&b, "      %sProbe: {periodSeconds: 1, timeoutSeconds: 30, failureThreshold: %d, %s}\n", p.name, p.failures, handlers[p.kind](port))
		}
	}
	return strings.NewReplacer("POLICY", policy, "SKIP", strings.TrimSuffix(skip.String(), ",")).Replace(probed) + b.String()
}

const probed = `
apiVersion: v1
kind: Pod
metadata:
  name: POLICY
  labels: {app: probed}
  annotations:
    tulle.dev/inject: enabled
    config.tulle.dev/default-inbound-policy: POLICY
    config.tulle.dev/skip-inbound-ports: "SKIP"
spec:
  terminationGracePeriodSeconds: 1
  containers:
`
