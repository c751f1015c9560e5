package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"

	"github.com/tulle-mesh/tulle/test/cluster/spec"
)

// Node is one of a cluster's machines.
type Node struct {
	cluster *Cluster
	number  int
	nodes   int // of the cluster
	images  []string

	pid   int
	stdin io.Closer // its end is the node's, unless detached
	ended chan struct{}
}

func (c *Cluster) newNode(n int, config Config) *Node {
	images := append([]string{c.programs.Pause, c.programs.CoreDNS}, config.Images...)
	if n > 1 {
		images = append([]string{c.programs.Pause}, config.Images...)
	}
	return &Node{cluster: c, number: n, nodes: config.Nodes, images: images}
}

// Name is what kubectl get nodes shows.
func (n *Node) Name() string { return nodeName(n.number) }

// Address is the node's on the bridge.
func (n *Node) Address() netip.Addr { return n.cluster.instance.v4().node(n.number) }

func (n *Node) state() string { return filepath.Join(n.cluster.instance.dir(), n.Name()) }
func (n *Node) logs() string  { return filepath.Join(n.state(), "log") }

// PodLogs is the directory, as this machine sees it, in which the node keeps what containers print:
// NAMESPACE_POD_UID/CONTAINER/RESTARTS.log. A file that is held open outlives its pod.
func (n *Node) PodLogs() string { return filepath.Join(n.logs(), "pods") }

// nodeAttr makes the namespaces of a node, and a session of its own, so that an interrupt from a
// terminal reaches the process that owns the node and not the node.
func nodeAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
}

func (n *Node) spec() spec.Node {
	i := n.cluster.instance
	s := spec.Node{
		Name: n.Name(), State: n.state(), Detached: n.cluster.detached, Images: n.images,
		Programs: map[string]string{"kube": n.cluster.programs.Kube},
		API:      i.server(), CA: i.pki() + "/ca.crt",
		// The kubelet sets these, which are the machine's.
		Sysctls: map[string]string{
			"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
			"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
		},
		Settings: map[string]string{
			"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
			"net/bridge/bridge-nf-call-iptables": "1", "net/bridge/bridge-nf-call-ip6tables": "1",
		},
	}
	i.daemons(n.number, &s)
	return s
}

// start starts the node's first process, gives it its cgroups and network, and lets it begin.
func (n *Node) start() error {
	if err := os.MkdirAll(n.logs(), 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(n.spec(), "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(n.state(), "node.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	if err := n.cluster.instance.makeCgroups(n.number); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.logs(), "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(n.cluster.programs.Node, file)
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = nodeAttr(), log, log
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.pid, n.stdin, n.ended = cmd.Process.Pid, stdin, make(chan struct{})
	ended := n.ended
	go func() { // ends with the process, which Kill ends
		_ = cmd.Wait()
		close(ended)
	}()
	if err := n.cluster.instance.enter(n.number, n.pid); err != nil {
		return err
	}
	if err := n.cluster.instance.connect(n.number, n.pid, n.nodes); err != nil {
		return err
	}
	_, err = io.WriteString(stdin, "begin\n")
	return err
}

// Ready returns when the API server holds the node for ready.
func (n *Node) Ready(ctx context.Context) error {
	return Until(ctx, n.cluster.api.condition("/api/v1/nodes/"+n.Name(), "Ready"))
}

// Kill cuts the node's power: daemons, pods and network are gone when it returns, and nobody was told.
// What was written stays on its disk for Start.
func (n *Node) Kill() error {
	if err := n.Resume(); err != nil { // the frozen do not die
		return err
	}
	cgroup := n.cluster.instance.nodeCgroup(n.number)
	// The kernel, which lives on, would reset the connections of processes that die. A machine that boots
	// has no cgroups; the kubelet would wait seconds for each dead container's.
	err := errors.Join(n.cluster.instance.disconnect(n.number), kill(cgroup), removeCgroups(cgroup))
	if n.stdin != nil {
		n.stdin.Close()
		<-n.ended
		n.stdin = nil
	}
	n.pid = 0
	return err
}

// Start brings a killed node back, as a machine that boots; Ready tells when it takes part again.
func (n *Node) Start() error {
	if n.pid != 0 {
		return fmt.Errorf("node %s is up", n.Name())
	}
	if err := n.start(); err != nil {
		return err
	}
	return n.cluster.save()
}

// Pause stops everything in the node where it stands; its kernel still answers pings and holds
// connections, as that of a machine that hangs.
func (n *Node) Pause() error { return n.cluster.instance.freeze(n.number, true) }

// Resume lets a paused node go on.
func (n *Node) Resume() error { return n.cluster.instance.freeze(n.number, false) }

// Command is one to be run inside the node, in all of its namespaces.
func (n *Node) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(n.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--",
	}, args...)...)
}

// InNetwork calls f in the node's network namespace: a socket that f makes stays there. f must not
// start goroutines, which would run elsewhere.
func (n *Node) InNetwork(f func() error) error {
	if n.pid == 0 {
		return fmt.Errorf("node %s is down", n.Name())
	}
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	inside, err := netns.GetFromPid(n.pid)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := netns.Set(inside); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(own); back != nil {
		return errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// load loads images through the node's containerd, seen from outside.
func (n *Node) load(ctx context.Context, archives []string) error {
	if n.pid == 0 {
		return fmt.Errorf("node %s is down", n.Name())
	}
	for _, archive := range archives {
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, "ctr", "--address", fmt.Sprintf("/proc/%d/root%s", n.pid, spec.ContainerdSocket),
			"--namespace", "k8s.io", "images", "import", archive)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return errors.Join(fmt.Errorf("node %s: load %s: %w", n.Name(), archive, err), errors.New(strings.TrimSpace(said.String())))
		}
	}
	return nil
}
