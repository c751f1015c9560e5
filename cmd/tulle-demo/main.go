// Command tulle-demo shows a whole mesh on this machine: no root, no cluster, nothing but loopback.
// `make demo` runs it; docs/demo.md says what there is to see.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/tulle-mesh/tulle/demo"
	"github.com/tulle-mesh/tulle/internal/run"
)

func main() { os.Exit(run.Main(context.Background(), "tulle-demo", command)) }

func command(ctx context.Context, args []string, s run.Streams) error {
	var cfg demo.Config
	f := flag.NewFlagSet("tulle-demo", flag.ContinueOnError)
	f.SetOutput(s.Err)
	cfg.Flags(f)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return &run.ExitError{}
	case err != nil:
		return &run.ExitError{Code: 2} // f has said why
	case f.NArg() > 0:
		return &run.ExitError{Code: 2, Err: fmt.Errorf("%q is no flag", f.Arg(0))}
	}
	return demo.Run(ctx, cfg, s)
}
