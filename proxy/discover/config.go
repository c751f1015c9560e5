package discover

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Update is the state of a target, whole or changed.
type Update struct {
	Target  mesh.Target
	Version uint64
	// Full: what Added does not list is gone. Otherwise Added and Removed are changes.
	Full    bool
	Added   []mesh.Endpoint // new or changed rows
	Removed []netip.AddrPort
	Policy  *mesh.TargetPolicy // nil: unchanged
}

// Sink takes what the control plane tells. Its methods are called one at a time, from the client's
// goroutine, and must not block; done and answer may be called from any goroutine, once each, at
// any time.
type Sink interface {
	// Target brings a target's state. done(nil) says that it is in force, done(err) refuses it: the
	// Sink then holds on to what it had.
	Target(u Update, done func(error))
	// Inbound brings the workload's own policy.
	Inbound(p *mesh.InboundPolicy, version uint64, done func(error))
	// Digest asks for the digest of what a target's balancer holds. atVersion is false when the
	// balancer stands on another version by now.
	Digest(t mesh.Target, version uint64, answer func(have uint64, atVersion bool))
	// Connected tells when the stream comes up and goes away.
	Connected(up bool)
}

// Hello is what the server says of itself and the cluster at the start of a stream.
type Hello struct {
	ServerVersion, Replica, Epoch string
	// TrustDomain and Networks are the cluster's own (rule R11.4).
	TrustDomain string
	Networks    []netip.Prefix
	Zone, Node  string // of the workload; empty when unknown
}

// Config is what a Client is made of. Only Server and the credentials in DialOptions are needed.
type Config struct {
	// Server is the destination service as grpc.NewClient takes it, "destination.tulle:8086".
	Server string
	// DialOptions hold the transport credentials.
	DialOptions []grpc.DialOption
	// Namespace and Name say which of its identity's workloads this is. Both may be empty when there
	// is but one.
	Namespace, Name string
	// Version is the proxy's own.
	Version string
	// OnHello is called, like a Sink's method, with each stream's hello; nil for nobody.
	OnHello func(Hello)
	// MaxMessage is the largest message accepted, in bytes; 0 is 64 MiB.
	MaxMessage int
	// BackoffMin and BackoffMax bound the wait between attempts to connect, which is drawn evenly
	// from half of to one and a half times its doubling value; 0 is 100 ms and 2 s: a control plane that
	// is back is to be noticed within seconds.
	BackoffMin, BackoffMax time.Duration
	// Spread is how long, at most, a proxy waits before it comes back after a stream that was up, so
	// that a restarted server is not met by all at once; 0 is 1 s, negative none.
	Spread time.Duration
	// ResyncSpread is how long, at most, it waits before it asks for a target whole; 0 is 500 ms,
	// negative none. It doubles, to a minute, for a target that keeps differing.
	ResyncSpread time.Duration
	// Log is told of connections that come and go, on change only; nil is silent.
	Log *zap.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&c.BackoffMin, 100*time.Millisecond)
	def(&c.BackoffMax, 2*time.Second)
	def(&c.Spread, time.Second)
	def(&c.ResyncSpread, 500*time.Millisecond)
	if c.MaxMessage == 0 {
		c.MaxMessage = 64 << 20
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// Stats counts what happened since the start.
type Stats struct {
	Connects   uint64 // streams that came up
	Updates    uint64 // of targets
	Inbounds   uint64 // inbound policies
	Digests    uint64 // compared
	Mismatches uint64 // digests that differed from what the balancer held
	Gaps       uint64 // versions or deltas that did not follow what was held
	Resyncs    uint64 // requests for a target whole
	Nacks      uint64 // versions refused, by the Sink or because they could not be read
	Refusals   uint64 // requests that the server does not serve
	Reports    uint64 // failures reported
}
