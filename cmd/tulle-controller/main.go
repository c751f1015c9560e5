// Command tulle-controller is the control plane: the identity service, the destination service, or
// both in one process, and the making of join tokens for a mesh without a cluster.
//
//	tulle-controller all --source files:mesh.d --state-dir /var/lib/tulle
//	tulle-controller identity --state-dir /var/lib/tulle
//	tulle-controller destination --source files:mesh.d --identity 10.0.0.1:8080 --token-file t --trust-bundle-dir b
//	tulle-controller injector --namespace tulle
//	tulle-controller identity --source kubernetes --namespace tulle
//	tulle-controller rotate --source kubernetes --namespace tulle
//	tulle-controller token --state-dir /var/lib/tulle --workload shop/web-1 --account web
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
)

func main() { os.Exit(run.Main(context.Background(), "tulle-controller", command)) }

const usage = "tulle-controller identity|destination|all|injector|token|rotate|version [flags]; tulle-controller identity -h lists its flags"

func command(ctx context.Context, args []string, s run.Streams) error {
	if len(args) == 0 {
		return mistake(errors.New(usage))
	}
	what, args := args[0], args[1:]
	switch what {
	case "version":
		fmt.Fprintln(s.Out, version.String())
		return nil
	case "token":
		return token(args, s)
	case "rotate":
		return rotate(ctx, args, s)
	case "injector":
		return injector(ctx, args, s)
	case "identity", "destination", "all":
		return serve(ctx, what, args, s)
	case "-h", "--help", "help":
		fmt.Fprintln(s.Out, usage)
		return nil
	}
	return mistake(fmt.Errorf("%q is no sub-command: %s", what, usage))
}

// mistake is an error of whoever typed the command.
func mistake(err error) error { return &run.ExitError{Code: 2, Err: err} }

// parse reads args into f.
func parse(f *flag.FlagSet, args []string, s run.Streams) error {
	f.SetOutput(s.Err)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return &run.ExitError{}
	case err != nil:
		return &run.ExitError{Code: 2} // f has said why
	case f.NArg() > 0:
		return mistake(fmt.Errorf("%q is no flag", f.Arg(0)))
	}
	return nil
}
