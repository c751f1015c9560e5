package inject

import (
	"fmt"

	"github.com/tulle-mesh/tulle/injector/config"
)

// Reason is why a pod is left alone. The values label metrics: they are few and never change.
type Reason string

// Reasons.
const (
	NotAsked        Reason = "not-asked"         // neither the pod nor its Namespace asks for a proxy
	IsDisabled      Reason = "disabled"          // one of them says that it wants none
	HostNetwork     Reason = "host-network"      // the redirect would be the node's
	Windows         Reason = "windows"           // there is no nftables
	StaticPod       Reason = "static-pod"        // the kubelet made it and would not take a change
	SystemNamespace Reason = "system-namespace"  // kube-system, or the control plane's own
	OtherProxy      Reason = "other-proxy"       // another mesh's proxy redirects the same network
	ForeignProxy    Reason = "foreign-container" // a container has our name and is not ours
)

var reasons = map[Reason]string{
	NotAsked:        "neither the pod nor its namespace has " + AnnotationInject + ": " + config.Enabled,
	HostNetwork:     "it uses the node's network (hostNetwork), where a redirect would be the whole node's",
	Windows:         "it runs on Windows, where there is no nftables",
	StaticPod:       "it is a static pod: the kubelet reads it from a file on its node",
	SystemNamespace: "pods of kube-system and of the control plane's namespace have no proxy",
}

// Reasons lists every Reason.
func Reasons() []Reason {
	return []Reason{NotAsked, IsDisabled, HostNetwork, Windows, StaticPod, SystemNamespace, OtherProxy, ForeignProxy}
}

// Report says what Inject or Uninject did with an object and why.
type Report struct {
	// Object names it: "deployment shop/web".
	Object string
	// Injected says that the result has a proxy; Changed, that it differs from what came in.
	Injected, Changed bool
	// Reason is why the object was left alone, "" when it was not; Why says it in words.
	Reason Reason
	Why    string
	// Notices are what an operator should know and what hinders nothing.
	Notices []string
	// Settings are the values in force in an injected pod, each with where it came from.
	Settings []config.Value
}

// IsWanted reports whether somebody asked for a proxy that the pod did not get.
func (r *Report) IsWanted() bool {
	return r.Reason != "" && r.Reason != NotAsked && r.Reason != IsDisabled
}

func (r *Report) skip(reason Reason, why string) {
	if why == "" {
		why = reasons[reason]
	}
	r.Reason, r.Why = reason, why
}

func (r *Report) notef(format string, args ...any) {
	r.Notices = append(r.Notices, fmt.Sprintf(format, args...))
}

// String is one line for a person: "deployment shop/web: injected".
func (r *Report) String() string {
	switch {
	case r.Reason != "":
		return r.Object + ": skipped: " + r.Why
	case r.Injected && r.Changed:
		return r.Object + ": injected"
	case r.Injected:
		return r.Object + ": already injected"
	case r.Changed:
		return r.Object + ": uninjected"
	}
	return r.Object + ": unchanged"
}
