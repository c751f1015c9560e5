package cluster

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// Cluster is one that is up. Its methods may be called from several goroutines, those of one Node not.
type Cluster struct {
	instance instance
	programs *Programs
	nodes    []*Node
	detached bool
	api      *api
	release  func() // of the instance; nil for one that was attached to
	progress io.Writer
	begun    time.Time
}

// state is what a later process needs to know to attach.
type state struct {
	Nodes    []int `json:"nodes"` // the first processes
	Detached bool  `json:"detached"`
}

func (i instance) stateFile() string { return filepath.Join(i.dir(), "state.json") }

// Up starts a cluster and returns when its nodes and DNS are ready, or ctx ends. It builds what is not
// in the cache, which takes minutes once.
func Up(ctx context.Context, config Config) (_ *Cluster, err error) {
	config, err = config.checked()
	if err != nil {
		return nil, err
	}
	if missing := Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("this machine lacks %s", strings.Join(missing, "; "))
	}
	programs, err := Build(ctx, config)
	if err != nil {
		return nil, err
	}
	i := instance(config.Instance)
	release, err := acquire(ctx, fmt.Sprint(config.Instance), config.Progress)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		instance: i, programs: programs, detached: config.Detached, release: release,
		progress: config.Progress, begun: time.Now(),
	}
	if running, err := i.detached(); err != nil || running != nil {
		release()
		return nil, errors.Join(err, ErrDetached)
	}
	if err := i.clean(ctx); err != nil {
		release()
		return nil, fmt.Errorf("what an earlier run left: %w", err)
	}
	if err := c.start(ctx, config); err != nil {
		err = fmt.Errorf("%w\n%s", err, c.tails())
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, config Config) error {
	i := c.instance
	if err := os.MkdirAll(i.dir(), 0o755); err != nil {
		return err
	}
	if err := raiseInotify(ctx); err != nil {
		return err
	}
	if err := makePKI(i, config.Nodes); err != nil {
		return err
	}
	var err error
	if c.api, err = newAPI(i); err != nil {
		return err
	}
	if err := i.makeBridge(); err != nil {
		return err
	}
	for n := 1; n <= config.Nodes; n++ {
		c.nodes = append(c.nodes, c.newNode(n, config))
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	if err := c.save(); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, n := range c.nodes { // a node whose first process ends will never be ready
		go func() { // ends when start returns, or with the node
			select {
			case <-n.ended:
				stop(fmt.Errorf("node %s ended", n.Name()))
			case <-ctx.Done():
			}
		}()
	}
	return c.await(ctx)
}

// await applies the cluster's own manifests as soon as there is somebody to take them, and returns
// when all is ready.
func (c *Cluster) await(ctx context.Context) error {
	if err := Until(ctx, func(ctx context.Context) error { return c.api.get(ctx, "/readyz", nil) }); err != nil {
		return err
	}
	c.step("API server ready")
	files, err := fs.Glob(manifests, "manifests/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range files {
		yaml, err := manifests.ReadFile(name)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, strings.ReplaceAll(string(yaml), "{{dns}}", c.instance.v4().service(10).String())); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.Ready(ctx); err != nil {
			return err
		}
	}
	c.step("nodes ready")
	dns := "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
	if err := Until(ctx, c.api.condition(dns, "Available")); err != nil {
		return err
	}
	account := "/api/v1/namespaces/default/serviceaccounts/default" // without it no pod can be made
	if err := Until(ctx, func(ctx context.Context) error { return c.api.get(ctx, account, nil) }); err != nil {
		return err
	}
	c.step("DNS ready")
	return nil
}

func (c *Cluster) step(what string) {
	fmt.Fprintf(c.progress, "%5.1f s  %s\n", time.Since(c.begun).Seconds(), what)
}

