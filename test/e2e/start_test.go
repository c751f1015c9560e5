package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a proxy may cost a pod's start. The goals are for a machine that does nothing else; a test fails only
// where something is wrong that no load explains.
const (
	readyGoal, readyLimit = 150 * time.Millisecond, 10 * time.Second
	addedGoal, addedLimit = 500 * time.Millisecond, 20 * time.Second
	starts                = 5
)

// TestStart says how long a proxy takes from exec to ready, and what it adds to a pod's start: from asking for
// the pod to the application's first word, with a proxy less without.
func TestStart(t *testing.T) {
	e := setup(t)
	e.mesh()
	var plain, meshed, proxies []time.Duration
	for i := range starts { // in turns, so that both meet the same load
		plain = append(plain, e.start(fmt.Sprintf("plain-%d", i), "disabled"))
		name := fmt.Sprintf("meshed-%d", i)
		meshed = append(meshed, e.start(name, "enabled"))
		proxies = append(proxies, e.readyAfter(name))
		e.kubectl("delete", "pod", name, fmt.Sprintf("plain-%d", i), "--wait=false")
	}
	ready, without, with := medianOf(proxies), medianOf(plain), medianOf(meshed)
	load, _ := os.ReadFile("/proc/loadavg") // for whoever reads the figures
	t.Logf("medians of %d at load %.14s: the proxy is ready %s after exec (goal %s); pods start in %s without it, %s with it: it adds %s (goal %s)",
		starts, load, ready, readyGoal, without, with, with-without, addedGoal)
	t.Logf("ready %v, without %v, with %v", proxies, plain, meshed)
	if ready > readyLimit {
		t.Errorf("the proxy is ready %s after exec", ready)
	}
	if with-without > addedLimit {
		t.Errorf("the proxy adds %s to a pod's start", with-without)
	}
}

func medianOf(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2].Round(time.Millisecond)
}

// start makes a pod and returns when its application said its first word.
func (e *env) start(name, inject string) time.Duration {
	e.t.Helper()
	begun := time.Now()
	e.apply(strings.NewReplacer("NAME", name, "INJECT", inject).Replace(starter))
	e.rollout("pod/" + name)
	return e.said(name, "app", "serving on").Sub(begun)
}

// said is when a container first said something with words in it, by the node's clock, which is this machine's.
func (e *env) said(pod, container, words string) time.Time {
	e.t.Helper()
	for line := range strings.Lines(e.kubectl("logs", pod, "--container="+container, "--timestamps")) {
		stamp, text, _ := strings.Cut(line, " ")
		if !strings.Contains(text, words) {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			e.t.Fatal(err)
		}
		return at
	}
	e.t.Fatalf("container %s of %s never said %q", container, pod, words)
	return time.Time{}
}

// readyAfter is how long after its exec the proxy of a pod was ready.
func (e *env) readyAfter(pod string) time.Duration {
	e.t.Helper()
	return e.said(pod, "tulle-proxy", `"msg":"ready"`).Sub(e.begunAt(pod))
}

// begunAt is when the proxy's process began, to 10 ms: nodes are namespaces of this machine, and their processes
// are seen from outside.
func (e *env) begunAt(pod string) time.Time {
	e.t.Helper()
	want := []byte("\x00TULLE_WORKLOAD=" + e.namespace + "/" + pod + "\x00")
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		e.t.Fatal(err)
	}
	for _, name := range all {
		environ, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(environ, want) {
			continue // it has ended, or is another
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(name), "stat"))
		if err != nil {
			e.t.Fatal(err)
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // proc(5): the third field on
		ticks, err := strconv.ParseInt(fields[22-3], 10, 64)
		if err != nil {
			e.t.Fatal(err)
		}
		var up unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
			e.t.Fatal(err)
		}
		return time.Now().Add(time.Duration(ticks)*10*time.Millisecond - time.Duration(up.Nano()))
	}
	e.t.Fatalf("no process of the proxy of %s", pod)
	return time.Time{}
}

const starter = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, annotations: {tulle.dev/inject: INJECT}}
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "tulle.test/tools:1", args: [serve, ":8080"]}]
`
