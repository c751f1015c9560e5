// Command node is the first process of a node: it makes the mounts that give the node standard paths of
// its own, starts the daemons and reaps whatever is orphaned. Its end is the end of everything in the
// node. It begins when it reads a line from standard input and, unless the node is detached, ends when
// standard input does: with the process that started it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/spec"
)

func main() {
	if err := run(context.Background()); err != nil {
		sayf("%v", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var n spec.Node
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return nil //nolint:nilerr // whoever wanted this node is gone
	}
	if err := furnish(&n); err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- boot(ctx, &n) }() // ends when the daemons are started
	if !n.Detached {
		go func() { // ends with the process
			_, err := io.Copy(io.Discard, in)
			sayf("standard input ended: %v", err)
			os.Exit(0)
		}()
	}
	if err := <-ended; err != nil {
		return err
	}
	select {}
}

// boot starts the daemons in the order that saves time: what others wait for goes first, and what
// would meet refusals before the API server knows its roles waits for it.
func boot(ctx context.Context, n *spec.Node) error {
	init := newSupervisor(n.State)
	for _, d := range n.First {
		init.keep(d)
	}
	if err := answering(ctx, "unix", spec.ContainerdSocket); err != nil {
		return err
	}
	for _, image := range n.Images {
		if err := init.once(spec.Daemon{Name: "images", Args: []string{
			"ctr", "--namespace", "k8s.io", "images", "import", image,
		}}); err != nil {
			return err
		}
	}
	if err := ready(ctx, n.API, n.CA); err != nil {
		return err
	}
	for _, d := range n.Then {
		init.keep(d)
	}
	sayf("started")
	return nil
}

func sayf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}
