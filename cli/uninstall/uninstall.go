// Package uninstall is tulle uninstall: everything that a cluster has of Tulle, for kubectl delete.
package uninstall

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

type options struct {
	*cluster.Access
	con *console.Console

	force, keep bool
	format      console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Print all that the cluster has of Tulle, for kubectl delete -f -",
		Long: "uninstall finds what is labelled " + manifest.PartOf + " in every group that the cluster serves, and the trust\n" +
			"bundles of other namespaces. Tulle's own definitions are among it, and your policies go with them (--keep-crds).\n" +
			"Those of the Gateway API that Tulle brought are, too, while nobody needs them: no route is left, and nobody else\n" +
			"installed another part of that API. Which ones stay, and why, is said.\n" +
			"It refuses while pods have a proxy: they would run on until their certificates expire, and then not at all.",
		Example: "  kubectl get deploy -n shop -o yaml | tulle uninject - | kubectl apply -f -\n" +
			"  tulle uninstall | kubectl delete -f -",
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.Flags().BoolVar(&o.force, "force", false, "print although pods still have a proxy")
	c.Flags().BoolVar(&o.keep, "keep-crds", false, "leave the definitions, and with them your policies and routes")
	console.Flag(c, &o.format, console.YAML, console.JSON)
	return c
}

func (o *options) run(ctx context.Context) error {
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	if !o.force {
		pods, err := mesh.Pods(ctx, k, "")
		if err != nil {
			return err
		}
		if len(pods) > 0 {
			return exit.With(exit.Refused, fmt.Errorf("%d pods still have a proxy: %s", len(pods), some(pods)),
				"kubectl get deploy -n NAMESPACE -o yaml | tulle uninject - | kubectl apply -f -, or --force")
		}
	}
	all, err := manifest.Owned(ctx, k)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(o.con.Err, "the cluster has nothing of Tulle")
		return nil
	}
	if o.keep {
		all = slices.DeleteFunc(all, func(o unstructured.Unstructured) bool { return o.GetKind() == "CustomResourceDefinition" })
	}
	all, stay, err := manifest.Spare(ctx, k, all)
	if err != nil {
		return err
	}
	for _, why := range stay {
		fmt.Fprintln(o.con.Err, why)
	}
	if err := o.askers(ctx, k); err != nil {
		return err
	}
	manifest.SortForDeletion(all)
	return manifest.PrintNames(o.con, o.format, all)
}

// askers says which namespaces go on asking for proxies: their owners wrote that, and take it back.
func (o *options) askers(ctx context.Context, k *cluster.Cluster) error {
	all, err := k.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return k.Explain("list namespaces", err)
	}
	for i := range all.Items {
		ns := &all.Items[i]
		if ns.Name == k.Tulle {
			continue
		}
		switch {
		case ns.Annotations[mesh.Inject] != "":
			fmt.Fprintf(o.con.Err, "namespace %s keeps its annotation %s: kubectl annotate namespace %s %s-, before this is applied, takes the label that mirrors it, too\n",
				ns.Name, mesh.Inject, ns.Name, mesh.Inject)
		case ns.Labels[mesh.Inject] != "":
			fmt.Fprintf(o.con.Err, "namespace %s keeps its label %s: kubectl label namespace %s %s-\n", ns.Name, mesh.Inject, ns.Name, mesh.Inject)
		}
	}
	return nil
}

// some names a few pods.
func some(pods []corev1.Pod) string {
	const most = 5
	var names []string
	for i := range pods[:min(len(pods), most)] {
		names = append(names, pods[i].Namespace+"/"+pods[i].Name)
	}
	text := strings.Join(names, ", ")
	if more := len(pods) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
