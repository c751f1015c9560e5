package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/admin/probe"
)

// settings are what the environment says.
type settings struct {
	proxy           proxy.Config
	admin           netip.AddrPort
	identity        mesh.Identity
	tokenFile       string
	bundleDir       string
	identityAddr    string
	identityName    mesh.Identity
	destinationAddr string
	destinationName mesh.Identity
	logLevel        string
	logFormat       string
	level           zap.AtomicLevel // logLevel, which /debug/log-level changes
	hold            time.Duration
	gcPercent       int
	podIPs          []netip.Addr
	probes          probe.Set
	shutdown        bool
}

// setting is one variable of the environment. docs/proxy.md holds the same
// table; a test compares them.
type setting struct {
	name, initial, doc string
	set                func(s *settings, v string) error
}

// table lists every setting.
func table() []setting {
	return []setting{
		{"TULLE_IDENTITY", "", "The workload's own SPIFFE ID. Required.", func(s *settings, v string) error { return identityOf(&s.identity, v) }},
		{"TULLE_WORKLOAD", "", "The workload, `namespace/name`. Required.", setWorkload},
		{"TULLE_DEPLOYMENT", "", "What the workload belongs to; labels metrics.", func(s *settings, v string) error { s.proxy.Workload.Deployment = v; return nil }},
		{"TULLE_ZONE", "", "Where the workload runs; endpoints that hints name for the zone are preferred (R6.3).", func(s *settings, v string) error { s.proxy.Workload.Zone = v; return nil }},
		{"TULLE_TOKEN_FILE", "", "File with the token that proves who the workload is, read for the first certificate. Required.", func(s *settings, v string) error { s.tokenFile = v; return nil }},
		{"TULLE_TRUST_BUNDLE_DIR", "", "Directory with `trust-bundle.pem`, or any `*.pem`: the roots to begin with (R10.3). Required.", func(s *settings, v string) error { s.bundleDir = v; return nil }},
		{"TULLE_IDENTITY_ADDR", "", "The identity service, `host:port`. Required.", func(s *settings, v string) error { s.identityAddr = v; return nil }},
		{"TULLE_IDENTITY_NAME", "", "The identity service's SPIFFE ID. Required.", func(s *settings, v string) error { return identityOf(&s.identityName, v) }},
		{"TULLE_DESTINATION_ADDR", "", "The destination service, `host:port`. Required.", func(s *settings, v string) error { s.destinationAddr = v; return nil }},
		{"TULLE_DESTINATION_NAME", "", "The destination service's SPIFFE ID. Required.", func(s *settings, v string) error { return identityOf(&s.destinationName, v) }},
		{"TULLE_ADMIN_LISTEN", "0.0.0.0:4191", "Address of /ready, /live, /metrics, /probe, and of /debug for loopback alone (R12.5).", func(s *settings, v string) error { return addr(&s.admin, v) }},
		{"TULLE_POD_IPS", "", "The pod's addresses, comma-separated: where the application is probed.", setPodIPs},
		{"TULLE_PROBES", "", "The application's probes, in JSON, as the injector wrote them; performed at `/probe/<container>/<kind>` (R9.3).", setProbes},
		{"TULLE_SHUTDOWN", "off", "`on`: POST /shutdown from loopback, with the header `Tulle-Shutdown: 1`, ends the proxy (R11.3).", toggle(func(s *settings, on bool) { s.shutdown = on })},
		{"TULLE_OUTBOUND_LISTEN", "", "Listener that the application's connections are redirected to (4140). Empty: none.", func(s *settings, v string) error { return addr(&s.proxy.Outbound, v) }},
		{"TULLE_INBOUND_LISTEN", "", "Listener that connections from the network are redirected to (4143). Empty: none.", func(s *settings, v string) error { return addr(&s.proxy.Inbound, v) }},
		{"TULLE_UPSTREAMS", "", "Explicit upstreams for machines without a redirect, `listen=target,…`: `127.0.0.1:9001=catalog.shop:80`.", setUpstreams},
		{"TULLE_INBOUND_PORTS", "", "Explicit inbound ports, `listen=application,…`: `127.0.0.1:15001=127.0.0.1:8080`.", setInboundPorts},
		{"TULLE_WORKERS", "1", "Workers, each one busy thread at most.", number(1, 64, func(s *settings) *int { return &s.proxy.Workers })},
		{"TULLE_MTLS", "on", "`off` sends and accepts everything in plaintext: for experiments.", toggle(func(s *settings, on bool) { s.proxy.DisableTLS = !on })},
		{"TULLE_RETRIES", "on", "`off` makes every failure final.", toggle(func(s *settings, on bool) { s.proxy.DisableRetries = !on })},
		{"TULLE_BALANCING", "", "Overrides the policy: `ewma`, `round-robin`, `least-requests` or `random`.", setBalancing},
		{"TULLE_STRICT", "off", "`on` refuses every target that the control plane does not know (R11.4).", toggle(func(s *settings, on bool) { s.proxy.Strict = on })},
		{"TULLE_CLUSTER_NETWORKS", "", "Networks whose unknown addresses are refused before discovery has named them, comma-separated.", setNetworks},
		{"TULLE_MAX_CONNECTIONS", "8192", "Open connections (R1.5).", number(1, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Connections })},
		{"TULLE_MAX_HANDSHAKES", "1024", "TLS handshakes in flight (R1.5).", number(1, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Handshakes })},
		{"TULLE_MAX_REQUESTS", "100000", "Requests in flight (R1.5).", number(1, 1<<24, func(s *settings) *int { return &s.proxy.Limits.Requests })},
		{"TULLE_MAX_REQUEST_RATE", "0", "Requests in a second that are let through to the application, as many at once; the others are answered with 429 (R8.6). 0: all.", number(0, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Rate })},
		{"TULLE_MAX_ENDPOINT_CONNECTIONS", "1024", "Connections to one endpoint.", number(1, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Conns })},
		{"TULLE_MAX_WAITING", "1024", "Requests that wait for one target or endpoint (R6.5); those that connections being made have room for wait besides (R4.4).", number(1, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Waiting })},
		{"TULLE_MAX_TARGETS", "4096", "Targets in use.", number(1, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Targets })},
		{"TULLE_MAX_HEADER_BYTES", "65536", "A head, in bytes (R1.5).", number(1<<10, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Heads.HeaderBytes })},
		{"TULLE_MAX_HEADER_COUNT", "256", "Fields of a head (R1.5).", number(8, 1<<14, func(s *settings) *int { return &s.proxy.Limits.Heads.HeaderCount })},
		{"TULLE_MAX_TARGET_BYTES", "32768", "A request target, in bytes (R1.5).", number(256, 1<<20, func(s *settings) *int { return &s.proxy.Limits.Heads.TargetBytes })},
		{"TULLE_BUFFER_BYTES", "", "What is kept for streams, parked heads and replays, in bytes (R4.2). Empty: 64 MiB, or a quarter of the memory limit where that is less.", setBuffer},
		{"TULLE_MEMORY_LIMIT", "", "At 85 % of it, in bytes, new work is shed (R1.6). Empty: GOMEMLIMIT, and none without one.", setMemory},
		{"TULLE_CONNECT_TIMEOUT", "1s", "Connecting to an endpoint (R7.4).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Connect })},
		{"TULLE_APP_CONNECT_TIMEOUT", "300ms", "Connecting to the application (R7.4).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.ConnectApp })},
		{"TULLE_HANDSHAKE_TIMEOUT", "5s", "A TLS handshake (R7.4).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Handshake })},
		{"TULLE_RESOLVE_TIMEOUT", "1s", "Waiting for the control plane to say what a target is (R11.4).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Resolve })},
		{"TULLE_ENDPOINT_TIMEOUT", "1s", "Waiting for a ready endpoint (R6.5).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Endpoint })},
		{"TULLE_HEADER_TIMEOUT", "30s", "Reading one request head (R3.5).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Header })},
		{"TULLE_IDLE_TIMEOUT", "90s", "A client's connection between requests (R3.5).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Idle })},
		{"TULLE_POOL_IDLE_TIMEOUT", "1m", "An unused connection to an endpoint or the application (R3.5).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.HopIdle })},
		{"TULLE_HOP_MAX_AGE", "1h", "Age of a connection between proxies; each gets up to a tenth less (R4.4).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.HopAge })},
		{"TULLE_DETECT_SILENCE", "10ms", "How long a client may be silent before the server side is connected (R2.5).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Silence })},
		{"TULLE_DETECT_TIMEOUT", "10s", "How long a begun prefix may stay undecidable (R2.5).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Undecided })},
		{"TULLE_TARGET_IDLE", "10m", "When an unused target is dropped.", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.TargetIdle })},
		{"TULLE_PING_INTERVAL", "10s", "Between PINGs on a quiet connection between proxies (R1.1).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Ping })},
		{"TULLE_LAME_DUCK", "3s", "How long inbound accepts on after SIGTERM (R11.2).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.LameDuck })},
		{"TULLE_DRAIN_TIMEOUT", "20s", "From SIGTERM to the exit, at most (R11.2).", duration(func(s *settings) *time.Duration { return &s.proxy.Timeouts.Drain })},
		{"TULLE_LOG_LEVEL", "info", "`debug`, `info`, `warn` or `error`.", func(s *settings, v string) error { s.logLevel = v; return nil }},
		{"TULLE_LOG_FORMAT", "json", "`json` or `plain`.", func(s *settings, v string) error { s.logFormat = v; return nil }},
		{"TULLE_POLL_HOLD", "500us", "How long a worker waits with its processor after the last event before it parks; negative never.", duration(func(s *settings) *time.Duration { return &s.hold })},
		{"TULLE_GC_PERCENT", "50", "The collector's GOGC.", number(10, 1000, func(s *settings) *int { return &s.gcPercent })},
	}
}

// read makes settings of an environment; every mistake is told at once.
func read(env func(string) string) (settings, error) {
	var s settings
	var errs []error
	for _, t := range table() {
		v := env(t.name)
		if v == "" {
			v = t.initial
		}
		if v == "" {
			continue
		}
		if err := t.set(&s, v); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", t.name, v, err))
		}
	}
	errs = append(errs, s.missing()...)
	return s, errors.Join(errs...)
}

func (s *settings) missing() []error {
	var errs []error
	need := func(name string, set bool) {
		if !set {
			errs = append(errs, fmt.Errorf("%s is not set: see docs/proxy.md", name))
		}
	}
	need("TULLE_IDENTITY", s.identity != "")
	need("TULLE_WORKLOAD", s.proxy.Workload.Name != "")
	need("TULLE_TOKEN_FILE", s.tokenFile != "")
	need("TULLE_TRUST_BUNDLE_DIR", s.bundleDir != "")
	need("TULLE_IDENTITY_ADDR", s.identityAddr != "")
	need("TULLE_IDENTITY_NAME", s.identityName != "")
	need("TULLE_DESTINATION_ADDR", s.destinationAddr != "")
	need("TULLE_DESTINATION_NAME", s.destinationName != "")
	need("TULLE_POD_IPS", len(s.probes) == 0 || len(s.podIPs) > 0)
	return errs
}

func (s *settings) workload() string {
	return s.proxy.Workload.Namespace + "/" + s.proxy.Workload.Name
}

// token reads the join token anew: it may have been replaced.
func (s *settings) token() (string, error) {
	b, err := os.ReadFile(s.tokenFile)
	return strings.TrimSpace(string(b)), err
}

func (s *settings) logger(w io.Writer) (*zap.Logger, error) {
	var err error
	s.level, err = zap.ParseAtomicLevel(s.logLevel)
	if err != nil {
		return nil, fmt.Errorf("TULLE_LOG_LEVEL: %w", err)
	}
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.ISO8601TimeEncoder
	enc := zapcore.NewJSONEncoder(cfg)
	switch s.logFormat {
	case "json":
	case "plain":
		enc = zapcore.NewConsoleEncoder(cfg)
	default:
		return nil, fmt.Errorf("TULLE_LOG_FORMAT=%q: want json or plain", s.logFormat)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), s.level)), nil
}

func identityOf(p *mesh.Identity, v string) error {
	id, err := mesh.ParseIdentity(v)
	*p = id
	return err
}

// addr reads a listener's address. The one for all addresses of both families stands for IPv4's alone on a
// kernel without IPv6: the injector cannot know which kernel a pod will meet.
func addr(p *netip.AddrPort, v string) error {
	a, err := netip.ParseAddrPort(v)
	if err == nil && a.Addr() == netip.IPv6Unspecified() && !hasIPv6() {
		a = netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port())
	}
	*p = a
	return err
}

// hasIPv6 reports whether the kernel can listen at [::].
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func setWorkload(s *settings, v string) error {
	ns, name, ok := strings.Cut(v, "/")
	if !ok || ns == "" || name == "" {
		return errors.New("want namespace/name")
	}
	s.proxy.Workload.Namespace, s.proxy.Workload.Name = ns, name
	return nil
}

// pairs splits "a=b,c=d".
func pairs(v string, each func(left, right string) error) error {
	for one := range strings.SplitSeq(v, ",") {
		l, r, ok := strings.Cut(strings.TrimSpace(one), "=")
		if !ok {
			return fmt.Errorf("%q: want listen=target", one)
		}
		if err := each(l, r); err != nil {
			return err
		}
	}
	return nil
}

func setUpstreams(s *settings, v string) error {
	return pairs(v, func(l, r string) error {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			return err
		}
		t, err := mesh.ParseTarget(r)
		s.proxy.Upstreams = append(s.proxy.Upstreams, proxy.Upstream{Listen: a, Target: t})
		return err
	})
}

func setInboundPorts(s *settings, v string) error {
	return pairs(v, func(l, r string) error {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			return err
		}
		b, err := netip.ParseAddrPort(r)
		s.proxy.InboundPorts = append(s.proxy.InboundPorts, proxy.InboundPort{Listen: a, App: b})
		return err
	})
}

func setBalancing(s *settings, v string) error {
	kinds := map[string]mesh.Balancing{
		"ewma": mesh.BalanceEWMA, "round-robin": mesh.BalanceRoundRobin,
		"least-requests": mesh.BalanceLeastRequests, "random": mesh.BalanceRandom,
	}
	k, ok := kinds[v]
	if !ok {
		return errors.New("want ewma, round-robin, least-requests or random")
	}
	s.proxy.Balancing, s.proxy.Override = k, true
	return nil
}

func setNetworks(s *settings, v string) error {
	for one := range strings.SplitSeq(v, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return err
		}
		s.proxy.ClusterNetworks = append(s.proxy.ClusterNetworks, p)
	}
	return nil
}

func setBuffer(s *settings, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1<<20 {
		return errors.New("want at least 1048576")
	}
	s.proxy.BufferBytes = n
	return nil
}

func setMemory(s *settings, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 8<<20 {
		return errors.New("want at least 8388608")
	}
	s.proxy.MemoryLimit = n
	return nil
}

func setPodIPs(s *settings, v string) error {
	for one := range strings.SplitSeq(v, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(one))
		if err != nil {
			return err
		}
		s.podIPs = append(s.podIPs, a)
	}
	return nil
}

func setProbes(s *settings, v string) (err error) {
	s.probes, err = probe.Parse(v)
	return err
}

func toggle(set func(s *settings, on bool)) func(*settings, string) error {
	return func(s *settings, v string) error {
		if v != "on" && v != "off" {
			return errors.New("want on or off")
		}
		set(s, v == "on")
		return nil
	}
}

func number(low, high int, field func(*settings) *int) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			return fmt.Errorf("want a number from %d to %d", low, high)
		}
		*field(s) = n
		return nil
	}
}

func duration(field func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) error {
		d, err := time.ParseDuration(v)
		*field(s) = d
		return err
	}
}

// ownAddrs are this machine's addresses but loopback, by which endpoints that are this very workload
// are known (R1.4). A pod has no other: with explicit ports a machine may hold several workloads.
func (s *settings) ownAddrs() ([]netip.Addr, error) {
	if !s.proxy.Inbound.IsValid() {
		return nil, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("own addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own, nil
}
