// Package completion is tulle completion: scripts that have a shell complete commands, flags and names.
package completion

import (
	"github.com/spf13/cobra"

	"github.com/tulle-mesh/tulle/cli/console"
)

// New makes the command.
func New(con *console.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that has your shell complete commands, flags, namespaces and pods",
		Example: "  source <(tulle completion bash)\n" +
			"  tulle completion zsh > \"${fpath[1]}/_tulle\"\n" +
			"  tulle completion fish > ~/.config/fish/completions/tulle.fish\n" +
			"  tulle completion powershell | Out-String | Invoke-Expression",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(con.Out, true)
			case "zsh":
				return root.GenZshCompletion(con.Out)
			case "fish":
				return root.GenFishCompletion(con.Out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(con.Out)
			}
		},
	}
}
