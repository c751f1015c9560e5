// Package uninject is tulle uninject: YAML in, YAML out, without proxies and without the wish for them.
package uninject

import (
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/document"
	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// New makes the command.
func New(con *console.Console) *cobra.Command {
	var f console.Format
	c := &cobra.Command{
		Use:   "uninject FILE|DIR|URL|-...",
		Short: "Take proxies, and the wish for them, out of workloads: YAML in, YAML out",
		Long: "uninject takes out what inject put in: the annotations " + inject.AnnotationInject + " and " + config.Prefix + "*, and, where the\n" +
			"proxy itself was written, the proxy, with the probes and hooks as they were before. No cluster is asked.",
		Example: "  kubectl get deploy -n shop -o yaml | tulle uninject - | kubectl apply -f -\n" +
			"  tulle uninject shop/ > plain.yaml",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return document.Transform(c.Context(), con, f, args, object)
		},
	}
	console.Flag(c, &f, console.YAML, console.JSON)
	return c
}

func object(obj *document.Object) (document.Outcome, error) {
	out := document.Outcome{Object: obj.String()}
	path, makesPods := inject.Path(obj.Kind)
	if obj.Kind == "Namespace" {
		path, makesPods = nil, true
	}
	if !makesPods {
		out.Why = "it makes no pods"
		return out, nil
	}
	if obj.Kind != "Namespace" {
		var before corev1.PodTemplateSpec
		if err := obj.Decode(path, &before); err != nil {
			return out, err
		}
		after, report, err := inject.Uninject(before, obj.String())
		if err != nil {
			return out, err
		}
		if report.Changed {
			out.Verb = "uninjected"
			if err := obj.Replace(path, before, after); err != nil {
				return out, err
			}
		}
	}
	if obj.Unannotate(path, isOurs) && out.Verb == "" {
		out.Verb = "asks for no proxy any more"
	}
	if out.Verb == "" {
		out.Why = "it has no proxy and asks for none"
	}
	return out, nil
}

// isOurs tells the annotations that inject writes; one that disables injection is its owner's.
func isOurs(key, value string) bool {
	return key == inject.AnnotationInject && value != config.Disabled || strings.HasPrefix(key, config.Prefix)
}
