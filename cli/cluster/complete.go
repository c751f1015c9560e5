package cluster

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// completeWithin bounds how long a shell waits for names after TAB.
const completeWithin = 2 * time.Second

// Completion proposes words.
type Completion = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// Complete adds the completion of the global flags' values to root.
func (a *Access) Complete(root *cobra.Command) {
	for _, flag := range []struct {
		name  string
		words Completion
	}{
		{"namespace", a.complete(namespaces)},
		{"tulle-namespace", a.complete(namespaces)},
		{"context", a.contexts},
	} {
		if err := root.RegisterFlagCompletionFunc(flag.name, flag.words); err != nil {
			panic("BUG: " + err.Error())
		}
	}
}

// Pods completes names of pods in the namespace in question.
func (a *Access) Pods() Completion { return a.complete(pods) }

func (a *Access) complete(list func(context.Context, *Cluster) ([]string, error)) Completion {
	return func(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
		defer cancel()
		k, err := a.Cluster()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names, err := list(ctx, k)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return beginning(names, begun), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *Access) contexts(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	cfg, err := rules.Load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, 0, len(cfg.Contexts))
	for name := range cfg.Contexts {
		names = append(names, name)
	}
	return beginning(names, begun), cobra.ShellCompDirectiveNoFileComp
}

func beginning(names []string, begun string) []string {
	var fit []string
	for _, n := range names {
		if strings.HasPrefix(n, begun) {
			fit = append(fit, n)
		}
	}
	return fit
}

func namespaces(ctx context.Context, k *Cluster) ([]string, error) {
	list, err := k.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	return names, nil
}

func pods(ctx context.Context, k *Cluster) ([]string, error) {
	list, err := k.Kube.CoreV1().Pods(k.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	return names, nil
}
