// Command bed brings a cluster up and leaves it up, or ends it: make cluster, make cluster-down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tulle-mesh/tulle/test/cluster"
)

// exitMissing is the exit status where the machine cannot run a cluster at all.
const exitMissing = 3

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags := flag.NewFlagSet("bed", flag.ExitOnError)
	instance := flags.Int("instance", 0, "which cluster of this machine, 0 to 9")
	nodes := flags.Int("nodes", 2, "number of nodes, 1 to 9")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bed [flags] up [IMAGE.tar...] | down | check | build")
		flags.PrintDefaults()
	}
	_ = flags.Parse(args) // exits on an error
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config := cluster.Config{Instance: *instance, Nodes: *nodes, Detached: true, Progress: os.Stderr}
	var err error
	switch flags.Arg(0) {
	case "up":
		config.Images = flags.Args()[1:]
		err = up(ctx, config)
	case "down":
		err = cluster.Down(ctx, config)
	case "build":
		_, err = cluster.Build(ctx, config)
	case "check":
	default:
		flags.Usage()
		return 2
	}
	if missing := cluster.Missing(); len(missing) > 0 && (err != nil || flags.Arg(0) == "check") {
		fmt.Fprintf(os.Stderr, "no cluster on this machine, which lacks:\n  %s\n", strings.Join(missing, "\n  "))
		return exitMissing
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// up prints what a shell needs to use the cluster; one that is up already is as good.
func up(ctx context.Context, config cluster.Config) error {
	c, err := cluster.Up(ctx, config)
	if errors.Is(err, cluster.ErrDetached) {
		c, err = cluster.Attach(ctx, config)
	}
	if err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s PATH=%s:$PATH\n", c.Kubeconfig(), filepath.Dir(c.Programs().Kubectl))
	return nil
}
