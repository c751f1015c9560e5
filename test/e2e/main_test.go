package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster"
)

var (
	longRun  = flag.Bool("long", false, "run what takes minutes too")
	instance = flag.Int("instance", 0, "which cluster of this machine, 0 to 9")
	logs     = flag.String("logs", filepath.Join(os.TempDir(), "tulle-e2e-logs"), "where the logs of a failed run go")
)

// world is what all tests share.
type world struct {
	*cluster.Cluster
	tulle   string // the command line, as a file
	version string // its own and its images'
	// installing is held by the test that installs the mesh for all.
	installing sync.Mutex
	images     loadedImages // of Debian
}

// shared is set by TestMain before any test runs.
var shared *world

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		fmt.Println("skipped: a whole Kubernetes; make e2e runs it")
		return 0
	}
	if missing := cluster.Missing(); len(missing) > 0 {
		fmt.Printf("skipped: this machine lacks:\n  %s\n", strings.Join(missing, "\n  "))
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "tulle-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	w, err := begin(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = w
	undisturbed := context.AfterFunc(ctx, func() { // an interrupt
		_ = w.Down(context.WithoutCancel(ctx))
		os.Exit(1)
	})
	status := m.Run()
	if !undisturbed() {
		select {} // it is on its way
	}
	if status != 0 {
		err := errors.Join(os.RemoveAll(*logs), w.Logs(*logs))
		fmt.Fprintf(os.Stderr, "the nodes' logs are in %s (%v)\n", *logs, err)
	}
	if err := w.Down(context.WithoutCancel(ctx)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// begin builds what users have and brings a cluster up that knows the images.
func begin(ctx context.Context, dir string) (*world, error) {
	began := time.Now()
	images, tulle := filepath.Join(dir, "images"), filepath.Join(dir, "tulle")
	for _, args := range [][]string{
		{"-C", "../../tools", "run", "./images", "-source", "..", "-out", images, "-platform", "linux/" + runtime.GOARCH},
		{"-C", "../..", "build", "-o", tulle, "./cmd/tulle"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	fmt.Printf("images and command line built in %.1f s\n", time.Since(began).Seconds())
	config := cluster.Config{Instance: *instance, Progress: os.Stderr}
	c, err := cluster.Attach(ctx, config)
	if c == nil && err == nil {
		c, err = cluster.Up(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	archives, err := filepath.Glob(images + "/*.tar")
	if err == nil {
		err = c.LoadImages(ctx, append(archives, c.Programs().Tools)...)
	}
	if err != nil {
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	version, err := exec.CommandContext(ctx, tulle, "version", "--client", "--short").Output()
	if err != nil {
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	return &world{Cluster: c, tulle: tulle, version: strings.TrimSpace(string(version))}, nil
}
