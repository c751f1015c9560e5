package proxy

import (
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/h1"
)

// Config of a Proxy. Zero fields take the defaults that WithDefaults documents.
// It is immutable once passed.
type Config struct {
	// Workers is the number of workers; 0 is 1.
	Workers int
	// Workload is whom the proxy stands beside.
	Workload Workload
	// Outbound and Inbound are the listeners that traffic is redirected to; the
	// zero value opens none (R1.2).
	Outbound, Inbound netip.AddrPort
	// OwnAddrs are this workload's addresses where inbound traffic is redirected: an endpoint that has
	// one of them is this very workload (R1.4).
	OwnAddrs []netip.Addr
	// Upstreams and InboundPorts are explicit listeners for machines without a
	// redirect.
	Upstreams    []Upstream
	InboundPorts []InboundPort
	// DisableTLS sends and accepts everything in plaintext: for experiments alone.
	DisableTLS bool
	// DisableRetries makes every failure final.
	DisableRetries bool
	// Balancing overrides what discovery says, when Override is set.
	Balancing mesh.Balancing
	Override  bool
	Limits    Limits
	Timeouts  Timeouts
	// BufferBytes bounds what is kept for streams, parked heads and replays (R4.2);
	// 0 is 64 MiB, or a quarter of the memory limit where that is less.
	BufferBytes int64
	// MemoryLimit is what shedding is measured by (R1.6), in bytes; 0 is the
	// runtime's own limit (GOMEMLIMIT), and none when there is none.
	MemoryLimit int64
	// ClusterNetworks are the networks whose unknown addresses are refused (R11.4)
	// until discovery has named them.
	ClusterNetworks []netip.Prefix
	// Strict refuses every target that discovery does not know (R11.4).
	Strict bool
}

// Workload is whom the proxy stands beside; it labels metrics.
type Workload struct {
	Namespace, Name, Deployment, Zone string
}

// Upstream is a local address whose connections go to a target.
type Upstream struct {
	Listen netip.AddrPort
	Target mesh.Target
}

// InboundPort is an address that receives for an application's port.
type InboundPort struct {
	Listen, App netip.AddrPort
}

// Limits of rule R1.5.
type Limits struct {
	Connections int // 0: 0.8 of RLIMIT_NOFILE as the caller found it, else 8,192
	Handshakes  int // in flight; 0: 1,024
	Requests    int // in flight; 0: 100,000
	Conns       int // to one endpoint; 0: 1,024
	Waiting     int // requests that wait for one endpoint or target; 0: 1,024
	Rate        int // requests in a second for the application, as many at once; 0: unlimited (R8.6)
	Targets     int // that the application dials, and ports of its own that others dial; 0: 4,096
	Heads       h1.Limits
}

// Timeouts of a proxy. Negative ones are off where that makes sense.
type Timeouts struct {
	Connect    time.Duration // to an endpoint; 0: 1 s (R7.4)
	ConnectApp time.Duration // to the application; 0: 300 ms
	Handshake  time.Duration // 0: 5 s
	Resolve    time.Duration // waiting for discovery; 0: 1 s (R11.4)
	Endpoint   time.Duration // waiting for a ready endpoint; 0: 1 s (R6.5)
	Header     time.Duration // reading of one head; 0: 30 s (R3.5)
	Idle       time.Duration // client connection between requests; 0: 90 s (R3.5)
	HopIdle    time.Duration // unused connection to an endpoint; 0: 60 s
	HopAge     time.Duration // of a connection between proxies; 0: 1 h (R4.4)
	Silence    time.Duration // before the server side is connected; 0: 10 ms (R2.5)
	Undecided  time.Duration // of a begun prefix; 0: 10 s (R2.5)
	TargetIdle time.Duration // before an unused target is dropped; 0: 10 min
	Stale      time.Duration // what discovery said is used without its stream; 0: 24 h (R11.4)
	Ping       time.Duration // between PINGs on a hop; 0: 10 s (R1.1)
	LameDuck   time.Duration // inbound accepts on after SIGTERM; 0: 3 s (R11.2)
	Drain      time.Duration // at most, from SIGTERM to exit; 0: 20 s (R11.2)
}

// WithDefaults returns c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	orInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	orTime := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	orInt(&c.Workers, 1)
	l, t := &c.Limits, &c.Timeouts
	orInt(&l.Connections, 8192)
	orInt(&l.Handshakes, 1024)
	orInt(&l.Requests, 100_000)
	orInt(&l.Conns, 1024)
	orInt(&l.Waiting, 1024)
	orInt(&l.Targets, 4096)
	orTime(&t.Connect, time.Second)
	orTime(&t.ConnectApp, 300*time.Millisecond)
	orTime(&t.Handshake, 5*time.Second)
	orTime(&t.Resolve, time.Second)
	orTime(&t.Endpoint, time.Second)
	orTime(&t.Header, 30*time.Second)
	orTime(&t.Idle, 90*time.Second)
	orTime(&t.HopIdle, time.Minute)
	orTime(&t.HopAge, time.Hour)
	orTime(&t.Silence, 10*time.Millisecond)
	orTime(&t.Undecided, 10*time.Second)
	orTime(&t.TargetIdle, 10*time.Minute)
	orTime(&t.Stale, 24*time.Hour)
	orTime(&t.Ping, 10*time.Second)
	orTime(&t.LameDuck, 3*time.Second)
	orTime(&t.Drain, 20*time.Second)
	return c
}
