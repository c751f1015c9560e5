package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// Sink is where certificates and bundles go; *mtls.Credentials is one. A bundle that a certificate
// needs comes before it. Calls come from one goroutine at a time.
type Sink interface {
	// SetLeaf replaces the proxy's own chain and key.
	SetLeaf(leaf tls.Certificate) error
	// SetBundle replaces the roots.
	SetBundle(b *mtls.Bundle)
}

// Config says who the proxy is and whom it asks.
type Config struct {
	// Identity is the proxy's own; required.
	Identity mesh.Identity
	// Workload tells instances with the same identity apart, "namespace/name".
	Workload string
	// Token reads the token of the first certificate, anew at each attempt; required.
	Token func() (string, error)
	// BundleDir holds the trust bundle to start from: trust-bundle.pem, or else every *.pem; required.
	BundleDir string
	// Server is the identity service's address, host:port; ServerIdentity is who it must be. Both are
	// required but with Service.
	Server         string
	ServerIdentity mesh.Identity
	// Service is asked instead of Server.
	Service certify.Service
	// Sink gets certificates and bundles; required.
	Sink Sink
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	// Rand spreads renewals and repetitions; nil is a random one. It is used by Run alone.
	Rand *rand.Rand
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// Log is the logger; nil for none.
	Log *zap.Logger
}

func (c *Config) complete() error {
	if _, err := mesh.ParseIdentity(string(c.Identity)); err != nil {
		return err
	}
	switch {
	case c.Token == nil:
		return errors.New("no source of tokens")
	case c.Sink == nil:
		return errors.New("no sink")
	case c.Service == nil && c.Server == "":
		return errors.New("no address of the identity service")
	}
	if c.Service == nil {
		if _, err := mesh.ParseIdentity(string(c.ServerIdentity)); err != nil {
			return fmt.Errorf("the identity service: %w", err)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return nil
}

// Client keeps one proxy certified.
type Client struct {
	cfg     Config
	service certify.Service
	trust   *trust
	metrics *metrics

	certified chan struct{} // closed at the first certificate
	kick      chan struct{} // capacity 1: look at the schedule again

	mu    sync.Mutex // guards the rest
	state State
	own   *ownLeaf
	renew time.Time // when to renew
	// byToken: the next attempt shows a token although there is a valid certificate.
	byToken bool
	rand    *rand.Rand
}

// ownLeaf is the certificate in use.
type ownLeaf struct {
	cert     tls.Certificate
	chain    []*x509.Certificate // cert, parsed
	issued   time.Time
	notAfter time.Time
	issuer   []byte
}

// New reads the bundle of cfg.BundleDir into the sink. Nothing is asked for before Run.
func New(cfg Config) (*Client, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("identity client: %w", err)
	}
	c := &Client{
		cfg: cfg, service: cfg.Service, rand: cfg.Rand,
		trust:     &trust{dir: cfg.BundleDir, sink: cfg.Sink},
		certified: make(chan struct{}),
		kick:      make(chan struct{}, 1),
		state:     State{Since: cfg.Now(), Renewal: errNotYet},
	}
	if err := c.trust.start(); err != nil {
		return nil, fmt.Errorf("identity client: %w", err)
	}
	if c.service == nil {
		c.service = NewRemote(RemoteConfig{
			Addr: cfg.Server, Identity: cfg.ServerIdentity, Bundle: c.trust.current, Now: cfg.Now,
		})
	}
	c.metrics = newMetrics(cfg.Registerer, c)
	return c, nil
}

// Run renews and follows until ctx ends, and returns nil then.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.follow(ctx) }) // owned by Run, ends with ctx
	c.renewals(ctx)
	wg.Wait()
	return nil
}

// Certified is closed once the sink has had its first certificate.
func (c *Client) Certified() <-chan struct{} { return c.certified }

// spread is a random duration below d.
func (c *Client) spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.rand.Int64N(int64(d)))
}

// sleep waits for d, ctx, or a wake-up by kick (may be nil).
func sleep(ctx context.Context, d time.Duration, kick <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-kick:
	case <-t.C:
	}
}
