// Package inject is tulle inject: YAML in, YAML out, with workloads asking for a proxy, or with the proxy
// itself (--manual). What a proxy is made of is injector/inject's, which the webhook shares.
package inject

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/document"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

type options struct {
	*cluster.Access
	con *console.Console

	manual, ignore bool
	settings       []string
	format         console.Format

	annotations map[string]string
	mesh        *config.Mesh
	kubernetes  inject.Cluster
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "inject FILE|DIR|URL|-...",
		Short: "Have workloads ask for a proxy: YAML in, YAML out, for kubectl apply -f -",
		Long: "inject annotates the templates of pods, so that the injector gives new pods a proxy. Comments, order and\n" +
			"fields that it does not know stay as they are. With --manual the proxy itself is written, for clusters whose\n" +
			"admission must not be used. Each object is reported on stderr, with the reason where it was skipped;\n" +
			"when one fails, nothing is written. --config sets what docs/injection.md lists.",
		Example: "  kubectl get deploy -n shop -o yaml | tulle inject - | kubectl apply -f -\n" +
			"  tulle inject shop/ | kubectl apply -f -\n" +
			"  tulle inject --config opaque-ports=3306 --config log-level=debug web.yaml\n" +
			"  tulle inject --manual https://example.com/shop.yaml | kubectl apply -f -",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	c.Flags().BoolVar(&o.manual, "manual", false, "write the proxy itself, not only the wish for one")
	c.Flags().BoolVar(&o.ignore, "ignore-cluster", false, "with --manual: do not ask the cluster how the mesh was installed")
	c.Flags().StringArrayVar(&o.settings, "config", nil, "a setting of the proxy, NAME=VALUE, as annotation "+config.Prefix+"NAME; may be repeated")
	if err := c.RegisterFlagCompletionFunc("config", cobra.FixedCompletions(names(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)); err != nil {
		panic("BUG: " + err.Error())
	}
	console.Flag(c, &o.format, console.YAML, console.JSON)
	return c
}

func names() []string {
	var all []string
	for _, s := range config.Table() {
		all = append(all, s.Name+"=")
	}
	return all
}

func (o *options) run(ctx context.Context, args []string) error {
	if err := o.read(); err != nil {
		return err
	}
	o.mesh = config.Default(o.Tulle)
	if o.manual && !o.ignore {
		if err := o.ask(ctx); err != nil {
			return err
		}
	}
	return document.Transform(ctx, o.con, o.format, args, o.object)
}

// read makes annotations of --config.
func (o *options) read() error {
	o.annotations = map[string]string{inject.AnnotationInject: config.Enabled}
	for _, s := range o.settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return exit.With(exit.Usage, fmt.Errorf("--config %s: want NAME=VALUE", s), "tulle inject --help")
		}
		known := slices.ContainsFunc(config.Table(), func(s config.Setting) bool { return s.Name == name })
		if base, port, perPort := strings.Cut(name, "."); !known && (!perPort || port == "" || base != config.DefaultInboundPolicy) {
			return exit.With(exit.Usage, fmt.Errorf("--config: there is no setting %q", name), strings.TrimSuffix(strings.Join(names(), " "), " "))
		}
		o.annotations[config.Prefix+name] = value
	}
	_, _, err := config.Default(o.Tulle).Resolve(config.Layer{From: config.FromPod, Object: "--config", Annotations: o.annotations})
	if err != nil {
		return exit.With(exit.Usage, err, "docs/injection.md")
	}
	return nil
}

// ask reads how the mesh was installed.
func (o *options) ask(ctx context.Context) error {
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	in, err := manifest.Read(ctx, k)
	if err != nil {
		return err
	}
	if in == nil {
		return exit.With(exit.Refused, fmt.Errorf("no control plane is installed in namespace %s", k.Tulle), "tulle install, -L, or --ignore-cluster")
	}
	if o.mesh, err = config.FromValues(k.Tulle, []byte(in.Values)); err != nil {
		return err
	}
	v, err := k.Kube.Discovery().ServerVersion()
	if err != nil {
		return k.Explain("ask for the cluster's version", err)
	}
	o.kubernetes = inject.ClusterOf(v.Major, v.Minor)
	return nil
}

func (o *options) object(obj *document.Object) (document.Outcome, error) {
	out := document.Outcome{Object: obj.String()}
	if obj.Kind == "Namespace" {
		if obj.Name == o.Tulle || obj.Name == "kube-system" {
			out.Why = "its pods get no proxy"
			return out, nil
		}
		obj.Annotate(nil, o.annotations)
		out.Verb = "annotated"
		return out, nil
	}
	path, makesPods := inject.Path(obj.Kind)
	if !makesPods {
		out.Why = "it makes no pods"
		return out, nil
	}
	var before corev1.PodTemplateSpec
	if err := obj.Decode(path, &before); err != nil {
		return out, err
	}
	asking := *before.DeepCopy()
	if said := before.Annotations[inject.AnnotationInject]; said == "" || said == config.Enabled {
		asking.Annotations = merged(before.Annotations, o.annotations)
	}
	after, report, err := inject.Inject(asking, o.params(obj))
	if err != nil {
		return out, err
	}
	out.Notices = report.Notices
	if report.Reason != "" {
		out.Why = report.Why
		return out, nil
	}
	if !o.manual {
		obj.Annotate(path, o.annotations)
		out.Verb = "annotated"
		return out, nil
	}
	out.Verb = "injected"
	return out, obj.Replace(path, before, after)
}

func (o *options) params(obj *document.Object) inject.Params {
	namespace := obj.Namespace
	if namespace == "" {
		namespace = o.Namespace
	}
	owner := obj.Name
	if obj.Kind == "Pod" {
		owner = "" // its owner references say
	}
	return inject.Params{
		Mesh: o.mesh, Cluster: o.kubernetes, Namespace: inject.Namespace{Name: namespace}, Object: obj.String(), Owner: owner,
	}
}

func merged(a, b map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}
