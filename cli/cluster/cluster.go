package cluster

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/internal/version"
)

// requestTimeout bounds one request to the API server that is not a stream.
const requestTimeout = 20 * time.Second

// Dialer connects with a port of a pod as the pod's own loopback does.
type Dialer func(ctx context.Context, namespace, pod string, port int) (net.Conn, error)

// Cluster are the clients of one cluster. Tests fill it with fakes.
type Cluster struct {
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface
	Dial    Dialer
	// Server is where the API server is, for messages.
	Server string
	// Tulle is the control plane's namespace, Namespace the one that the command is about.
	Tulle, Namespace string
	// Now is the time here; nil: time.Now.
	Now func() time.Time
	// Clock asks the API server for its time; nil: it cannot be asked.
	Clock func(context.Context) (time.Time, error)
}

// Time is the time on this machine.
func (c *Cluster) Time() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Open reads the kubeconfig that f names and makes clients.
func Open(f Flags) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.Kubeconfig
	over := &clientcmd.ConfigOverrides{CurrentContext: f.Context}
	over.AuthInfo.Impersonate, over.AuthInfo.ImpersonateGroups = f.As, f.AsGroups
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, over)
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, explainConfig(err, f)
	}
	namespace := f.Namespace
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, explainConfig(err, f)
		}
	}
	cfg.UserAgent = "tulle/" + version.Number()
	cfg.QPS, cfg.Burst = 100, 200 // one person's command; the API server has its own fairness
	return connect(cfg, f.Tulle, namespace)
}

func connect(cfg *rest.Config, tulle, namespace string) (*Cluster, error) {
	quick := rest.CopyConfig(cfg)
	quick.Timeout = requestTimeout
	quick.WarningHandlerWithContext = rest.NoWarnings{} // deprecations concern the author of this program
	kube, err := kubernetes.NewForConfig(quick)
	if err != nil {
		return nil, exit.With(exit.Usage, fmt.Errorf("kubeconfig: %w", err), "")
	}
	dyn, err := dynamic.NewForConfig(quick)
	if err != nil {
		return nil, exit.With(exit.Usage, fmt.Errorf("kubeconfig: %w", err), "")
	}
	return &Cluster{
		Kube: kube, Dynamic: dyn, Server: cfg.Host, Tulle: tulle, Namespace: namespace,
		Dial: forwarder(cfg, kube), Clock: clock(quick),
	}, nil
}

func explainConfig(err error, f Flags) error {
	switch {
	case clientcmd.IsEmptyConfig(err):
		return exit.With(exit.Unreachable, fmt.Errorf("no cluster is configured: neither --kubeconfig, KUBECONFIG nor ~/.kube/config names one"),
			"kubectl config get-contexts, or tulle demo, which needs no cluster")
	case f.Context != "" && strings.Contains(err.Error(), strconv.Quote(f.Context)+" does not exist"):
		return exit.With(exit.Usage, fmt.Errorf("the kubeconfig has no context %q", f.Context), "kubectl config get-contexts")
	default:
		return exit.With(exit.Usage, fmt.Errorf("kubeconfig: %w", err), "kubectl config view")
	}
}

// isMissingKind reports whether err says that the cluster does not know a kind of object.
func isMissingKind(err error) bool { return meta.IsNoMatchError(err) }
