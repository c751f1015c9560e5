package destination

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/logkey"
)

// Server serves Discovery. Register it with a grpc.Server, and Run it.
type Server struct {
	pb.UnimplementedDiscoveryServer

	cfg     Config
	hub     *hub
	encoder *encoder
	metrics *metrics
	done    chan struct{} // closed when Run ends
	streams sync.WaitGroup

	mu       sync.Mutex // guards below
	stopped  bool       // no stream may begin
	suspects map[netip.AddrPort]bool
	failures []FailureReport // the latest ones
}

// New returns a Server that serves once it runs and its store has synced.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	m := newMetrics(cfg.Registerer)
	return &Server{
		cfg: cfg, hub: newHub(), encoder: newEncoder(m), metrics: m,
		done: make(chan struct{}), suspects: make(map[netip.AddrPort]bool),
	}
}

// Run spreads changes to the streams until ctx ends; then it ends the streams, which go to another
// replica, and waits for them. A Server runs once.
func (s *Server) Run(ctx context.Context) error {
	watch := s.cfg.Store.Watch()
	defer watch.Close()
	defer s.streams.Wait()
	defer s.stop()
	var chores sync.WaitGroup
	chores.Go(func() { s.chores(ctx) }) // beside, because an audit takes longer than a change may wait
	defer chores.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Ready():
			s.hub.spread(watch.Take())
		}
	}
}

// chores audits, re-checks and tidies up until ctx ends.
func (s *Server) chores(ctx context.Context) {
	audit := time.NewTimer(s.auditWait())
	defer audit.Stop()
	recheck := time.NewTicker(s.cfg.RecheckInterval)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-audit.C:
			s.audit()
			audit.Reset(s.auditWait())
		case <-recheck.C:
			s.encoder.sweep(time.Now())
			s.recheck()
		}
	}
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	close(s.done)
}

// spawn runs the two halves of a stream, unless the server stops.
func (s *Server) spawn(halves ...func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	for _, f := range halves {
		s.streams.Go(f)
	}
	return true
}

// audit derives the tables anew. What it finds is a bug, and repaired.
func (s *Server) audit() {
	s.metrics.audits.Inc()
	for _, p := range s.cfg.Store.Audit() {
		s.metrics.auditDifferences.Inc()
		s.cfg.Log.Error("a table was wrong and is repaired", zap.String(logkey.Reason, p))
	}
}

// recheck hands on what proxies failed to reach since the last time.
func (s *Server) recheck() {
	s.mu.Lock()
	addrs := make([]netip.AddrPort, 0, len(s.suspects))
	for a := range s.suspects {
		addrs = append(addrs, a)
	}
	clear(s.suspects)
	s.mu.Unlock()
	if len(addrs) == 0 {
		return
	}
	s.metrics.rechecks.Inc()
	s.cfg.Recheck(addrs)
	s.audit()
}

// Register puts the service on a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { pb.RegisterDiscoveryServer(r, s) }

// Sync serves one proxy.
func (s *Server) Sync(rpc pb.Discovery_SyncServer) error {
	ctx := rpc.Context()
	if err := s.ready(ctx); err != nil {
		return err
	}
	id, err := s.cfg.Identify(ctx)
	if err != nil {
		s.metrics.rejected.Inc()
		return status.Error(codes.Unauthenticated, err.Error())
	}
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "the first message must be a hello")
	}
	st := newStream(s, id, first.GetHello())
	s.hub.join(st)
	defer st.end()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	return s.serve(ctx, st, rpc)
}

// serve runs a stream's two goroutines. They end when the handler has returned and gRPC has ended
// the call, for which Run waits.
func (s *Server) serve(ctx context.Context, st *stream, rpc pb.Discovery_SyncServer) error {
	ends := make(chan error, 2)
	if !s.spawn(func() { ends <- st.receive(rpc) }, func() { ends <- st.send(ctx, rpc) }) {
		return errStops()
	}
	age := make(<-chan time.Time)
	if s.cfg.MaxAge > 0 {
		t := time.NewTimer(about(s.cfg.MaxAge))
		defer t.Stop()
		age = t.C
	}
	select {
	case err := <-ends:
		if errors.Is(err, io.EOF) {
			return nil // the proxy ended it
		}
		if _, ok := status.FromError(err); !ok {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		return err
	case <-age:
		s.metrics.aged.Inc()
		return nil
	case <-s.done:
		return errStops()
	}
}

func errStops() error { return status.Error(codes.Unavailable, "the server stops") }

// ready waits a while for the sources to sync: what a replica does not know yet must not take
// anything from a proxy.
func (s *Server) ready(ctx context.Context) error {
	wait := time.NewTimer(s.cfg.SyncWait)
	defer wait.Stop()
	select {
	case <-s.cfg.Store.Synced():
		return nil
	case <-wait.C:
		return status.Error(codes.Unavailable, "the sources have not synced yet")
	case <-s.done:
		return errStops()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (s *Server) digestWait() time.Duration {
	if s.cfg.DigestInterval < 0 {
		return about(s.cfg.AckTimeout)
	}
	return about(s.cfg.DigestInterval)
}

func (s *Server) auditWait() time.Duration {
	if s.cfg.AuditInterval < 0 {
		return 1<<63 - 1
	}
	return about(s.cfg.AuditInterval)
}

// about is d, give or take a fifth.
func about(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }
