package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// bundleFile is what a mounted trust bundle is called; a directory without it gives all its *.pem.
const bundleFile = "trust-bundle.pem"

// trust holds the roots that are in force: those that were mounted, then those that were streamed.
type trust struct {
	dir  string
	sink Sink

	mu      sync.Mutex // guards the rest, and the order of calls of the sink
	bundle  *mtls.Bundle
	mounted [32]byte // hash of what the directory held when it was last read
	version uint64
	issuer  []byte
}

// start takes the mounted bundle into force.
func (t *trust) start() error {
	b, err := readBundle(t.dir)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bundle, t.mounted = b, b.Hash()
	t.sink.SetBundle(b)
	return nil
}

// reread takes the mounted bundle again when it was replaced. It is for a proxy that cannot reach
// the service: it may have missed a whole rotation of the roots that the service's own leaf is below.
func (t *trust) reread(log *zap.Logger) {
	b, err := readBundle(t.dir)
	if err != nil {
		return // nothing is lost: the last one stays
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.Hash() == t.mounted {
		return
	}
	t.mounted = b.Hash()
	if b.Hash() != t.bundle.Hash() {
		t.bundle, t.version = b, 0 // versions may have begun anew with another authority
		t.sink.SetBundle(b)
		log.Info("trust bundle read again", zap.String(logkey.File, t.dir), zap.Int(logkey.Count, b.Len()))
	}
}

func (t *trust) current() *mtls.Bundle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bundle
}

func (t *trust) issuerNow() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issuer
}

// accept takes a streamed bundle into force. An older version than the one in force is refused: a
// replica that lags must not move a proxy backwards.
func (t *trust) accept(b certify.Bundle, trustDomain string) error {
	if b.TrustDomain != trustDomain {
		return fmt.Errorf("the bundle is of trust domain %q, want %q", b.TrustDomain, trustDomain)
	}
	roots := make([]*x509.Certificate, len(b.Roots))
	for i, der := range b.Roots {
		var err error
		if roots[i], err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("root %d: %w", i, err)
		}
	}
	bundle, err := mtls.NewBundle(roots)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.Version < t.version {
		return fmt.Errorf("version %d is older than %d, which is in force", b.Version, t.version)
	}
	t.version, t.issuer = b.Version, slices.Clone(b.Issuer)
	if bundle.Hash() != t.bundle.Hash() {
		t.bundle = bundle
		t.sink.SetBundle(bundle)
	}
	return nil
}

func readBundle(dir string) (*mtls.Bundle, error) {
	data, err := os.ReadFile(filepath.Join(dir, bundleFile))
	if errors.Is(err, os.ErrNotExist) {
		data, err = readAll(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	b, err := mtls.ParseBundle(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return b, nil
}

func readAll(dir string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem")) // sorted
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *.pem in %s", dir)
	}
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all = append(append(all, data...), '\n')
	}
	return all, nil
}

// Times of the watch.
const (
	followFirst = time.Second      // before the first new attempt
	followMax   = 30 * time.Second // before later ones
)

// follow watches the trust bundle until ctx ends. It wants a certificate, so it begins after the
// first one.
func (c *Client) follow(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-c.certified:
	}
	fails := 0
	for ctx.Err() == nil {
		heard := false
		err := c.watch(ctx, &heard)
		if ctx.Err() != nil {
			return
		}
		if heard {
			fails = 0
		}
		if err == nil { // the stream's age: others end theirs now too
			sleep(ctx, c.spread(followFirst), nil)
			continue
		}
		fails++
		c.trustWas(err)
		c.trust.reread(c.cfg.Log)
		d := min(followFirst<<min(fails-1, 10), followMax)
		sleep(ctx, d/2+c.spread(d/2), nil)
	}
}

func (c *Client) watch(ctx context.Context, heard *bool) error {
	own := c.valid()
	if own == nil {
		return errors.New("there is no valid certificate to watch with")
	}
	return c.service.WatchTrust(ctx, certify.Watch{
		Own: own, Workload: c.cfg.Workload,
		Accept: func(b certify.Bundle) error {
			*heard = true
			return c.acceptBundle(b)
		},
	})
}

func (c *Client) acceptBundle(b certify.Bundle) error {
	if err := c.trust.accept(b, c.cfg.Identity.TrustDomain()); err != nil {
		c.metrics.bundles.WithLabelValues("refused").Inc()
		c.trustWas(fmt.Errorf("trust bundle %d refused: %w", b.Version, err))
		return err
	}
	c.metrics.bundles.WithLabelValues("accepted").Inc()
	c.mu.Lock()
	c.state.TrustVersion = b.Version
	c.mu.Unlock()
	c.trustWas(nil)
	c.checkIssuer()
	return nil
}
