package destination

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// Config is what a Server is made of. Only Store is needed.
type Config struct {
	Store *state.Store
	// Identify tells who is at the other end of a call; nil reads the one URI name of the verified
	// client certificate.
	Identify func(context.Context) (mesh.Identity, error)
	// Recheck is asked to compare what the sources told with what they say now, because proxies met
	// failures at these addresses; nil does nothing. It is called at most once per RecheckInterval,
	// and the tables are audited with it.
	Recheck func([]netip.AddrPort)
	// RecheckInterval: 0 is 5 s.
	RecheckInterval time.Duration
	// DigestInterval is how often digests are sent, give or take a fifth; 0 is 5 s, negative never.
	DigestInterval time.Duration
	// MaxAge is how old a stream becomes, give or take a fifth; 0 is 30 min, negative for ever.
	MaxAge time.Duration
	// AckTimeout is how long a version may stay unanswered before the newest one is sent whole; it
	// doubles with each that stays so. 0 is 10 s.
	AckTimeout time.Duration
	// AuditInterval is how often the tables are derived anew and compared, give or take a fifth; 0 is
	// 5 min, negative never.
	AuditInterval time.Duration
	// SyncWait is how long a stream waits for the sources to sync before it is sent away; 0 is 5 s.
	SyncWait time.Duration
	// MaxTargets bounds the subscriptions of a stream; 0 is 10,000.
	MaxTargets int
	// Version and Replica name the server in its hello.
	Version, Replica string
	// Epoch names the history of versions; empty makes one up.
	Epoch string
	// Registerer takes the metrics; nil keeps them to the server.
	Registerer prometheus.Registerer
	Log        *zap.Logger // nil is silent
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&c.RecheckInterval, 5*time.Second)
	def(&c.DigestInterval, 5*time.Second)
	def(&c.MaxAge, 30*time.Minute)
	def(&c.AckTimeout, 10*time.Second)
	def(&c.AuditInterval, 5*time.Minute)
	def(&c.SyncWait, 5*time.Second)
	if c.MaxTargets == 0 {
		c.MaxTargets = 10_000
	}
	if c.Identify == nil {
		c.Identify = PeerIdentity
	}
	if c.Recheck == nil {
		c.Recheck = func([]netip.AddrPort) {}
	}
	if c.Epoch == "" {
		c.Epoch = rand.Text()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// PeerIdentity is the identity that the caller's certificate proved.
func PeerIdentity(ctx context.Context) (mesh.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("a call without a peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return "", errors.New("the caller showed no certificate that the trust bundle confirms")
	}
	uris := info.State.VerifiedChains[0][0].URIs
	if len(uris) != 1 {
		return "", fmt.Errorf("the caller's certificate names %d URIs, want one SPIFFE ID", len(uris))
	}
	return mesh.ParseIdentity(uris[0].String())
}

// ServerOptions are what a grpc.Server that serves Discovery wants besides its credentials: it
// notices proxies that are gone without a word, and takes no large requests.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(1 << 20),
	}
}
