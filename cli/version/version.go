// Package version is tulle version: what runs here, in the control plane and beside workloads.
package version

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/version"
)

type options struct {
	*cluster.Access
	con *console.Console

	client, short, proxies bool
	format                 console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, the control plane and the proxies",
		Long: "version prints what this program is, what the control plane runs and, with --proxies, what the proxies run.\n" +
			"A cluster that cannot be reached is said and is no error.",
		Example: "  tulle version\n  tulle version --client --short\n  tulle version --proxies -n shop -o json",
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.Flags().BoolVar(&o.client, "client", false, "this program alone; no cluster is asked")
	c.Flags().BoolVar(&o.short, "short", false, "numbers alone, without a commit")
	c.Flags().BoolVar(&o.proxies, "proxies", false, "the proxies too: of -n, or of every namespace")
	console.Flag(c, &o.format, console.Table, console.JSON, console.YAML)
	return c
}

// report is what is printed; its fields are the JSON.
type report struct {
	Client  string  `json:"client"`
	Server  string  `json:"server,omitempty"`
	Missing string  `json:"serverUnknown,omitempty"`
	Proxies []proxy `json:"proxies,omitempty"`
}

type proxy struct {
	Version string `json:"version"`
	Pods    int    `json:"pods"`
}

func (o *options) run(ctx context.Context) error {
	r := report{Client: version.String()}
	if o.short {
		r.Client = version.Number()
	}
	if !o.client {
		if err := o.ask(ctx, &r); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.Missing, _, _ = strings.Cut(err.Error(), "\n") // the hint is for those who need the cluster
		}
	}
	return o.con.Write(o.format, r, func(w io.Writer) error { return o.table(w, r) })
}

func (o *options) table(w io.Writer, r report) error {
	if o.short && o.client {
		_, err := fmt.Fprintln(w, r.Client)
		return err
	}
	fmt.Fprintf(w, "Client: %s\n", r.Client)
	switch {
	case o.client:
	case r.Server != "":
		fmt.Fprintf(w, "Server: %s\n", r.Server)
	default:
		fmt.Fprintf(w, "Server: unknown (%s)\n", console.Clean(r.Missing))
	}
	if o.proxies {
		fmt.Fprintln(w, "Proxies:")
		for _, p := range r.Proxies {
			fmt.Fprintf(w, "  %s in %d pods\n", p.Version, p.Pods)
		}
	}
	return nil
}

func (o *options) ask(ctx context.Context, r *report) error {
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	d, err := k.Kube.AppsV1().Deployments(k.Tulle).Get(ctx, mesh.Destination, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return errors.New("no control plane in namespace " + k.Tulle)
	case err != nil:
		return k.Explain("get the control plane's version", err)
	}
	r.Server = mesh.DeploymentVersion(d)
	if !o.proxies {
		return nil
	}
	pods, err := mesh.Pods(ctx, k, o.Namespace)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	for i := range pods {
		counts[mesh.ProxyVersion(&pods[i])]++
	}
	for v, n := range counts {
		r.Proxies = append(r.Proxies, proxy{v, n})
	}
	slices.SortFunc(r.Proxies, func(a, b proxy) int { return cmp.Compare(a.Version, b.Version) })
	return nil
}
