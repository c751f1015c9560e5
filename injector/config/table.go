package config

import (
	"strings"

	"github.com/tulle-mesh/tulle/internal/version"
)

// Setting is one row of the table.
type Setting struct {
	// Name is the annotation's without Prefix.
	Name string
	// Default holds where neither a pod, nor its Namespace, nor the chart's values say anything.
	Default string
	// On says which objects the annotation is read from, besides pods and Namespaces.
	On string
	// Sets says what the value becomes in the pod: variables of the proxy, arguments, fields.
	Sets string
	// Doc is a sentence for docs/injection.md.
	Doc string
	// Missing says what the proxy cannot do yet; such a setting is accepted with a notice. Empty: it works.
	Missing string

	kind kind
	// env is the variable of the proxy that it becomes; kinds with keys have one for each.
	env string
}

// Wants says what a value must be.
func (s *Setting) Wants() string { return s.kind.wants() }

// Variables are those of the proxy that the setting becomes.
func (s *Setting) Variables() []string {
	if keys, ok := s.kind.(keyed); ok {
		var all []string
		for _, e := range keys {
			all = append(all, e.name)
		}
		return all
	}
	if s.env == "" {
		return nil
	}
	return []string{s.env}
}

// Annotation is the setting's annotation.
func (s *Setting) Annotation() string { return Prefix + s.Name }

// Value is the setting's place in the chart's values: "proxy.skipInboundPorts".
func (s *Setting) Value() string { return "proxy." + s.key() }

