package inject

import (
	"strconv"
	"strings"

	"github.com/tulle-mesh/tulle/injector/config"
)

// Params are what Inject must know besides the pod.
type Params struct {
	// Mesh is required.
	Mesh *config.Mesh
	// Cluster is what the cluster can do; the zero value is the newest.
	Cluster Cluster
	// Namespace is the pod's.
	Namespace Namespace
	// Object names the object in messages; "": "pod NAMESPACE/NAME".
	Object string
	// Owner is what the pod belongs to, for metrics; "": Owner finds it.
	Owner string
	// Force injects whatever annotations say, as `tulle inject --manual` does.
	Force bool
}

// Namespace is what Inject knows of the pod's.
type Namespace struct {
	Name        string
	Annotations map[string]string
	Labels      map[string]string
}

// Cluster is what a cluster can do, by the minor version of its Kubernetes 1.x; 0 is the newest.
type Cluster struct{ Minor int }

// ClusterOf reads the fields of version.Info: major "1", minor "29" or "29+".
func ClusterOf(major, minor string) Cluster {
	n, err := strconv.Atoi(strings.TrimRight(minor, "+"))
	if err != nil || major != "1" {
		return Cluster{}
	}
	return Cluster{Minor: n}
}

// hasNativeSidecars: KEP-753, on by default from 1.29.
func (c Cluster) hasNativeSidecars() bool { return c.Minor == 0 || c.Minor >= 29 }

// canSleep: KEP-3960, preStop.sleep, on by default from 1.30.
func (c Cluster) canSleep() bool { return c.Minor == 0 || c.Minor >= 30 }
