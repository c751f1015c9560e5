package webhook

import (
	"context"
	"sync/atomic"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"

	"k8s.io/client-go/kubernetes"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/injector/inject"
)

// settings is what the injector knows of the mesh and of Namespaces. It is safe for concurrent use.
type settings struct {
	client     kubernetes.Interface
	namespace  string
	log        *zap.Logger
	counts     *counts
	namespaces corev1listers.NamespaceLister

	mesh    atomic.Pointer[config.Mesh]
	cluster atomic.Pointer[inject.Cluster]
}

// read takes over the ConfigMap. A mistake in it leaves what was last good in force: pods go on being
// injected while somebody mends it.
func (s *settings) read(cm *corev1.ConfigMap) {
	m, err := config.FromValues(s.namespace, []byte(cm.Data[config.ConfigKey]))
	if err != nil {
		s.counts.config.Set(0)
		s.log.Error("the mesh's values cannot be used; the last good ones stay in force", zap.Error(err))
		return
	}
	s.counts.config.Set(1)
	s.mesh.Store(m)
}

// learnVersion asks what the cluster can do.
func (s *settings) learnVersion() error {
	v, err := s.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	c := inject.ClusterOf(v.Major, v.Minor)
	s.cluster.Store(&c)
	return nil
}

// missing says what is not known yet.
func (s *settings) missing() string {
	switch {
	case s.mesh.Load() == nil:
		return "ConfigMap " + s.namespace + "/" + config.ConfigMap + " has not been read without a mistake yet"
	case s.cluster.Load() == nil:
		return "the cluster's version is not known yet"
	}
	return ""
}

// params are those for a pod of a Namespace. The cache may not have heard of a Namespace that was just made.
func (s *settings) params(ctx context.Context, namespace string) (inject.Params, error) {
	ns, err := s.namespaces.Get(namespace)
	if apierrors.IsNotFound(err) {
		ns, err = s.client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	}
	if err != nil {
		return inject.Params{}, err
	}
	return s.paramsOf(ns), nil
}

func (s *settings) paramsOf(ns *corev1.Namespace) inject.Params {
	return inject.Params{
		Mesh: s.mesh.Load(), Cluster: *s.cluster.Load(),
		Namespace: inject.Namespace{Name: ns.Name, Annotations: ns.Annotations, Labels: ns.Labels},
	}
}
