// Command tulle is the command line of the mesh: it installs Tulle on Kubernetes, puts proxies beside
// workloads, says what is wrong, and shows a whole mesh without a cluster.
package main

import (
	"context"
	"os"

	"github.com/tulle-mesh/tulle/cli"
	"github.com/tulle-mesh/tulle/internal/run"
)

func main() { os.Exit(run.Main(context.Background(), "tulle", command)) }

func command(ctx context.Context, args []string, s run.Streams) error {
	return cli.Run(ctx, args, cli.Host{Streams: s, Getenv: os.Getenv})
}
