package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestCrashIsCleanedUp(t *testing.T) {
	need(t)
	if _, err := Build(t.Context(), Config{Progress: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	i := free(t)
	before := traces(t, i)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", victim, i))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		_ = cmd.Wait()
		t.Fatalf("%q %v\n%s", line, err, said.String())
	}
	nodes := processes(i.cgroup())
	if len(nodes) < 8 {
		t.Errorf("the cluster consists of processes %v only", nodes)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if err := Down(t.Context(), Config{Instance: int(i)}); err != nil {
		t.Fatal(err)
	}
	same(t, before, traces(t, i))
}

// traces are what a cluster could leave on the machine, by where it was found. Other programs of the
// machine come and go meanwhile: only what a cluster of this instance would make is looked at.
func traces(t *testing.T, i instance) map[string]string {
	t.Helper()
	found := map[string]string{}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, i.bridge()) || strings.HasPrefix(name, "cni") {
			found["link "+name] = l.Type()
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		for _, a := range i.families() {
			if r.Gw != nil && ipNet(a.host).Contains(r.Gw) {
				found["route "+r.String()] = "there"
			}
		}
	}
	if _, err := os.Stat(i.dir()); err == nil {
		found[i.dir()] = "there"
	}
	for _, h := range mounted() {
		if _, err := os.Stat(filepath.Join(h, i.cgroup())); err == nil {
			found["cgroup "+h+"/"+i.cgroup()] = "there"
		}
	}
	for _, pid := range processes(i.cgroup()) {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		found[fmt.Sprintf("process %d %s", pid, cmd)] = "there"
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.Contains(at, "tulle") || strings.Contains(at, "kubelet") || strings.Contains(at, "containerd") {
			found["mount "+at] = "there"
		}
	}
	for _, name := range []string{
		"/var/lib/kubelet", "/var/lib/cni", "/var/lib/etcd", "/etc/cni", "/etc/kubernetes", "/var/log/pods", "/var/log/containers",
		"/run/containerd", "/run/flannel", "/var/run/kubernetes", "/opt/cni", "/usr/libexec/kubernetes",
	} {
		if info, err := os.Stat(name); err == nil {
			found[name] = info.ModTime().String()
		}
	}
	if others, _ := filepath.Glob(stateRoot + "/[0-9]"); len(others) == 0 { // else they have raised it
		read(t, found, inotifyLimit)
	}
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
		"kernel/keys/root_maxbytes", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/netfilter/nf_conntrack_max",
		"net/bridge/bridge-nf-call-iptables",
	} {
		read(t, found, "/proc/sys/"+name)
	}
	return found
}

// free is an instance that nobody uses, cleaned of what a crash left: another's work on this machine is none
// of the test's.
func free(t *testing.T) instance {
	t.Helper()
	for i := instance(9); i >= 0; i-- {
		if s, err := i.detached(); s != nil || err != nil {
			continue
		}
		soon, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		release, err := acquire(soon, fmt.Sprint(int(i)), io.Discard)
		stop()
		if err != nil {
			continue // another process has it
		}
		release()
		if err := Down(t.Context(), Config{Instance: int(i)}); err != nil {
			t.Fatal(err)
		}
		return i
	}
	t.Fatal("there are ten clusters on this machine")
	return 0
}

func read(t *testing.T, into map[string]string, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	into[name] = strings.TrimSpace(string(text))
}

func same(t *testing.T, before, after map[string]string) {
	t.Helper()
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if before[key] != after[key] {
			t.Errorf("%s: %q before, %q after", key, before[key], after[key])
		}
	}
}