func (c *Cluster) save() error {
	s := state{Detached: c.detached}
	for _, n := range c.nodes {
		s.Nodes = append(s.Nodes, n.pid)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(c.instance.stateFile(), raw, 0o600)
}

// detached is the state of an instance whose cluster goes on without an owner, or nil.
func (i instance) detached() (*state, error) {
	raw, err := os.ReadFile(i.stateFile())
	if errors.Is(err, fs.ErrNotExist) || len(processes(i.sysCgroup(1))) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil || !s.Detached {
		return nil, err
	}
	return &s, nil
}

// Attach returns the detached cluster of an instance that another process brought up, or nil when
// there is none. Down of what it returns does nothing.
func Attach(ctx context.Context, config Config) (*Cluster, error) {
	config, err := config.checked()
	if err != nil {
		return nil, err
	}
	i := instance(config.Instance)
	s, err := i.detached()
	if s == nil || err != nil {
		return nil, err
	}
	programs, err := Build(ctx, config) // with which nodes that come back are started
	if err != nil {
		return nil, err
	}
	c := &Cluster{instance: i, programs: programs, detached: true, progress: config.Progress, begun: time.Now()}
	if c.api, err = newAPI(i); err != nil {
		return nil, err
	}
	config.Nodes = len(s.Nodes)
	for n, pid := range s.Nodes {
		c.nodes = append(c.nodes, c.newNode(n+1, config))
		c.nodes[n].pid = pid
	}
	return c, Until(ctx, func(ctx context.Context) error { return c.api.get(ctx, "/readyz", nil) })
}

// Down ends the cluster and removes every trace of it. One that was attached to stays.
func (c *Cluster) Down(ctx context.Context) error {
	if c.release == nil {
		return nil
	}
	defer c.release()
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.Kill())
	}
	return errors.Join(append(errs, c.instance.clean(ctx))...)
}

// Down ends the cluster of an instance, detached or left by a process that died, and removes every
// trace of it. While a living process has it, Down waits.
func Down(ctx context.Context, config Config) error {
	config, err := config.checked()
	if err != nil {
		return err
	}
	release, err := acquire(ctx, fmt.Sprint(config.Instance), config.Progress)
	if err != nil {
		return err
	}
	defer release()
	return instance(config.Instance).clean(ctx)
}

// clean removes whatever bears the instance's names; the caller owns the instance.
func (i instance) clean(ctx context.Context) error {
	const most = 9 // nodes that an earlier run may have had
	for n := 1; n <= most; n++ {
		if err := i.freeze(n, false); err != nil { // the frozen do not die
			return err
		}
	}
	if err := kill(i.cgroup()); err != nil {
		return err
	}
	return errors.Join(i.removeNetwork(most), removeCgroups(i.cgroup()), os.RemoveAll(i.dir()), restoreInotify(ctx))
}

// Kubeconfig is the file with which an administrator finds the API server.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.instance.pki(), "admin.kubeconfig") }

// Programs are the files that the cluster is made of.
func (c *Cluster) Programs() Programs { return *c.programs }

// Bridge is the host's network device that everything between nodes crosses.
func (c *Cluster) Bridge() string { return c.instance.bridge() }

// Node returns a node by its name, n1 or n2; it panics when there is none.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.Name() == name {
			return n
		}
	}
	panic("BUG: no node " + name)
}

// Nodes returns all nodes; the first has the control plane.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// LoadImages loads OCI archives into every node.
func (c *Cluster) LoadImages(ctx context.Context, archives ...string) error {
	failed := make(chan error)
	for _, n := range c.nodes {
		go func() { failed <- n.load(ctx, archives) }() // received below
	}
	var errs []error
	for range c.nodes {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

// Kubectl runs kubectl as the cluster's administrator and returns its standard output; an error has
// what it said on the other.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, nil, args...)
}

// Apply applies manifests.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	_, err := c.kubectl(ctx, strings.NewReader(yaml), "apply", "-f", "-")
	return err
}

// Command is a kubectl that the caller runs, for streams and ones that do not end.
func (c *Cluster) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.programs.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return cmd
}

func (c *Cluster) kubectl(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := c.Command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// Logs copies what the daemons of all nodes wrote, a directory per node, into dir.
func (c *Cluster) Logs(dir string) error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, os.CopyFS(filepath.Join(dir, n.Name()), os.DirFS(n.logs())))
	}
	return errors.Join(errs...)
}

// tails are the last lines of every log, for an error.
func (c *Cluster) tails() string {
	var out strings.Builder
	for _, n := range c.nodes {
		files, _ := filepath.Glob(filepath.Join(n.logs(), "*.log"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil || len(text) == 0 {
				continue
			}
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			fmt.Fprintf(&out, "--- %s %s\n%s\n", n.Name(), filepath.Base(f), strings.Join(lines[max(0, len(lines)-5):], "\n"))
		}
	}
	return out.String()
}
