// Command kube is a whole Kubernetes in one program: the control plane, the node's daemons, etcd and
// kubectl, each a sub-command. One link instead of seven keeps the build's time and size bearable.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// component is one program of the distribution; it reads os.Args, whose first entry is its name.
type component struct {
	name string
	run  func() int
}

func components() []component {
	command := func(make func() *cobra.Command) func() int {
		return func() int { return cli.Run(make()) }
	}
	return []component{
		{"etcd", func() int { etcdmain.Main(os.Args); return 0 }},
		{"kube-apiserver", command(apiserver.NewAPIServerCommand)},
		{"kube-controller-manager", command(controllers.NewControllerManagerCommand)},
		{"kube-scheduler", command(func() *cobra.Command { return scheduler.NewSchedulerCommand() })},
		{"kubelet", command(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) })},
		{"kube-proxy", command(proxy.NewProxyCommand)},
		{"kubectl", runKubectl},
	}
}

// runKubectl reports an error as kubectl does, with its exit code.
func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

func main() {
	all := components()
	find := func(name string) int {
		return slices.IndexFunc(all, func(c component) bool { return c.name == name })
	}
	at := find(filepath.Base(os.Args[0])) // a link of that name
	if at < 0 && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		at = find(os.Args[0])
	}
	if at < 0 {
		names := make([]string, 0, len(all))
		for _, c := range all {
			names = append(names, c.name)
		}
		fmt.Fprintf(os.Stderr, "usage: kube %s [flags]\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	os.Exit(all[at].run())
}
