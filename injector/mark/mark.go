// Package mark holds what an injected pod looks like to others: the names that discovery, the command line
// and the charts know it by. It is small: it pulls in nothing of how a pod is injected.
package mark

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names that others read.
const (
	// ProxyContainer and InitContainer are the containers that injection adds.
	ProxyContainer = "tulle-proxy"
	InitContainer  = "tulle-init"
	// Inject, on pods and Namespaces as annotation or label, asks for a proxy (R13.1).
	Inject = "tulle.dev/inject"
	// Injected is the annotation with the version that injected the pod.
	Injected = "tulle.dev/injected"
	// Proxy is a label, "true" on pods with a proxy.
	Proxy = "tulle.dev/proxy"
	// Deployment is the label that names what the pod belongs to; metrics are labelled with it.
	Deployment = "tulle.dev/deployment"
)

// Owner is what a pod belongs to, as metrics call it: the Deployment of a ReplicaSet, the CronJob of a
// Job, the controller itself, or the pod. Both are found by how their controllers name what they make:
// asking the API server would cost every admission a call.
func Owner(m *metav1.ObjectMeta) string {
	for _, o := range m.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		switch o.Kind {
		case "ReplicaSet":
			if hash := m.Labels["pod-template-hash"]; hash != "" {
				return strings.TrimSuffix(o.Name, "-"+hash)
			}
		case "Job":
			if i := strings.LastIndexByte(o.Name, '-'); i > 0 && isScheduled(o.Name[i+1:]) {
				return o.Name[:i]
			}
		}
		return o.Name
	}
	if m.Name == "" {
		return strings.TrimSuffix(m.GenerateName, "-")
	}
	return m.Name
}

// isScheduled recognises what CronJobs append: the minutes since 1970.
func isScheduled(s string) bool {
	return len(s) == 8 && strings.Trim(s, "0123456789") == ""
}
