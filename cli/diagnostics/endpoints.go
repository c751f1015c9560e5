package diagnostics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/internal/held"
)

func newEndpoints(a *cluster.Access, con *console.Console) *cobra.Command {
	var f console.Format
	var pod string
	c := &cobra.Command{
		Use:     "endpoints AUTHORITY...",
		Aliases: []string{"ep"},
		Short:   "Show the endpoints of a target, as the control plane knows them or as one proxy holds them",
		Long: "endpoints asks the destination service which endpoints a proxy is told that dials the authority: a Service's\n" +
			"name and port, long or short, or an address. With --pod it asks that pod's proxy what it holds, with the\n" +
			"load and the latency that it sees.",
		Example: "  tulle diagnostics endpoints web.shop:80\n" +
			"  tulle diagnostics endpoints 10.96.3.7:80 -o json\n" +
			"  tulle diagnostics endpoints --pod traffic-1 -n shop web.shop:80",
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && pod == "" {
				return console.Usage(c, "endpoints of what? name an authority such as web.shop:80, or a pod with --pod")
			}
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			if pod != "" {
				return heldEndpoints(c.Context(), k, con, f, pod, args)
			}
			return knownEndpoints(c.Context(), k, con, f, args)
		},
	}
	c.Flags().StringVar(&pod, "pod", "", "ask this pod's proxy, of -n")
	if err := c.RegisterFlagCompletionFunc("pod", a.Pods()); err != nil {
		panic("BUG: " + err.Error())
	}
	console.Flag(c, &f, console.Table, console.JSON, console.YAML)
	return c
}

func knownEndpoints(ctx context.Context, k *cluster.Cluster, con *console.Console, f console.Format, args []string) error {
	v, err := readState(ctx, k)
	if err != nil {
		return err
	}
	found := make([]*target, 0, len(args))
	for _, arg := range args {
		t := v.find(arg)
		if t == nil {
			return exit.With(exit.Failed, fmt.Errorf("the destination service knows no target %q", arg), nearTargets(v, arg))
		}
		found = append(found, t)
	}
	return con.Write(f, found, func(w io.Writer) error {
		rows := [][]string{{"TARGET", "ENDPOINT", "PROTOCOL", "IDENTITY", "POD", "ZONE"}}
		for _, t := range found {
			for _, e := range t.Endpoints {
				who := e.Identity
				if who == "" {
					who = "plaintext: " + e.NoTLS
				}
				rows = append(rows, []string{t.Name, e.Address, e.Protocol, who, e.Labels["pod"], e.Labels["zone"]})
			}
		}
		if len(rows) == 1 {
			fmt.Fprintln(con.Err, "there are no endpoints")
		}
		return console.Rows(w, rows)
	})
}

// nearTargets proposes names that hold the first part of what was asked for.
func nearTargets(v *view, arg string) string {
	first, _, _ := strings.Cut(arg, ".")
	first, _, _ = strings.Cut(first, ":")
	var near []string
	for i := range v.targets {
		for _, c := range v.targets[i].Called {
			if strings.HasPrefix(c, first) && len(near) < 5 {
				near = append(near, c)
				break
			}
		}
	}
	if len(near) == 0 {
		return "NAME.NAMESPACE:PORT of a Service"
	}
	return strings.Join(near, ", ")
}

func heldEndpoints(ctx context.Context, k *cluster.Cluster, con *console.Console, f console.Format, pod string, authorities []string) error {
	pods, err := proxies(ctx, k, []string{pod})
	if err != nil {
		return err
	}
	raw, err := k.Get(ctx, cluster.Ask{Namespace: pods[0].Namespace, Pod: pods[0].Name, Port: mesh.ProxyAdmin, Path: "/debug/endpoints"})
	if err != nil {
		return err
	}
	var all []held.Endpoint
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("/debug/endpoints: %w", err)
	}
	chosen := []held.Endpoint{}
	for _, e := range all {
		if len(authorities) == 0 || matchesAny(e.Target, authorities) {
			chosen = append(chosen, e)
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintln(con.Err, "the proxy holds no such endpoints: it asks for a target when its application dials it")
	}
	return con.Write(f, chosen, func(w io.Writer) error {
		rows := [][]string{{"TARGET", "ENDPOINT", "IDENTITY", "POD", "LOAD", "ESTIMATE", "STATE"}}
		for _, e := range chosen {
			who, state := e.Identity, "good"
			if who == "" {
				who = "plaintext: " + e.NoTLS
			}
			switch {
			case e.Ejected:
				state = "ejected"
			case e.Terminating:
				state = "terminating"
			}
			rows = append(rows, []string{e.Target, e.Addr, who, e.Pod, fmt.Sprint(e.Load), fmt.Sprintf("%.1fms", e.EstimateMs), state})
		}
		return console.Rows(w, rows)
	})
}

func matchesAny(target string, authorities []string) bool {
	for _, a := range authorities {
		if target == a || strings.HasPrefix(target, a) {
			return true
		}
	}
	return false
}
