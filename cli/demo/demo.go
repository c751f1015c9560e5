// Package demo is tulle demo: a whole mesh on this machine, without a cluster. What it does lives in
// the root's package demo, which cmd/tulle-demo runs too.
package demo

import (
	"flag"

	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/demo"
)

// New makes the command.
func New(con *console.Console) *cobra.Command {
	var cfg demo.Config
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a whole mesh on this machine: no root, no cluster, nothing but loopback",
		Long: "demo starts the control plane and a sample shop whose services each have a proxy, and shows a live table:\n" +
			"requests, success, latencies, and how much of it is mutual TLS. docs/demo.md says what there is to see.",
		Example: "  tulle demo\n" +
			"  tulle demo --duration 30s --output json\n" +
			"  tulle demo --balancing round-robin --scenario " + demo.Scenarios()[0],
		RunE: func(c *cobra.Command, _ []string) error { return demo.Run(c.Context(), cfg, con.Streams) },
	}
	var f flag.FlagSet
	cfg.Flags(&f)
	f.VisitAll(func(one *flag.Flag) {
		if one.Name != "o" {
			c.Flags().AddGoFlag(one)
		}
	})
	c.Flags().VarP(output{&cfg}, "output", "o", "json: print the last table as JSON")
	return c
}

// output is -o, which the demo's own flags know by one letter only.
type output struct{ cfg *demo.Config }

func (o output) String() string     { return o.cfg.Output }
func (o output) Type() string       { return "format" }
func (o output) Set(s string) error { o.cfg.Output = s; return nil }
