// Package config holds the one table of what can be set for a proxy on Kubernetes: as an annotation
// config.tulle.dev/NAME of a pod or its Namespace, and as a value of the chart, which the ConfigMap
// tulle-config keeps for everybody who needs it. Code, docs/injection.md and tests share the table.
//
// Values are read strictly: a mistake names the object, the annotation, the value and what it should be.
// Of each setting it is kept where its value came from. The package is pure; it knows no objects of
// Kubernetes.
package config

// Prefix begins the name of every setting's annotation.
const Prefix = "config.tulle.dev/"

// Names of the settings that code asks for.
const (
	Workers              = "workers"
	CPURequest           = "cpu-request"
	CPULimit             = "cpu-limit"
	MemoryRequest        = "memory-request"
	MemoryLimit          = "memory-limit"
	OpaquePorts          = "opaque-ports"
	SkipInboundPorts     = "skip-inbound-ports"
	SkipOutboundPorts    = "skip-outbound-ports"
	SkipSubnets          = "skip-subnets"
	DefaultInboundPolicy = "default-inbound-policy"
	LogLevel             = "log-level"
	LogFormat            = "log-format"
	AccessLog            = "access-log"
	Detect               = "detect"
	Timeouts             = "timeouts"
	Limits               = "limits"
	Strict               = "strict"
	Drain                = "drain"
	NativeSidecar        = "native-sidecar"
	Await                = "await"
	PreStop              = "pre-stop"
	Shutdown             = "shutdown"
	ProxyImage           = "proxy-image"
	ProxyVersion         = "proxy-version"
	PullPolicy           = "image-pull-policy"
	ProxyUID             = "proxy-uid"
	TraceSampling        = "trace-sampling"
	Tap                  = "tap"
)

// Values of settings that are enabled or not.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
	Auto     = "auto"
)
