// Package cluster is how commands reach a Kubernetes cluster: the flags that say which and as whom, the
// clients, the way to a pod's port through the API server, and errors as an operator can use them.
package cluster

import (
	"sync"

	"github.com/spf13/pflag"
)

// Flags say which cluster, as whom, and where in it.
type Flags struct {
	// Tulle is the namespace of the control plane.
	Tulle string
	// Kubeconfig is a file; empty: KUBECONFIG, ~/.kube/config, or the pod that this runs in.
	Kubeconfig string
	// Context is one of the file; empty: its current one.
	Context string
	// As and AsGroups are who to act as; empty: who the credentials are.
	As       string
	AsGroups []string
	// Namespace is what the command is about; empty: the context's.
	Namespace string
}

// Register defines the flags that every command has. tulle is the default of -L.
func (f *Flags) Register(fs *pflag.FlagSet, tulle string) {
	fs.StringVarP(&f.Tulle, "tulle-namespace", "L", tulle, "namespace of the control plane (TULLE_NAMESPACE)")
	fs.StringVar(&f.Kubeconfig, "kubeconfig", "", "file that says how to reach the cluster (default KUBECONFIG, then ~/.kube/config)")
	fs.StringVar(&f.Context, "context", "", "context of the kubeconfig (default its current one)")
	fs.StringVar(&f.As, "as", "", "user to act as")
	fs.StringArrayVar(&f.AsGroups, "as-group", nil, "group to act as; may be repeated")
	fs.StringVarP(&f.Namespace, "namespace", "n", "", "namespace of the objects in question (default the context's)")
}

// Opener makes a Cluster.
type Opener func(Flags) (*Cluster, error)

// Access is the way to the cluster that the flags name, opened when it is first asked for.
type Access struct {
	// Flags are complete once the command line has been read.
	Flags

	open Opener
	once sync.Once
	got  *Cluster
	err  error
}

// NewAccess returns an Access that opens clusters with open; nil is Open.
func NewAccess(open Opener) *Access {
	if open == nil {
		open = Open
	}
	return &Access{open: open}
}

// Cluster opens the cluster. It does not speak to it yet.
func (a *Access) Cluster() (*Cluster, error) {
	a.once.Do(func() { a.got, a.err = a.open(a.Flags) })
	return a.got, a.err
}
