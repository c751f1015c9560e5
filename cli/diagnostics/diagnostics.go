// Package diagnostics is tulle diagnostics: what proxies and the control plane hold, seen from the inside,
// through port-forwards of the API server. Nothing of it is needed in ordinary work; a bug report is.
package diagnostics

import (
	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/console"
)

// New makes the command and those below it.
func New(a *cluster.Access, con *console.Console) *cobra.Command {
	c := &cobra.Command{
		Use:     "diagnostics",
		Aliases: []string{"dg"},
		Short:   "Look into proxies and the control plane, and collect what a bug report needs",
		Long: "diagnostics asks the admin ports of proxies and of the control plane, which answer loopback alone, through\n" +
			"port-forwards of the API server: you need the right to create pods/portforward there.",
		Example: "  tulle diagnostics endpoints web.shop:80\n" +
			"  tulle diagnostics proxy web-1 -n shop\n" +
			"  tulle diagnostics bundle -n shop",
	}
	c.AddCommand(
		newEndpoints(a, con), newPolicy(a, con), newProxy(a, con), newProxyMetrics(a, con),
		newControllerMetrics(a, con), newLogLevel(a, con), newBundle(a, con),
	)
	return c
}
