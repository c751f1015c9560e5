package diagnostics

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/cli/mesh"
)

func newPolicy(a *cluster.Access, con *console.Console) *cobra.Command {
	var f console.Format
	c := &cobra.Command{
		Use:   "policy POD|svc/NAME",
		Short: "Show the policy of a pod's door or of a Service's clients, as the control plane has it and as the proxy holds it",
		Long: "policy shows for a pod its inbound policy, from the destination service and from the proxy, so that a difference\n" +
			"is seen; for a Service what proxies of clients are told, per port: protocol, routes, limits.",
		Example: "  tulle diagnostics policy web-1 -n shop\n" +
			"  tulle diagnostics policy svc/web -n shop -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Pods(),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.Cluster()
			if err != nil {
				return err
			}
			ref, err := mesh.ParseRef(args[0], "Pod")
			if err != nil {
				return err
			}
			var v any
			if ref.Kind == "Service" {
				v, err = servicePolicy(c.Context(), k, ref.Name)
			} else {
				v, err = podPolicy(c.Context(), k, args[0])
			}
			if err != nil {
				return err
			}
			return con.Write(f, v, nil)
		},
	}
	console.Flag(c, &f, console.YAML, console.JSON)
	return c
}

// twoSides is a pod's inbound policy from both ends of its stream.
type twoSides struct {
	Pod          string `json:"pod"`
	ControlPlane string `json:"controlPlane"`
	Proxy        any    `json:"proxy"`
}

func podPolicy(ctx context.Context, k *cluster.Cluster, arg string) (any, error) {
	pods, err := proxies(ctx, k, []string{arg})
	if err != nil {
		return nil, err
	}
	v, err := readState(ctx, k)
	if err != nil {
		return nil, err
	}
	out := []twoSides{}
	for i := range pods {
		p := &pods[i]
		raw, err := askProxy(ctx, k, p, "/debug/policies")
		if err != nil {
			return nil, err
		}
		one := twoSides{Pod: p.Namespace + "/" + p.Name}
		if one.ControlPlane = v.inbound[one.Pod]; one.ControlPlane == "" {
			one.ControlPlane = "the destination service knows no such workload"
		}
		if err := json.Unmarshal(raw, &one.Proxy); err != nil {
			return nil, fmt.Errorf("/debug/policies: %w", err)
		}
		out = append(out, one)
	}
	return out, nil
}

func servicePolicy(ctx context.Context, k *cluster.Cluster, name string) (any, error) {
	v, err := readState(ctx, k)
	if err != nil {
		return nil, err
	}
	type port struct {
		Target  string   `json:"target"`
		Policy  string   `json:"policy"`
		Clients []string `json:"clients,omitempty"`
	}
	ports := []port{}
	for i := range v.targets {
		t := &v.targets[i]
		if strings.HasPrefix(t.Name, k.Namespace+"/"+name+":") {
			ports = append(ports, port{t.Name, t.Policy, t.Clients})
		}
	}
	if len(ports) == 0 {
		return nil, exit.With(exit.Failed, fmt.Errorf("the destination service knows no service %s/%s", k.Namespace, name), "another namespace with -n; tulle check")
	}
	return ports, nil
}
