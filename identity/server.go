package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tulle-mesh/tulle/api/identity/v1"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/version"
)

// Config says how the service is put together.
type Config struct {
	// Authority signs; required.
	Authority *Authority
	// Tokens says whom a token proves; required.
	Tokens TokenValidator
	// Identity is the service's own, which proxies are told by their bootstrap; required.
	Identity mesh.Identity
	// Admit refuses identities that no workload has (any more), for renewals above all: they need no
	// token. Nil admits everybody. It is called for every request, with no lock held.
	Admit func(context.Context, mesh.Identity) error
	// Rotation says when roots and issuers are replaced.
	Rotation Rotation
	// Replicas are the other instances that share the Authority; nil where there are none.
	Replicas Replicas
	// MaxStreamAge is how old a WatchTrust stream gets, ± 10 %; 0 is an hour.
	MaxStreamAge time.Duration
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// Log is the logger; nil for none.
	Log *zap.Logger
}

// Replicas is what the instances of a service that share an Authority know of each other.
type Replicas interface {
	// Lead calls lead while this instance is the one that changes things, until ctx ends.
	Lead(ctx context.Context, lead func(context.Context))
	// Publish tells the others how far this instance's watchers are, when it thinks fit.
	Publish(ctx context.Context, heard func() Heard)
	// AllOn reports whether the watchers of all instances hold a version, and they are all there are.
	AllOn(version uint64) bool
}

// Server is the identity service.
type Server struct {
	cfg       Config
	authority *Authority
	certifier *certifier
	serving   *serving
	watchers  *watchers
	metrics   *metrics
	stopping  chan struct{} // closed when Run ends
	stop      sync.Once
}

// New checks cfg and makes a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.Authority == nil || cfg.Tokens == nil {
		return nil, errors.New("identity service: it wants an authority and a token validator")
	}
	if id, err := mesh.ParseIdentity(string(cfg.Identity)); err != nil || id.TrustDomain() != cfg.Authority.TrustDomain() {
		return nil, fmt.Errorf("identity service: its own identity is %q, want one of %s", cfg.Identity, cfg.Authority.TrustDomain())
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Admit == nil {
		cfg.Admit = func(context.Context, mesh.Identity) error { return nil }
	}
	cfg.MaxStreamAge = orDefault(cfg.MaxStreamAge, time.Hour)
	s := &Server{
		cfg: cfg, authority: cfg.Authority, watchers: newWatchers(), stopping: make(chan struct{}),
		serving: &serving{authority: cfg.Authority, identity: cfg.Identity},
	}
	s.metrics = newMetrics(cfg.Registerer, s)
	s.certifier = &certifier{authority: cfg.Authority, tokens: cfg.Tokens, admit: cfg.Admit, metrics: s.metrics, log: cfg.Log}
	return s, nil
}

// Limits of the listener.
const (
	handshakeTime = 10 * time.Second
	maxMessage    = 64 << 10
	drainTime     = 5 * time.Second
)

// Run serves on l, rotates the authority, and returns when ctx has ended and every stream with it.
// It closes l. A server runs once.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.serving.config())),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(16), // of one proxy: a watch, and a renewal now and then
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	pb.RegisterIdentityServer(g, &service{s: s})

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var leads atomic.Bool
	wg.Go(func() { s.rotate(ctx, &leads) })                          // owned by Run, ends with ctx
	wg.Go(func() { s.authority.follow(ctx, leads.Load, s.cfg.Log) }) // owned by Run, ends with ctx
	wg.Go(func() {                                                   // owned by Run, ends with ctx
		<-ctx.Done()
		s.stop.Do(func() { close(s.stopping) })
		force := time.AfterFunc(drainTime, g.Stop)
		defer force.Stop()
		g.GracefulStop()
	})
	err := g.Serve(l) // nil after GracefulStop
	cancel()
	wg.Wait()
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) { // ctx ended before Serve began
		return fmt.Errorf("identity service: %w", err)
	}
	return nil
}

// rotate changes the authority when it is due, in one instance at a time.
func (s *Server) rotate(ctx context.Context, leads *atomic.Bool) {
	r := s.cfg.Replicas
	if r == nil {
		leads.Store(true)
		s.rotator().run(ctx)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.Publish(ctx, s.watchers.heard) }) // owned by rotate, ends with ctx
	r.Lead(ctx, func(ctx context.Context) {
		leads.Store(true)
		defer leads.Store(false)
		s.rotator().run(ctx)
	})
	wg.Wait()
}

func (s *Server) rotator() *rotator {
	cfg := s.authority.cfg
	acked := s.watchers.allOn
	if s.cfg.Replicas != nil {
		acked = s.cfg.Replicas.AllOn
	}
	return &rotator{
		authority: s.authority, metrics: s.metrics, log: s.cfg.Log, acked: acked,
		rules: rules{
			Rotation: s.cfg.Rotation.complete(cfg.LeafLifetime),
			leaf:     cfg.LeafLifetime, issuer: cfg.IssuerLifetime, root: cfg.RootLifetime,
		},
	}
}

// Standing counts the proxies that follow the trust bundle by what they said of its newest version.
func (s *Server) Standing() Standing {
	return s.watchers.standing(s.authority.current().version)
}

