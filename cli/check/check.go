package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/internal/run"
)

type options struct {
	*cluster.Access
	con *console.Console

	pre, proxy bool
	wait       time.Duration
	only       []string
	values     manifest.Flags
	format     console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the cluster, the control plane or the proxies, and what to do",
		Long: "check asks one question after the other; each bad answer comes with what to try and where it is explained.\n" +
			"With --pre it looks at a cluster before Tulle is installed: give it the flags that you will give install.\n" +
			"With --proxy it also asks the proxies, of -n or of all namespaces. It changes nothing.\n" +
			fmt.Sprintf("Exit code %d says that a check failed; warnings are no failure.", exit.Unhealthy),
		Example: "  tulle check --pre --ha\n" +
			"  tulle check\n" +
			"  tulle check --proxy -n shop\n" +
			"  tulle check --wait 0 -o json --only webhook,unmeshed",
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	f.BoolVar(&o.pre, "pre", false, "before installing: is the cluster ready for it?")
	f.BoolVar(&o.proxy, "proxy", false, "ask the proxies, too")
	f.DurationVar(&o.wait, "wait", 2*time.Minute, "how long what may still come up is waited for; 0: not at all")
	f.StringSliceVar(&o.only, "only", nil, "checks to make, by the name after # of their page, and those that they need")
	o.values.Register(c)
	for _, name := range []string{"profile", "ha", "values", "set", "set-string", "set-file"} {
		f.Lookup(name).Usage = "with --pre: " + f.Lookup(name).Usage
	}
	c.MarkFlagsMutuallyExclusive("pre", "proxy")
	if err := c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(anchors(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("BUG: " + err.Error())
	}
	console.Flag(c, &o.format, console.Table, console.JSON, console.Short)
	return c
}

func anchors() []string {
	var all []string
	for _, c := range Table() {
		all = append(all, c.Anchor)
	}
	return all
}

func (o *options) run(c *cobra.Command) error {
	table, err := o.table(c)
	if err != nil {
		return err
	}
	wishes, err := o.values.Over(manifest.Wishes{}, o.con.In)
	if err != nil {
		return err
	}
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	mode := After
	switch {
	case o.pre:
		mode = Before
	case o.proxy:
		mode = After | Proxies
	}
	v := newView(o.con, o.format, k.Tulle)
	r := &runner{env: &env{Cluster: k, only: o.Namespace, wishes: wishes}, wait: o.wait, told: v.waiting}
	if err := r.run(c.Context(), table, mode, v.result); err != nil {
		v.end()
		if errors.Is(err, context.Canceled) {
			return &run.ExitError{Code: exit.Failed, Err: errors.New("interrupted")}
		}
		return err
	}
	return v.finish()
}

// table is what --only leaves: with the fatal checks, which say whether the others can be made.
func (o *options) table(c *cobra.Command) ([]Check, error) {
	all := Table()
	if len(o.only) == 0 {
		return all, nil
	}
	for _, name := range o.only {
		if !slices.Contains(anchors(), name) {
			return nil, console.Usage(c, "--only: there is no check %q; there are %s", name, strings.Join(anchors(), ", "))
		}
	}
	return slices.DeleteFunc(all, func(c Check) bool { return !c.Fatal && !slices.Contains(o.only, c.Anchor) }), nil
}
