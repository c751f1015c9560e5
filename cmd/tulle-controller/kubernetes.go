package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tulle-mesh/tulle/controller"
	"github.com/tulle-mesh/tulle/controller/reflect"
	"github.com/tulle-mesh/tulle/identity"
	identitykube "github.com/tulle-mesh/tulle/identity/kube"
	"github.com/tulle-mesh/tulle/internal/version"
)

// Variables that the downward API fills in.
const (
	envPodName      = "TULLE_POD_NAME"
	envPodNamespace = "TULLE_POD_NAMESPACE"
)

// cluster are the flags by which an API server is found.
type cluster struct {
	kubeconfig, context, namespace string
}

func (c *cluster) flags(f *flag.FlagSet) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "how the API server is reached (default: the pod's own service account)")
	f.StringVar(&c.context, "context", "", "context of the kubeconfig")
	f.StringVar(&c.namespace, "namespace", cmp.Or(os.Getenv(envPodNamespace), controller.Namespace), "the control plane's namespace")
}

// qps and burst bound what a service asks of the API server. Watches do not count.
const (
	qps   = 50
	burst = 100
)

// client reaches the API server.
func (c *cluster) client() (*rest.Config, *kubernetes.Clientset, error) {
	var cfg *rest.Config
	var err error
	if c.kubeconfig == "" && c.context == "" {
		if cfg, err = rest.InClusterConfig(); errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New("this is no pod: say --kubeconfig")
		}
	} else {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = c.kubeconfig
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.context}).ClientConfig()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("API server: %w", err)
	}
	cfg.UserAgent, cfg.WarningHandler = "tulle-controller/"+version.Number(), rest.NoWarnings{}
	cfg.QPS, cfg.Burst = qps, burst
	typed := rest.CopyConfig(cfg)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = typed.ContentType + ",application/json"
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, nil, fmt.Errorf("API server: %w", err)
	}
	return cfg, client, nil
}

// plane is what a controller.Plane has of the cluster, until ctx ends.
func (c *cluster) plane(ctx context.Context, trustDomain string) (*controller.Cluster, error) {
	cfg, client, err := c.client()
	if err != nil {
		return nil, err
	}
	custom, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	return &controller.Cluster{
		Source: func(s controller.SourceConfig) controller.Source {
			return reflect.New(reflect.Config{
				Client: client, Dynamic: custom, Store: s.Store, PodsOnly: s.PodsOnly, Reports: s.Reports,
				Registerer: s.Registerer, Log: s.Log,
			})
		},
		Tokens: identitykube.NewTokens(identitykube.TokensConfig{Client: client, TrustDomain: trustDomain}),
		Keep:   identitykube.NewSecrets(ctx, client, c.namespace),
		Replicas: func(r controller.ReplicasConfig) identity.Replicas {
			bundles := identitykube.NewBundles(identitykube.BundlesConfig{
				Client: client, Namespace: c.namespace, PEM: r.PEM, Changed: r.Changed,
				Namespaces: r.Namespaces, News: r.News, Log: r.Log,
			})
			return identitykube.NewReplicas(ctx, identitykube.ReplicasConfig{
				Client: client, Namespace: c.namespace, Name: podName(), Meshed: r.Meshed, Also: bundles.Run, Log: r.Log,
			})
		},
	}, nil
}

// podName is this pod's, or at least the host's, which a pod's is where it has a network of its own.
func podName() string {
	host, _ := os.Hostname() // an empty name is one too
	return cmp.Or(os.Getenv(envPodName), host)
}