// key is Value without "proxy.": in camel case, and without a "proxy" of its own.
func (s *Setting) key() string {
	parts := strings.Split(strings.TrimPrefix(s.Name, "proxy-"), "-")
	for i, p := range parts[1:] {
		parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}

// Table lists every setting, in the order in which they are documented. The chart's values are written
// from it: go test ./charts -update.
func Table() []Setting {
	rows := resources()
	rows = append(rows, traffic()...)
	rows = append(rows, lifecycle()...)
	return append(rows, telling()...)
}

func resources() []Setting {
	return []Setting{
		{
			Name: Workers, Default: "1", kind: number{1, 64}, env: "TULLE_WORKERS",
			Sets: "`TULLE_WORKERS`, `GOMAXPROCS` = workers + 1",
			Doc:  "Workers of the proxy, each one busy thread at most.",
		},
		{Name: CPURequest, Default: "10m", kind: quantity{}, Sets: "`resources.requests.cpu`", Doc: "CPU that the scheduler reserves for the proxy."},
		{Name: CPULimit, kind: quantity{}, Sets: "`resources.limits.cpu`", Doc: "CPU that the proxy may use at most."},
		{Name: MemoryRequest, Default: "32Mi", kind: quantity{}, Sets: "`resources.requests.memory`", Doc: "Memory that the scheduler reserves for the proxy."},
		{
			Name: MemoryLimit, kind: memory{}, Sets: "`resources.limits.memory`, `GOMEMLIMIT` = 90 % of it",
			Doc: "Memory that the proxy may use at most; new work is shed at 85 % of GOMEMLIMIT (R1.6).",
		},
		{
			Name: ProxyImage, Default: "ghcr.io/tulle-mesh/tulle-proxy", kind: word{"an image's name without a tag"},
			Sets: "`image`", Doc: "The proxy's image, without its version.",
		},
		{Name: ProxyVersion, Default: version.Number(), kind: word{"an image's tag, or a digest sha256:…"}, Sets: "`image`", Doc: "The version, or digest, of the proxy's image."},
		{Name: PullPolicy, Default: "IfNotPresent", kind: oneOf{"IfNotPresent", "Always", "Never"}, Sets: "`imagePullPolicy`", Doc: "When the image is pulled."},
		{
			Name: ProxyUID, Default: "2102", kind: number{1, 1<<31 - 1}, Sets: "`runAsUser` of the proxy, argument of tulle-init",
			Doc: "The user that the proxy runs as: its own connections are not redirected, so no container of the application may run as it (R13.4).",
		},
	}
}

func traffic() []Setting {
	return []Setting{
		{
			Name: OpaquePorts, Default: "25,587,3306,4444,5432,6379,9300,11211", kind: ports{}, On: "Service", Sets: "what discovery tells",
			Doc: "Ports that are bytes and are not detected (R2.4). The narrower word replaces the wider one.",
		},
		{
			Name: SkipInboundPorts, kind: ports{}, Sets: "argument of tulle-init",
			Doc: "Ports of the application whose connections from the network go round the proxy. Discovery gives no identity for them (R5.6).",
		},
		{Name: SkipOutboundPorts, kind: ports{}, Sets: "argument of tulle-init", Doc: "Ports that the application dials round the proxy."},
		{
			Name: SkipSubnets, kind: subnets{}, Sets: "argument of tulle-init",
			Doc: "Networks whose addresses go round the proxy, as sources inbound and as destinations outbound. IPv4 and IPv6.",
		},
		{
			Name: DefaultInboundPolicy, Default: "all-unauthenticated", kind: policy{}, Sets: "what discovery tells",
			Doc: "What the inbound side allows where no policy selects (R9.2). With `.PORT` appended to the name: for that port.",
		},
		{
			Name: Strict, Default: Disabled, kind: toggle{}, env: "TULLE_STRICT", Sets: "`TULLE_STRICT`",
			Doc: "Refuse every target that the control plane does not know (R11.4).",
		},
		{
			Name: Detect, kind: keyed{{"silence", duration{}, "TULLE_DETECT_SILENCE"}, {"timeout", duration{}, "TULLE_DETECT_TIMEOUT"}},
			Sets: "`TULLE_DETECT_…`",
			Doc:  "Detecting the protocol (R2.5): how long a client may be silent before the server side is connected, and how long a begun prefix may stay undecidable: `silence=10ms,timeout=10s`.",
		},
		{
			Name: Timeouts, kind: timeouts(), Sets: "`TULLE_…_TIMEOUT`",
			Doc: "Timeouts of the proxy (docs/proxy.md), each optional: `connect=2s,idle=5m`.",
		},
		{
			Name: Limits, kind: limits(), Sets: "`TULLE_MAX_…`",
			Doc: "Limits of the proxy (R1.5), each optional: `connections=20000,header-bytes=131072`.",
		},
	}
}

func timeouts() keyed {
	return keyed{
		{"connect", duration{}, "TULLE_CONNECT_TIMEOUT"},
		{"app-connect", duration{}, "TULLE_APP_CONNECT_TIMEOUT"},
		{"handshake", duration{}, "TULLE_HANDSHAKE_TIMEOUT"},
		{"resolve", duration{}, "TULLE_RESOLVE_TIMEOUT"},
		{"endpoint", duration{}, "TULLE_ENDPOINT_TIMEOUT"},
		{"header", duration{}, "TULLE_HEADER_TIMEOUT"},
		{"idle", duration{}, "TULLE_IDLE_TIMEOUT"},
		{"pool-idle", duration{}, "TULLE_POOL_IDLE_TIMEOUT"},
	}
}

// limits have the bounds that the proxy has: what is accepted here must not keep it from starting.
func limits() keyed {
	return keyed{
		{"connections", number{1, 1 << 20}, "TULLE_MAX_CONNECTIONS"},
		{"handshakes", number{1, 1 << 20}, "TULLE_MAX_HANDSHAKES"},
		{"requests", number{1, 1 << 24}, "TULLE_MAX_REQUESTS"},
		{"request-rate", number{0, 1 << 20}, "TULLE_MAX_REQUEST_RATE"},
		{"endpoint-connections", number{1, 1 << 20}, "TULLE_MAX_ENDPOINT_CONNECTIONS"},
		{"waiting", number{1, 1 << 20}, "TULLE_MAX_WAITING"},
		{"header-bytes", number{1 << 10, 1 << 20}, "TULLE_MAX_HEADER_BYTES"},
		{"header-count", number{8, 1 << 14}, "TULLE_MAX_HEADER_COUNT"},
		{"target-bytes", number{256, 1 << 20}, "TULLE_MAX_TARGET_BYTES"},
	}
}

func lifecycle() []Setting {
	return []Setting{
		{
			Name: NativeSidecar, Default: Auto, kind: oneOf{Auto, Enabled, Disabled}, Sets: "where the proxy stands in the pod",
			Doc: "The proxy as a native sidecar (an init container with restartPolicy Always), which Kubernetes has from 1.29 on; `auto` asks the cluster's version.",
		},
		{
			Name: Await, Default: Enabled, kind: toggle{}, Sets: "argument of tulle-init, or `lifecycle.postStart`",
			Doc: "The application starts only when the proxy is ready.",
		},
		{
			Name: PreStop, Default: "5s", kind: seconds{}, Sets: "`lifecycle.preStop.sleep` of the application's containers",
			Doc: "How long a container that has no preStop of its own sleeps before it is told to end, so that clients have stopped choosing it (R11.2); 0s: not at all. Kubernetes 1.30.",
		},
		{
			Name: Drain, kind: keyed{{"lame-duck", duration{}, "TULLE_LAME_DUCK"}, {"timeout", duration{}, "TULLE_DRAIN_TIMEOUT"}},
			Sets: "`TULLE_LAME_DUCK`, `TULLE_DRAIN_TIMEOUT`",
			Doc:  "The proxy's end (R11.2): `lame-duck=3s,timeout=20s`. Without a `timeout`: the pod's grace less pre-stop and 5 s; without a `lame-duck`: 3 s, and none as a native sidecar, which ends after the application.",
		},
		{
			Name: Shutdown, Default: Disabled, kind: toggle{}, env: "TULLE_SHUTDOWN", Sets: "`TULLE_SHUTDOWN`",
			Doc: "POST /shutdown on loopback ends the proxy (R11.3): for Jobs where the proxy is no native sidecar.",
		},
	}
}

func telling() []Setting {
	return []Setting{
		{Name: LogLevel, Default: "info", kind: oneOf{"debug", "info", "warn", "error"}, env: "TULLE_LOG_LEVEL", Sets: "`TULLE_LOG_LEVEL`", Doc: "What the proxy logs."},
		{Name: LogFormat, Default: "json", kind: oneOf{"json", "plain"}, env: "TULLE_LOG_FORMAT", Sets: "`TULLE_LOG_FORMAT`", Doc: "How the proxy logs."},
		{
			Name: AccessLog, Default: "off", kind: oneOf{"off", "apache", "json"}, Sets: "nothing yet",
			Doc: "A line per request (R12.3).", Missing: "this version's proxy writes no access log",
		},
		{
			Name: TraceSampling, Default: "0%", kind: percent{}, Sets: "nothing yet",
			Doc: "Share of requests that are traced (R12.3).", Missing: "this version's proxy sends no traces",
		},
		{
			Name: Tap, Default: Disabled, kind: toggle{}, Sets: "nothing yet",
			Doc: "Whether requests can be watched live (R12.3).", Missing: "this version's proxy has no tap",
		},
	}
}
