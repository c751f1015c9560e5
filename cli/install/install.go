// Package install is tulle install: the manifests of the control plane, for kubectl apply.
package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
)

type options struct {
	*cluster.Access
	con *console.Console

	values       manifest.Flags
	crds, ignore bool
	format       console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "install",
		Short: "Print the manifests of the control plane, for kubectl apply -f -",
		Long: "install prints; it changes nothing. First the definitions (--crds), then the control plane.\n" +
			"It refuses where a control plane is installed already or the definitions are missing; --ignore-cluster\n" +
			"asks no cluster at all. No certificate is in what it prints: the control plane makes its own.",
		Example: "  tulle install --crds | kubectl apply -f -\n" +
			"  tulle install | kubectl apply -f -\n" +
			"  tulle install --ha --set proxy.logLevel=debug -f mesh.yaml | kubectl apply -f -\n" +
			"  tulle install --ignore-cluster > tulle.yaml",
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.values.Register(c)
	c.Flags().BoolVar(&o.crds, "crds", false, "the definitions of Tulle's own resources, and nothing else")
	c.Flags().BoolVar(&o.ignore, "ignore-cluster", false, "ask no cluster: print for the newest Kubernetes, whatever is installed")
	console.Flag(c, &o.format, console.YAML, console.JSON)
	return c
}

func (o *options) run(ctx context.Context) error {
	chart := charts.Tulle
	if o.crds {
		chart = charts.CRDs
	}
	wishes, err := o.values.Over(manifest.Wishes{}, o.con.In)
	if err != nil {
		return err
	}
	var facts manifest.Facts
	if !o.ignore {
		if facts, err = o.ask(ctx); err != nil {
			return err
		}
	}
	raw, err := manifest.Render(chart, o.Tulle, wishes, facts)
	if err != nil {
		return err
	}
	return manifest.Print(o.con, o.format, raw)
}

// ask refuses what the cluster is not ready for.
func (o *options) ask(ctx context.Context) (manifest.Facts, error) {
	k, err := o.Cluster()
	if err != nil {
		return manifest.Facts{}, withoutCluster(err)
	}
	facts, err := manifest.Ask(ctx, k)
	if err != nil {
		return facts, withoutCluster(err)
	}
	if o.crds {
		return facts, nil
	}
	in, err := manifest.Read(ctx, k)
	if err != nil {
		return facts, err
	}
	if in != nil {
		return facts, exit.With(exit.Refused, fmt.Errorf("a control plane is already installed in namespace %s", k.Tulle), again(in))
	}
	return facts, manifest.NeedCRDs(ctx, k)
}

func again(in *manifest.Installed) string {
	if in.Helm != "" {
		return "helm upgrade " + in.Helm
	}
	return "tulle upgrade | kubectl apply -f -"
}

// withoutCluster says that no cluster is needed to print.
func withoutCluster(err error) error {
	if e, ok := errors.AsType[*exit.Error](err); ok {
		return exit.With(exit.Code(err), e.Err, "tulle install --ignore-cluster, or "+e.Hint)
	}
	return err
}
