package check

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/tulle-mesh/tulle/cli/cluster"
	"github.com/tulle-mesh/tulle/cli/manifest"
	"github.com/tulle-mesh/tulle/cli/mesh"
	"github.com/tulle-mesh/tulle/injector/config"
)

// env is what checks ask, and what has been answered. Answers are kept for one round: a check that is
// made again asks again.
type env struct {
	*cluster.Cluster
	// only is the namespace of proxies in question; empty: all.
	only string
	// wishes are what is to be installed, for the checks before.
	wishes manifest.Wishes

	answers map[string]any
}

// fresh forgets the answers.
func (e *env) fresh() { e.answers = map[string]any{} }

// once asks the first time and remembers. Errors are not remembered.
func once[T any](e *env, key string, ask func() (T, error)) (T, error) {
	if v, ok := e.answers[key].(T); ok {
		return v, nil
	}
	v, err := ask()
	if err == nil && e.answers != nil {
		e.answers[key] = v
	}
	return v, err
}

func (e *env) serverVersion(context.Context) (*version.Info, error) {
	return once(e, "version", func() (*version.Info, error) {
		v, err := e.Kube.Discovery().ServerVersion()
		return v, e.Explain("ask for the version", err)
	})
}

func (e *env) nodes(ctx context.Context) ([]corev1.Node, error) {
	return once(e, "nodes", func() ([]corev1.Node, error) {
		l, err := e.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, e.Explain("list nodes", err)
		}
		return l.Items, nil
	})
}

func (e *env) pods(ctx context.Context) ([]corev1.Pod, error) {
	return once(e, "pods", func() ([]corev1.Pod, error) {
		l, err := e.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, e.Explain("list pods", err)
		}
		return l.Items, nil
	})
}

func (e *env) namespaces(ctx context.Context) (map[string]*corev1.Namespace, error) {
	return once(e, "namespaces", func() (map[string]*corev1.Namespace, error) {
		l, err := e.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, e.Explain("list namespaces", err)
		}
		all := make(map[string]*corev1.Namespace, len(l.Items))
		for i := range l.Items {
			all[l.Items[i].Name] = &l.Items[i]
		}
		return all, nil
	})
}

// meshed are the pods with a proxy that have not ended.
func (e *env) meshed(ctx context.Context) ([]corev1.Pod, error) {
	all, err := e.pods(ctx)
	if err != nil {
		return nil, err
	}
	var with []corev1.Pod
	for i := range all {
		if mesh.ProxyContainer(&all[i].Spec) != nil && !mesh.Ended(&all[i]) {
			with = append(with, all[i])
		}
	}
	return with, nil
}

var errNotInstalled = errors.New("nothing is installed")

func (e *env) installed(ctx context.Context) (*manifest.Installed, error) {
	return once(e, "installed", func() (*manifest.Installed, error) {
		in, err := manifest.Read(ctx, e.Cluster)
		if err == nil && in == nil {
			err = errNotInstalled
		}
		return in, err
	})
}

// settings are the mesh's, as injection reads them.
func (e *env) settings(ctx context.Context) (*config.Mesh, error) {
	in, err := e.installed(ctx)
	if err != nil {
		return nil, err
	}
	return config.FromValues(e.Tulle, []byte(in.Values))
}

// survey is what checks of injection look at.
type survey struct {
	mesh       *config.Mesh
	namespaces map[string]*corev1.Namespace
	pods       []corev1.Pod
}

func (e *env) survey(ctx context.Context) (all survey, err error) {
	if all.mesh, err = e.settings(ctx); err != nil {
		return all, err
	}
	if all.namespaces, err = e.namespaces(ctx); err != nil {
		return all, err
	}
	all.pods, err = e.pods(ctx)
	return all, err
}

func (e *env) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	return once(e, "secret "+name, func() (*corev1.Secret, error) {
		return e.Kube.CoreV1().Secrets(e.Tulle).Get(ctx, name, metav1.GetOptions{})
	})
}

// controlPods are the pods of the control plane by their Deployment.
func (e *env) controlPods(ctx context.Context) (map[string][]corev1.Pod, error) {
	all, err := mesh.ControlPods(ctx, e.Cluster, "")
	if err != nil {
		return nil, err
	}
	by := map[string][]corev1.Pod{}
	for i := range all {
		d := mesh.DeploymentOf(&all[i])
		by[d] = append(by[d], all[i])
	}
	return by, nil
}

// lacking turns the error of reading an object into a finding.
func (e *env) lacking(what string, err error) Finding {
	switch {
	case apierrors.IsNotFound(err):
		return fail("%s does not exist", what)
	case apierrors.IsForbidden(err):
		return skip("you may not read %s", what)
	}
	return unknown(e.Explain("get "+what, err))
}

func podName(p *corev1.Pod) string { return fmt.Sprintf("pod %s/%s", p.Namespace, p.Name) }
