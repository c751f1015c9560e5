package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/check"
	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/completion"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/demo"
	"github.com/tulle-mesh/tulle/cli/diagnostics"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/explain"
	"github.com/tulle-mesh/tulle/cli/identity"
	"github.com/tulle-mesh/tulle/cli/inject"
	"github.com/tulle-mesh/tulle/cli/install"
	"github.com/tulle-mesh/tulle/cli/prune"
	"github.com/tulle-mesh/tulle/cli/uninject"
	"github.com/tulle-mesh/tulle/cli/uninstall"
	"github.com/tulle-mesh/tulle/cli/upgrade"
	"github.com/tulle-mesh/tulle/cli/version"
	"github.com/tulle-mesh/tulle/internal/run"
)

// Host is what a command has of the machine that it runs on.
type Host struct {
	run.Streams
	// Getenv reads the environment; nil: there is none.
	Getenv func(string) string
	// Open makes the clients of a cluster; nil: cluster.Open.
	Open cluster.Opener
}

// Run runs the command that args name.
func Run(ctx context.Context, args []string, h Host) error {
	if h.Getenv == nil {
		h.Getenv = func(string) string { return "" }
	}
	root := New(h) //nolint:contextcheck // completions have the context of the command that asks for them
	if name, rest, ok := foreign(root, args); ok {
		return plugin(ctx, name, rest, h.Streams)
	}
	root.SetArgs(args)
	return usage(root, root.ExecuteContext(ctx))
}

// New makes the tree of commands.
func New(h Host) *cobra.Command {
	access, con := cluster.NewAccess(h.Open), console.New(h.Streams, h.Getenv)
	root := &cobra.Command{
		Use:   "tulle",
		Short: "A service mesh: mutual TLS, balancing, retries and metrics for what you already run",
		Long: "tulle installs the mesh Tulle on Kubernetes, puts proxies beside workloads, and says what is wrong.\n\n" +
			"A first quarter of an hour: tulle check --pre; tulle install --crds | kubectl apply -f -; " +
			"tulle install | kubectl apply -f -; tulle check.\nWithout a cluster: tulle demo.\n\n" +
			"Exit codes:\n" + exit.Text() + "\n" +
			"Any other NAME runs the program tulle-NAME of PATH.",
		Example:           "  tulle demo\n  tulle check --pre\n  tulle install | kubectl apply -f -",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs, // unknown has the better words
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown(c, args[0])
			}
			return c.Help()
		},
	}
	root.SetIn(h.In)
	root.SetOut(h.Out)
	root.SetErr(h.Err)
	tulle := h.Getenv("TULLE_NAMESPACE")
	if tulle == "" {
		tulle = "tulle"
	}
	access.Register(root.PersistentFlags(), tulle)
	access.Complete(root)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if _, chosen := errors.AsType[*run.ExitError](err); chosen {
			return err
		}
		return exit.With(exit.Usage, fmt.Errorf("%s: %w", c.CommandPath(), err), c.CommandPath()+" --help")
	})
	root.AddCommand(commands(access, con)...)
	for _, c := range root.Commands() {
		strict(c)
	}
	return root
}

// commands are in the order in which somebody new needs them.
func commands(a *cluster.Access, con *console.Console) []*cobra.Command {
	return []*cobra.Command{
		demo.New(con),
		check.New(a, con),
		install.New(a, con),
		upgrade.New(a, con),
		prune.New(a, con),
		uninstall.New(a, con),
		inject.New(a, con),
		uninject.New(con),
		identity.New(a, con),
		explain.New(a, con),
		diagnostics.New(a, con),
		version.New(a, con),
		completion.New(con),
	}
}

// strict makes every mistake in arguments one of usage.
func strict(c *cobra.Command) {
	if c.HasSubCommands() && c.RunE == nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown(c, args[0])
			}
			return c.Help()
		}
		c.Args = cobra.ArbitraryArgs
	}
	if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	c.Args = exit.Args(c.Args)
	c.DisableFlagsInUseLine = true
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

func unknown(c *cobra.Command, name string) error {
	err := fmt.Errorf("%s has no command %q", c.CommandPath(), name)
	if !c.HasParent() {
		err = fmt.Errorf("%w, and PATH no program tulle-%s", err, name)
	}
	hint := c.CommandPath() + " --help"
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = c.CommandPath() + " " + strings.Join(near, ", "+c.CommandPath()+" ")
	}
	return exit.With(exit.Usage, err, hint)
}

// usage gives what cobra says of a required flag or a group of flags the code of a mistake in usage.
func usage(root *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if _, chosen := errors.AsType[*run.ExitError](err); chosen {
		return err
	}
	if said := err.Error(); strings.HasPrefix(said, "required flag") || strings.HasPrefix(said, "if any flags in the group") ||
		strings.HasPrefix(said, "at least one of the flags") {
		return exit.With(exit.Usage, err, root.CommandPath()+" --help")
	}
	return err
}