// service is the gRPC side: protobuf stops here.
type service struct {
	pb.UnimplementedIdentityServer

	s *Server
}

// Certify implements identityv1.IdentityServer.
func (v *service) Certify(ctx context.Context, r *pb.CertifyRequest) (*pb.CertifyResponse, error) {
	cert, err := v.s.certifier.certify(ctx, ask{token: r.GetToken(), csr: r.GetCsr(), peer: peerChain(ctx)})
	if err != nil {
		return nil, refusalStatus(err)
	}
	return &pb.CertifyResponse{
		Chain: cert.Chain, NotAfter: timestamppb.New(cert.NotAfter), Issuer: cert.Issuer,
	}, nil
}

// peerChain is what the client showed and proved to hold the key of.
func peerChain(ctx context.Context) []*x509.Certificate {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			return info.State.PeerCertificates
		}
	}
	return nil
}

// refusalStatus carries the reason as a detail of the status.
func refusalStatus(err error) error {
	var r *certify.Refusal
	if !errors.As(err, &r) {
		panic("BUG: a refusal without a reason: " + err.Error())
	}
	st := status.New(refusalCode(r.Reason), r.Detail)
	if with, err := st.WithDetails(&pb.CertifyRefusal{Reason: pb.RefusalReason(r.Reason)}); err == nil {
		st = with
	}
	return st.Err()
}

func refusalCode(r certify.Reason) codes.Code {
	switch r {
	case certify.BadCSR, certify.WeakKey:
		return codes.InvalidArgument
	case certify.WrongName, certify.NotAdmitted:
		return codes.PermissionDenied
	case certify.Busy:
		return codes.ResourceExhausted
	case certify.Internal:
		return codes.Unavailable
	default:
		return codes.Unauthenticated
	}
}

// WatchTrust implements identityv1.IdentityServer.
func (v *service) WatchTrust(stream grpc.BidiStreamingServer[pb.WatchTrustRequest, pb.WatchTrustResponse]) error {
	chain := peerChain(stream.Context())
	id, err := v.s.certifier.peer(chain)
	if err != nil {
		return status.Errorf(codes.Unauthenticated, "client certificate: %v", err)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message is no hello")
	}
	w := &watcher{identity: id, workload: hello.GetWorkload()}
	v.s.watchers.add(w)
	defer v.s.watchers.remove(w)
	answers := make(chan error, 1)
	go func() { answers <- v.answers(stream, w) }() // ends with the stream, whose end follows our return
	return v.follow(stream, answers, v.s.streamEnd(chain[0]))
}

// streamEnd is how long a stream may live: as long as its certificate, at most.
func (s *Server) streamEnd(leaf *x509.Certificate) time.Duration {
	age := time.Duration(float64(s.cfg.MaxStreamAge) * (0.9 + 0.2*rand.Float64()))
	return min(age, leaf.NotAfter.Sub(s.authority.cfg.Now()))
}

// follow sends the bundle as it is and whenever it has changed. A slow reader gets the newest one.
func (v *service) follow(
	stream grpc.BidiStreamingServer[pb.WatchTrustRequest, pb.WatchTrustResponse], answers <-chan error, age time.Duration,
) error {
	err := stream.Send(&pb.WatchTrustResponse{Message: &pb.WatchTrustResponse_Hello{Hello: &pb.TrustHello{
		Features: []pb.TrustFeature{pb.TrustFeature_TRUST_FEATURE_ISSUER_CHANGE}, Version: version.Number(),
	}}})
	end := time.NewTimer(age)
	defer end.Stop()
	for err == nil {
		bundle, changed := v.s.authority.Trust()
		if err = stream.Send(&pb.WatchTrustResponse{Message: &pb.WatchTrustResponse_Bundle{Bundle: &pb.TrustBundle{
			Version: bundle.Version, TrustDomain: bundle.TrustDomain, Roots: bundle.Roots, Issuer: bundle.Issuer,
		}}}); err != nil {
			break
		}
		select {
		case <-changed:
		case <-end.C:
			return nil
		case <-v.s.stopping:
			return status.Error(codes.Unavailable, "the identity service stops")
		case err := <-answers:
			return err
		}
	}
	return err
}

// answers takes acknowledgements until the stream ends. How a watcher leaves is no matter; nil.
func (v *service) answers(stream grpc.BidiStreamingServer[pb.WatchTrustRequest, pb.WatchTrustResponse], w *watcher) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the watcher left
		}
		switch m := m.GetMessage().(type) {
		case *pb.WatchTrustRequest_Ack:
			v.s.watchers.ack(w, m.Ack.GetVersion())
		case *pb.WatchTrustRequest_Nack:
			v.s.watchers.nack(w, m.Nack.GetVersion())
			v.s.metrics.nacks.Inc()
			v.s.cfg.Log.Warn("trust bundle refused", zap.String(logkey.Peer, string(w.identity)), zap.String(logkey.Name, w.workload),
				zap.Uint64(logkey.Revision, m.Nack.GetVersion()), zap.String(logkey.Reason, m.Nack.GetReason()))
		case *pb.WatchTrustRequest_Hello:
			return status.Error(codes.InvalidArgument, "a second hello")
		}
	}
}
