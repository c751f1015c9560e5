package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/tulle-mesh/tulle/controller/files"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/destination"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/internal/version"
	proxyidentity "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// Accounts of the control plane's identities, in its namespace. In a cluster they are service accounts,
// and begin with "tulle-".
const (
	IdentityAccount    = "identity"
	DestinationAccount = "destination"

	clusterAccounts = "tulle-"
)

// defaultTrustDomain is state.Settings's.
const defaultTrustDomain = "cluster.local"

// drainTime is how long streams may take to end when destination does.
const drainTime = 5 * time.Second

// Plane is the control plane, or the part of it that runs in this process.
type Plane struct {
	cfg     Config
	log     *zap.Logger
	reg     *prometheus.Registry
	store   *state.Store // nil without a source
	reports *status.Set
	source  Source

	news     *state.Watch         // for the namespaces that need the trust bundle; nil outside a cluster
	tokens   *identity.JoinTokens // nil without identity, as authority and identity
	identity *identity.Server

	destination *destination.Server // nil without it, as leaf and creds
	leaf        *proxyidentity.Client
	creds       *mtls.Credentials
}

// New checks cfg and opens the state directory. It serves nothing before Run; whoever does not Run
// closes the listeners and the Plane.
func New(cfg Config) (*Plane, error) {
	if cfg.Settings.TrustDomain == "" {
		cfg.Settings.TrustDomain = defaultTrustDomain
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Namespace == "" {
		cfg.Namespace = Namespace
	}
	cfg.Settings.Pods = cfg.Cluster != nil
	p := &Plane{cfg: cfg, log: cfg.Log, reg: prometheus.NewRegistry(), reports: status.NewSet(cfg.Log.Named("source"))}
	p.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.openSource(); err != nil {
		return nil, err
	}
	if err := p.openIdentity(); err != nil {
		return nil, err
	}
	if err := p.openDestination(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plane) openSource() error {
	if p.cfg.Source == "" {
		return nil
	}
	p.store = state.NewStore(p.cfg.Settings)
	if p.cfg.Cluster != nil {
		p.source = p.cfg.Cluster.Source(SourceConfig{
			Store: p.store, Reports: p.reports, PodsOnly: p.cfg.Destination == nil, Registerer: p.reg, Log: p.log.Named("cluster"),
		})
		return nil
	}
	dir := p.cfg.dir()
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("source %s: %w", p.cfg.Source, err)
	}
	p.source = fileSource{files.New(files.Config{Dir: dir, Store: p.store, Reports: p.reports, Log: p.log.Named("files")})}
	return nil
}

// Close ends the use of the state directory. Run does it too.
func (p *Plane) Close() {
	if p.news != nil {
		p.news.Close()
	}
	if p.tokens != nil {
		if err := p.tokens.Close(); err != nil {
			p.log.Warn("state directory", zap.Error(err))
		}
	}
}

func (p *Plane) openIdentity() error {
	cfg := p.cfg.Identity
	if cfg == nil {
		return nil
	}
	domain := p.cfg.Settings.TrustDomain
	if c := p.cfg.Cluster; c != nil {
		authority, err := identity.OpenShared(identity.AuthorityConfig{TrustDomain: domain, LeafLifetime: cfg.LeafLifetime}, c.Keep)
		if err != nil {
			return err
		}
		return p.newIdentity(authority, c.Tokens)
	}
	authority, err := identity.OpenAuthority(identity.AuthorityConfig{
		TrustDomain: domain, Dir: cfg.StateDir, LeafLifetime: cfg.LeafLifetime,
	})
	if err != nil {
		return err
	}
	if p.tokens, err = identity.OpenJoinTokens(identity.JoinConfig{Dir: cfg.StateDir, TrustDomain: domain}); err != nil {
		return err
	}
	return p.newIdentity(authority, p.tokens)
}

func (p *Plane) newIdentity(a *identity.Authority, tokens identity.TokenValidator) (err error) {
	p.identity, err = identity.New(identity.Config{
		Authority: a, Tokens: tokens, Identity: p.IdentityName(), Admit: p.admit(), Replicas: p.replicas(a),
		Registerer: p.reg, Log: p.log.Named("identity"),
	})
	if err != nil {
		p.Close()
	}
	return err
}

func (p *Plane) openDestination() error {
	cfg := p.cfg.Destination
	if cfg == nil {
		return nil
	}
	p.creds = mtls.NewCredentials(time.Now)
	host, _ := os.Hostname() // an empty name is one too
	replica := cmp.Or(cfg.Replica, host)
	own := proxyidentity.Config{
		Identity: p.DestinationName(), Workload: Namespace + "/" + DestinationAccount,
		Sink: p.creds, Registerer: p.reg, Log: p.log.Named("leaf"),
	}
	if p.cfg.Cluster != nil {
		own.Workload = p.cfg.Namespace + "/" + replica
	}
	if p.tokens != nil {
		own.Service, own.BundleDir = p.identity.Local(), p.BundleDir()
		own.Token = func() (string, error) {
			return p.tokens.Mint(identity.Join{Namespace: Namespace, Name: DestinationAccount, Account: DestinationAccount})
		}
	} else {
		own.Server, own.ServerIdentity, own.BundleDir = cfg.IdentityAddr, p.IdentityName(), cfg.BundleDir
		own.Token = func() (string, error) {
			b, err := os.ReadFile(cfg.TokenFile)
			return strings.TrimSpace(string(b)), err
		}
	}
	p.destination = destination.New(destination.Config{
		Store: p.store, Identify: identify, Recheck: p.source.Recheck,
		Version: version.Number(), Replica: replica, Registerer: p.reg, Log: p.log.Named("destination"),
	})
	var err error
	p.leaf, err = proxyidentity.New(own)
	return err
}

// IdentityName is the identity service's SPIFFE ID.
func (p *Plane) IdentityName() mesh.Identity { return p.cfg.name(IdentityAccount) }

// DestinationName is the destination service's SPIFFE ID.
func (p *Plane) DestinationName() mesh.Identity { return p.cfg.name(DestinationAccount) }

// BundleDir is where the identity service of this process keeps the trust bundle.
func (p *Plane) BundleDir() string {
	return filepath.Join(p.cfg.Identity.StateDir, identity.BundleDir)
}

// Mint makes a join token; identity must be in this process.
func (p *Plane) Mint(j identity.Join) (string, error) { return p.tokens.Mint(j) }

// Store is what is known of the mesh, nil without a source.
func (p *Plane) Store() *state.Store { return p.store }

// Run serves until ctx ends or a part fails.
func (p *Plane) Run(ctx context.Context) error {
	defer p.Close()
	g := &run.Group{}
	if p.source != nil {
		g.Add("source", p.source)
	}
	if p.identity != nil {
		g.Add("identity", run.Func(func(ctx context.Context) error { return p.identity.Run(ctx, p.cfg.Identity.Listener) }))
	}
	if p.destination != nil {
		g.Add("leaf", p.leaf)
		g.Add("streams", p.destination)
		g.Add("destination", run.Func(p.serveDestination))
	}
	if p.cfg.Admin != nil {
		g.Add("admin", run.Func(p.serveAdmin))
	}
	return g.Run(ctx)
}

// identify reads who is at the other end of a call. mtls.ServerConfig has verified the certificate in
// VerifyConnection, which leaves no VerifiedChains for destination.PeerIdentity to read.
func identify(ctx context.Context) (mesh.Identity, error) {
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			return mtls.IdentityOf(info.State.PeerCertificates[0])
		}
	}
	return "", errors.New("the caller showed no certificate")
}

// serveDestination answers proxies once there is a certificate to answer with.
func (p *Plane) serveDestination(ctx context.Context) error {
	l := p.cfg.Destination.Listener
	select {
	case <-p.leaf.Certified():
	case <-ctx.Done():
		return l.Close()
	}
	tls := credentials.NewTLS(mtls.ServerConfig(p.creds, "h2"))
	s := grpc.NewServer(append(destination.ServerOptions(), grpc.Creds(tls))...)
	p.destination.Register(s)
	ended := make(chan struct{})
	go func() { // ends with ctx; serveDestination waits for it
		defer close(ended)
		<-ctx.Done()
		force := time.AfterFunc(drainTime, s.Stop)
		defer force.Stop()
		s.GracefulStop()
	}()
	err := s.Serve(l)
	if ctx.Err() == nil {
		s.Stop()
		return fmt.Errorf("listener: %w", err)
	}
	<-ended
	return nil
}
