// Package explain is tulle explain: every setting in force for a pod or a Service, and where it came from.
package explain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

type options struct {
	*cluster.Access
	con *console.Console

	set    bool
	format console.Format
}

// New makes the command.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	o := &options{Access: a, con: con}
	c := &cobra.Command{
		Use:   "explain POD|KIND/NAME",
		Short: "Say which settings are in force for a pod or a Service, and where each came from",
		Long: "explain says of a pod, or of the pods of a workload, whether it has a proxy and why, and lists every setting with the\n" +
			"annotation, value of the chart or default that it came from. Of a Service it says what each port is taken to speak.",
		Example: "  tulle explain web-1 -n shop\n" +
			"  tulle explain deploy/web -n shop --set-only\n" +
			"  tulle explain svc/db -n shop\n" +
			"  tulle explain web-1 -n shop -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Pods(),
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.Context(), args[0]) },
	}
	c.Flags().BoolVar(&o.set, "set-only", false, "without settings that are at their defaults")
	console.Flag(c, &o.format, console.Table, console.JSON, console.YAML)
	return c
}

func (o *options) run(ctx context.Context, arg string) error {
	ref, err := mesh.ParseRef(arg, "Pod")
	if err != nil {
		return err
	}
	k, err := o.Cluster()
	if err != nil {
		return err
	}
	m, err := settings(ctx, k)
	if err != nil {
		return err
	}
	if ref.Kind == "Service" {
		return o.service(ctx, k, ref.Name)
	}
	pods, err := mesh.Select(ctx, k, []string{arg}, "")
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return exit.With(exit.Failed, fmt.Errorf("%s in namespace %s has no pods", arg, k.Namespace), "")
	}
	return o.pod(ctx, k, m, &pods[0])
}

// settings are the mesh's.
func settings(ctx context.Context, k *cluster.Cluster) (*config.Mesh, error) {
	in, err := manifest.Read(ctx, k)
	if err != nil {
		return nil, err
	}
	if in == nil {
		return nil, exit.With(exit.Refused, fmt.Errorf("no control plane is installed in namespace %s", k.Tulle), "-L with its namespace")
	}
	return config.FromValues(k.Tulle, []byte(in.Values))
}

// podReport is what is said of a pod.
type podReport struct {
	Pod      string    `json:"pod"`
	Proxy    string    `json:"proxy,omitempty"` // the version it has
	Why      string    `json:"why"`
	Notices  []string  `json:"notices,omitempty"`
	Settings []setting `json:"settings"`
}

type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	From   string `json:"from"`
	Object string `json:"object,omitempty"`
}

func (o *options) pod(ctx context.Context, k *cluster.Cluster, m *config.Mesh, p *corev1.Pod) error {
	ns, err := k.Kube.CoreV1().Namespaces().Get(ctx, p.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return exit.With(exit.Unreachable, fmt.Errorf("you may not read namespace %s, whose annotations hold for its pods", p.Namespace), "--as")
	case err != nil:
		return k.Explain("get namespace "+p.Namespace, err)
	}
	r := podReport{Pod: p.Namespace + "/" + p.Name, Settings: []setting{}}
	if mesh.ProxyContainer(&p.Spec) != nil {
		r.Proxy = mesh.ProxyVersion(p)
	}
	object := "pod " + r.Pod
	_, said, injectErr := inject.Inject(corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}, inject.Params{
		Mesh: m, Namespace: inject.Namespace{Name: ns.Name, Annotations: ns.Annotations, Labels: ns.Labels}, Object: object,
	})
	r.Why, r.Notices = why(r.Proxy, &said, injectErr), said.Notices
	set, _, err := m.Resolve(
		config.Layer{From: config.FromNamespace, Object: "namespace " + ns.Name, Annotations: ns.Annotations},
		config.Layer{From: config.FromPod, Object: object, Annotations: p.Annotations},
	)
	if err == nil {
		for _, v := range set.All() {
			if o.set && v.From == config.FromDefault {
				continue
			}
			r.Settings = append(r.Settings, setting{Name: v.Name, Value: v.Text, From: string(v.From), Object: v.Object})
		}
	}
	if werr := o.con.Write(o.format, r, func(w io.Writer) error { return table(w, &r) }); werr != nil {
		return werr
	}
	return errors.Join(err, injectErr)
}

// why says in a sentence how a pod stands.
func why(proxy string, r *inject.Report, err error) string {
	switch {
	case err != nil:
		return "no new pod like it can be created: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	case proxy != "" && r.Reason != "":
		return "it has a proxy; a new pod like it would have none: " + r.Why
	case proxy != "":
		return "it has a proxy"
	case r.Reason != "":
		return "it has no proxy: " + r.Why
	}
	return "it has no proxy, and a new pod like it gets one: it was created before that was asked for, or while the injector was away"
}

func table(w io.Writer, r *podReport) error {
	fmt.Fprintf(w, "pod %s: %s\n", r.Pod, console.Clean(r.Why))
	if r.Proxy != "" {
		fmt.Fprintf(w, "proxy %s\n", r.Proxy)
	}
	for _, n := range r.Notices {
		fmt.Fprintf(w, "! %s\n", console.Clean(n))
	}
	if len(r.Settings) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	rows := [][]string{{"SETTING", "VALUE", "FROM"}}
	for _, s := range r.Settings {
		from := s.From
		if s.Object != "" {
			from = s.Object
		}
		value := s.Value
		if value == "" {
			value = "-"
		}
		rows = append(rows, []string{s.Name, value, from})
	}
	return console.Rows(w, rows)
}
