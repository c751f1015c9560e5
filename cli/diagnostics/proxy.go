package diagnostics

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

// proxies are the pods with a proxy that args name.
func proxies(ctx context.Context, k *cluster.Cluster, args []string) ([]corev1.Pod, error) {
	pods, err := mesh.Select(ctx, k, args, "")
	if err != nil {
		return nil, err
	}
	return mesh.WithProxy(k, pods)
}

// askProxy asks a pod's proxy.
func askProxy(ctx context.Context, k *cluster.Cluster, p *corev1.Pod, path string) ([]byte, error) {
	return k.Get(ctx, cluster.Ask{Namespace: p.Namespace, Pod: p.Name, Port: mesh.ProxyAdmin, Path: path})
}

func newProxy(a *cluster.Access, con *console.Console) *cobra.Command {
	var f console.Format
	c := &cobra.Command{
		Use:   "proxy POD|KIND/NAME",
		Short: "Show what a proxy holds: readiness, targets, endpoints, policies, certificate",
		Example: "  tulle diagnostics proxy web-1 -n shop\n" +
			"  tulle diagnostics proxy deploy/web -n shop -o yaml",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Pods(),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			pods, err := proxies(c.Context(), k, args)
			if err != nil {
				return err
			}
			out := map[string]any{"pod": pods[0].Namespace + "/" + pods[0].Name, "version": mesh.ProxyVersion(&pods[0])}
			ready, err := askProxy(c.Context(), k, &pods[0], "/ready")
			if err != nil && len(ready) == 0 {
				return err
			}
			out["ready"] = strings.Split(strings.TrimSpace(string(ready)), "\n")
			for _, what := range []string{"identity", "targets", "endpoints", "policies"} {
				raw, err := askProxy(c.Context(), k, &pods[0], "/debug/"+what)
				if err != nil {
					return err
				}
				var v any
				if err := json.Unmarshal(raw, &v); err != nil {
					return fmt.Errorf("/debug/%s: %w", what, err)
				}
				out[what] = v
			}
			return con.Write(f, out, nil)
		},
	}
	console.Flag(c, &f, console.YAML, console.JSON)
	return c
}

func newProxyMetrics(a *cluster.Access, con *console.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "proxy-metrics POD|KIND/NAME...",
		Short: "Print the metrics of proxies, in Prometheus' text format",
		Example: "  tulle diagnostics proxy-metrics web-1 -n shop\n" +
			"  tulle diagnostics proxy-metrics deploy/web -n shop | grep request_total",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.Pods(),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			pods, err := proxies(c.Context(), k, args)
			if err != nil {
				return err
			}
			return printMetrics(c.Context(), k, con, pods, mesh.ProxyAdmin)
		},
	}
}

func newControllerMetrics(a *cluster.Access, con *console.Console) *cobra.Command {
	return &cobra.Command{
		Use:     "controller-metrics",
		Short:   "Print the metrics of the control plane, in Prometheus' text format",
		Example: "  tulle diagnostics controller-metrics | grep discovery_",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			pods, err := mesh.ControlPods(c.Context(), k, "")
			if err != nil {
				return err
			}
			if len(pods) == 0 {
				return exit.With(exit.Failed, fmt.Errorf("there is no control plane in namespace %s", k.Tulle), "-L with its namespace; tulle check")
			}
			return printMetrics(c.Context(), k, con, pods, mesh.ControllerAdmin)
		},
	}
}

// printMetrics prints what each pod serves; one that does not answer is said and fails the command at its end.
func printMetrics(ctx context.Context, k *cluster.Cluster, con *console.Console, pods []corev1.Pod, port int) error {
	silent := 0
	for i := range pods {
		p := &pods[i]
		fmt.Fprintf(con.Out, "#\n# pod %s/%s (%d of %d)\n#\n", p.Namespace, p.Name, i+1, len(pods))
		raw, err := k.Get(ctx, cluster.Ask{Namespace: p.Namespace, Pod: p.Name, Port: port, Path: "/metrics"})
		if err != nil {
			silent++
			fmt.Fprintf(con.Err, "%s %s\n", con.PaintErr(console.Bad, "×"), console.Clean(err.Error()))
			continue
		}
		if _, err := con.Out.Write(raw); err != nil {
			return err
		}
	}
	if silent > 0 {
		return fmt.Errorf("%d of %d pods did not answer", silent, len(pods))
	}
	return nil
}

// levels are the log levels that can be set.
var levels = []string{"debug", "info", "warn", "error"}

func newLogLevel(a *cluster.Access, con *console.Console) *cobra.Command {
	c := &cobra.Command{
		Use:   "log-level POD|KIND/NAME|identity|destination|injector [LEVEL]",
		Short: "Show or set the log level of proxies or of a service of the control plane, without a restart",
		Long: "log-level shows the level, or sets it to " + strings.Join(levels, ", ") + ". It holds until the pod ends; the annotation\n" +
			"config.tulle.dev/log-level holds for new pods.",
		Example: "  tulle diagnostics log-level web-1 debug -n shop\n" +
			"  tulle diagnostics log-level deploy/web -n shop\n" +
			"  tulle diagnostics log-level destination debug",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			level := ""
			if len(args) == 2 {
				level = args[1]
			}
			return logLevel(c, k, con, args[0], level)
		},
	}
	c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return levels, cobra.ShellCompDirectiveNoFileComp
		}
		return a.Pods()(c, args, begun)
	}
	return c
}

func logLevel(c *cobra.Command, k *cluster.Cluster, con *console.Console, of, level string) error {
	if level != "" && !isLevel(level) {
		return console.Usage(c, "%q is no level: want %s", level, strings.Join(levels, ", "))
	}
	pods, port, err := speakers(c.Context(), k, of)
	if err != nil {
		return err
	}
	for i := range pods {
		ask := cluster.Ask{Namespace: pods[i].Namespace, Pod: pods[i].Name, Port: port, Path: "/debug/log-level"}
		if level != "" {
			ask.Method, ask.Body = "PUT", `{"level":`+strconv.Quote(level)+`}`
		}
		raw, err := k.Get(c.Context(), ask)
		if err != nil {
			return err
		}
		var said struct {
			Level string `json:"level"`
		}
		if err := json.Unmarshal(raw, &said); err != nil {
			return fmt.Errorf("/debug/log-level: %w", err)
		}
		fmt.Fprintf(con.Out, "pod %s/%s: %s\n", pods[i].Namespace, pods[i].Name, console.Clean(said.Level))
	}
	return nil
}

func isLevel(s string) bool {
	return slices.Contains(levels, s)
}

// speakers are the pods that a word names, of the control plane or with a proxy, and their admin port.
func speakers(ctx context.Context, k *cluster.Cluster, of string) ([]corev1.Pod, int, error) {
	switch of {
	case "identity", "destination", "injector":
		pods, err := mesh.ControlPods(ctx, k, "tulle-"+of)
		if err == nil && len(pods) == 0 {
			err = exit.With(exit.Failed, fmt.Errorf("there is no %s in namespace %s", of, k.Tulle), "-L with its namespace; tulle check")
		}
		return pods, mesh.ControllerAdmin, err
	}
	pods, err := proxies(ctx, k, []string{of})
	return pods, mesh.ProxyAdmin, err
}
