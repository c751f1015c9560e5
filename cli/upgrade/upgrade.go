// Package upgrade is tulle upgrade: the manifests of this version with what the user of the installed
// one had set.
package upgrade

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/charts"
	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/version"
)

type options struct {
	*cluster.Access
	con *console.Console

	values             manifest.Flags
	crds, reset, force bool
	format             console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Print the manifests of this version with what you had set, for kubectl apply -f -",
		Long: "upgrade reads from ConfigMap tulle-config what was set when the control plane was installed, puts the\n" +
			"flags of this command over it, and prints. Defaults of the old version are not kept, what you set is.\n" +
			"Certificates are not touched. It refuses where nothing is installed, where Helm installed it, where the\n" +
			"definitions are missing, and to go back to an older version (--force).",
		Example: "  tulle upgrade --crds | kubectl apply -f -\n" +
			"  tulle upgrade | kubectl apply -f -; tulle prune | kubectl delete -f -\n" +
			"  tulle upgrade --set proxy.logLevel=warn | kubectl diff -f -\n" +
			"  tulle upgrade --reset-values -f mesh.yaml | kubectl apply -f -",
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.values.Register(c)
	c.Flags().BoolVar(&o.crds, "crds", false, "the definitions of Tulle's own resources, and nothing else")
	c.Flags().BoolVar(&o.reset, "reset-values", false, "forget what was set before")
	c.Flags().BoolVar(&o.force, "force", false, "go back to an older version, too")
	console.Flag(c, &o.format, console.YAML, console.JSON)
	return c
}

func (o *options) run(ctx context.Context) error {
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	in, err := manifest.Read(ctx, k)
	if errors.Is(err, manifest.ErrWishes) && !o.reset {
		return exit.With(exit.Refused, err, "tulle upgrade --reset-values, with the flags that it was installed with")
	} else if err != nil && !errors.Is(err, manifest.ErrWishes) {
		return err
	}
	if err := o.refuse(ctx, k, in); err != nil {
		return err
	}
	facts, err := manifest.Ask(ctx, k)
	if err != nil {
		return err
	}
	if o.crds {
		raw, err := manifest.Render(charts.CRDs, o.Tulle, manifest.Wishes{}, facts)
		if err != nil {
			return err
		}
		return manifest.Print(o.con, o.format, raw)
	}
	if err := manifest.NeedCRDs(ctx, k); err != nil {
		return err
	}
	before := in.Wishes
	if o.reset {
		before = manifest.Wishes{}
	}
	wishes, err := o.values.Over(before, o.con.In)
	if err != nil {
		return err
	}
	raw, err := manifest.Render(charts.Tulle, o.Tulle, wishes, facts)
	if err != nil {
		return err
	}
	return manifest.Print(o.con, o.format, raw)
}

func (o *options) refuse(ctx context.Context, k *cluster.Cluster, in *manifest.Installed) error {
	switch {
	case in == nil:
		return exit.With(exit.Refused, fmt.Errorf("no control plane is installed in namespace %s", k.Tulle), "tulle install, or -L with its namespace")
	case in.Helm != "":
		return exit.With(exit.Refused, fmt.Errorf("it is release %s of Helm", in.Helm), "helm upgrade "+in.Helm)
	case o.force:
		return nil
	}
	d, err := k.Kube.AppsV1().Deployments(k.Tulle).Get(ctx, mesh.Destination, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return k.Explain("get the control plane's version", err)
	}
	there := mesh.DeploymentVersion(d)
	if mesh.Older(version.Number(), there) {
		return exit.With(exit.Refused, fmt.Errorf("this is tulle %s, and %s is installed: that would go back", version.Number(), there),
			"tulle of the newer version, or --force")
	}
	return nil
}
