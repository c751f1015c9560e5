// Package prune is tulle prune: what an older version left in a cluster, for kubectl delete.
package prune

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

type options struct {
	*cluster.Access
	con    *console.Console
	format console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "prune",
		Short: "Print what an older version left behind, for kubectl delete -f -",
		Long: "prune compares what the cluster has of Tulle with what this version would install with the same values,\n" +
			"and prints the rest. What the control plane makes for itself (certificates, trust bundles, leases) stays.",
		Example: "  tulle upgrade | kubectl apply -f -\n  tulle prune | kubectl delete -f -",
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	console.Flag(c, &o.format, console.YAML, console.JSON)
	return c
}

func (o *options) run(ctx context.Context) error {
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	in, err := manifest.Read(ctx, k)
	if err != nil {
		return err
	}
	switch {
	case in == nil:
		return exit.With(exit.Refused, fmt.Errorf("no control plane is installed in namespace %s", k.Tulle), "tulle uninstall, which finds what is left")
	case in.Helm != "":
		return exit.With(exit.Refused, fmt.Errorf("it is release %s of Helm, which prunes by itself", in.Helm), "helm upgrade "+in.Helm)
	}
	wanted, err := wanted(ctx, k, in)
	if err != nil {
		return err
	}
	all, err := manifest.Owned(ctx, k)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(all, func(o unstructured.Unstructured) bool { return wanted[manifest.KeyOf(&o)] || madeAtRunTime(&o) })
	rest, stay, err := manifest.Spare(ctx, k, rest)
	if err != nil {
		return err
	}
	for _, why := range stay {
		fmt.Fprintln(o.con.Err, why)
	}
	if len(rest) == 0 {
		fmt.Fprintln(o.con.Err, "nothing is left of older versions")
		return nil
	}
	manifest.SortForDeletion(rest)
	return manifest.PrintNames(o.con, o.format, rest)
}

// wanted are the objects that this version installs.
func wanted(ctx context.Context, k *cluster.Cluster, in *manifest.Installed) (map[manifest.Key]bool, error) {
	facts, err := manifest.Ask(ctx, k)
	if err != nil {
		return nil, err
	}
	want := map[manifest.Key]bool{}
	for _, chart := range []string{charts.CRDs, charts.Tulle} {
		raw, err := manifest.Render(chart, k.Tulle, in.Wishes, facts)
		if err != nil {
			return nil, err
		}
		all, err := manifest.Parse(raw)
		if err != nil {
			return nil, err
		}
		for i := range all {
			want[manifest.KeyOf(&all[i])] = true
		}
	}
	return want, nil
}

// madeAtRunTime reports whether the control plane, not the chart, makes o.
func madeAtRunTime(o *unstructured.Unstructured) bool {
	switch o.GetKind() {
	case "Secret":
		return slices.Contains([]string{mesh.RootSecret, mesh.IssuerSecret, mesh.InjectorSecret}, o.GetName())
	case "ConfigMap":
		return o.GetName() == mesh.Bundle
	case "Lease":
		return true
	}
	return false
}
