package cli

import (
	"context"
	"errors"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/internal/run"
)

// foreign finds the program that args name when it is no command of root: the first argument is the
// name, so that a flag's value is never taken for one.
func foreign(root *cobra.Command, args []string) (program string, rest []string, ok bool) {
	if len(args) == 0 || args[0] == "" || strings.HasPrefix(args[0], "-") || strings.ContainsAny(args[0], `/\`) {
		return "", nil, false
	}
	switch args[0] {
	case "help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return "", nil, false // cobra adds them when it runs
	}
	if c, _, err := root.Find(args); err == nil && c != root {
		return "", nil, false
	}
	program, err := exec.LookPath("tulle-" + args[0])
	return program, args[1:], err == nil
}

// plugin runs a program as if it were this one, with its exit code.
func plugin(ctx context.Context, program string, args []string, s run.Streams) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &run.ExitError{Code: max(exit.ExitCode(), 1)} // -1: killed by a signal
	}
	return err
}
