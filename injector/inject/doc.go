// Package inject is the pure function from a pod, or the template of one, to a meshed pod (rules R13.1,
// R13.2, R13.4, R9.3): the webhook and `tulle inject` share it. It reads no cluster: what it must know of
// one comes in Params.
//
// Inject puts in the container tulle-init, which redirects the pod's network, and the proxy; probes of
// the application go through the proxy; containers without a preStop get a sleep. What it changed is kept
// in an annotation, from which Uninject restores the pod as it was. Injecting twice gives what injecting
// once gives, and a pod that an older version injected is injected anew.
package inject

import "github.com/tulle-mesh/tulle/injector/mark"

// Names of what stands in an injected pod.
const (
	ProxyContainer = mark.ProxyContainer
	InitContainer  = mark.InitContainer
	TokenVolume    = "tulle-identity-token"
	TrustVolume    = "tulle-trust-bundle"
	// NoTokenVolume is empty and stands where Kubernetes would mount a token for its API into every
	// container, ours too. It is no emptyDir: kubectl drain and the cluster autoscaler take those for data
	// and leave the pod where it is.
	NoTokenVolume = "tulle-no-token"

	// AnnotationInject, on pods and Namespaces as annotation or label, asks for a proxy (R13.1).
	AnnotationInject = mark.Inject
	// AnnotationInjected holds the version that injected the pod.
	AnnotationInjected = mark.Injected
	// AnnotationOriginal holds what Uninject restores.
	AnnotationOriginal = "tulle.dev/original"
	// LabelProxy is "true" on pods with a proxy.
	LabelProxy = mark.Proxy
	// LabelDeployment names what the pod belongs to; metrics are labelled with it.
	LabelDeployment = mark.Deployment

	// TrustConfigMap is mounted into every proxy; TrustKey is its only key.
	TrustConfigMap = "tulle-trust-bundle"
	TrustKey       = "trust-bundle.pem"

	// TokenAudience is who the proxies' service account tokens are for.
	TokenAudience = "identity.tulle.dev"

	tokenDir = "/var/run/secrets/tulle/token"
	trustDir = "/var/run/tulle/trust"
)

// volumeNames are the volumes that injection adds.
var volumeNames = []string{TokenVolume, TrustVolume, NoTokenVolume}

// Ports of a proxy (docs/architecture.md).
const (
	OutboundPort = 4140
	InboundPort  = 4143
	TapPort      = 4190
	AdminPort    = 4191
)
