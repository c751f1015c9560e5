package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	crand "crypto/rand"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// When things happen (R10.1).
const (
	// A certificate is renewed at 65 to 75 % of its life, evenly spread.
	renewFirst, renewSpread = 0.65, 0.10
	// After a change of the issuer, within this share of its life.
	issuerSpread = 0.10
	// A certificate whose root has left the bundle is worth nothing to anybody: within this.
	distrustSpread = 5 * time.Second
	// One request takes at most this long.
	askTime = 10 * time.Second
	// A suspended machine's timers do not see the time that passed: look at the clock this often.
	maxSleep = time.Minute
)

// renewals asks for certificates until ctx ends.
func (c *Client) renewals(ctx context.Context) {
	var (
		key   *ecdsa.PrivateKey // of the certificate that is being asked for
		fails int
	)
	for {
		if wait := c.untilRenewal(); wait > 0 {
			sleep(ctx, min(wait, maxSleep), c.kick)
		}
		if ctx.Err() != nil {
			return
		}
		if c.untilRenewal() > 0 {
			continue
		}
		// The key stays until it is certified: a token belongs to the first key that it was used for,
		// and an answer may get lost.
		if key == nil {
			var err error
			if key, err = ecdsa.GenerateKey(elliptic.P256(), crand.Reader); err != nil {
				panic("BUG: crypto/rand never fails: " + err.Error())
			}
		}
		err := c.renewOnce(ctx, key)
		if ctx.Err() != nil {
			return
		}
		c.metrics.attempt(err)
		c.renewalWas(err)
		c.credential(err)
		if err == nil {
			key, fails = nil, 0
			continue
		}
		fails++
		c.trust.reread(c.cfg.Log)
		sleep(ctx, c.backoff(fails), nil)
	}
}

func (c *Client) untilRenewal() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		return 0
	}
	return c.renew.Sub(c.cfg.Now())
}

// Backoff between attempts, with full jitter above its floor. Without a certificate that peers take the proxy
// is not ready, or talks to nobody, so it asks more often; and the more often the less is left of the one that
// it has, so that a service that is back in time is found in time.
const (
	backoffFirst   = 500 * time.Millisecond
	backoffStart   = 10 * time.Second // the longest without a certificate
	backoffRenewal = 5 * time.Minute  // the longest with one
	backoffShare   = 8                // and at most this part of what is left of it
)

func (c *Client) backoff(fails int) time.Duration {
	longest := backoffStart
	if s, now := c.State(), c.cfg.Now(); s.Valid(now) && c.trusted() {
		longest = min(max(s.NotAfter.Sub(now)/backoffShare, backoffStart), backoffRenewal)
	}
	d := min(backoffFirst<<min(fails-1, 20), longest)
	return d/2 + c.spread(d/2)
}

// renewOnce gets a certificate for key and puts it into the sink.
func (c *Client) renewOnce(ctx context.Context, key *ecdsa.PrivateKey) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := c.request(key)
	if err != nil {
		return err
	}
	asked := c.cfg.Now()
	got, err := c.service.Certify(ctx, req)
	if err != nil {
		return err
	}
	leaf, err := c.accept(got, key, asked)
	if err != nil {
		return fmt.Errorf("certificate from the identity service: %w", err)
	}
	c.use(leaf)
	return nil
}

// request asks by the certificate in use while that is valid, else by token.
func (c *Client) request(key *ecdsa.PrivateKey) (certify.Request, error) {
	csr, err := newCSR(string(c.cfg.Identity), key)
	if err != nil {
		return certify.Request{}, err
	}
	if own := c.valid(); own != nil && !c.wantsToken() {
		return certify.Request{CSR: csr, Own: own}, nil
	}
	token, err := c.cfg.Token()
	if err != nil {
		return certify.Request{}, fmt.Errorf("token: %w", err)
	}
	if token == "" {
		return certify.Request{}, errors.New("token: it is empty")
	}
	return certify.Request{CSR: csr, Token: token}, nil
}

// credential chooses what the next attempt proves itself with. A certificate that the service does
// not take any more (its root was withdrawn) is no reason to give up while there may be a token; a
// token that it does not take is none while there is a certificate.
func (c *Client) credential(err error) {
	var r *certify.Refusal
	if err != nil && !errors.As(err, &r) {
		return // nobody judged it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byToken = r != nil && !c.byToken && r.Reason == certify.BadCertificate
}

func (c *Client) wantsToken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byToken
}

// valid is the certificate in use; nil when there is none, or it has expired.
func (c *Client) valid() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil || !c.cfg.Now().Before(c.own.notAfter) {
		return nil
	}
	return &c.own.cert
}

func newCSR(identity string, key *ecdsa.PrivateKey) ([]byte, error) {
	uri, err := url.Parse(identity)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(crand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
}

// accept holds an answer to what peers will hold it to, so that a wrong one changes nothing.
func (c *Client) accept(got certify.Certificate, key *ecdsa.PrivateKey, asked time.Time) (*ownLeaf, error) {
	var chain []*x509.Certificate
	for _, der := range got.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, cert)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := mtls.Verify(chain, mtls.Expect{
			Bundle: c.trust.current(), Usage: usage, Want: c.cfg.Identity, At: c.cfg.Now(),
		}); err != nil {
			return nil, err
		}
	}
	cert := tls.Certificate{Certificate: got.Chain, PrivateKey: key, Leaf: chain[0]}
	if err := c.cfg.Sink.SetLeaf(cert); err != nil { // checks that the key is the leaf's
		return nil, err
	}
	return &ownLeaf{cert: cert, chain: chain, issued: asked, notAfter: chain[0].NotAfter, issuer: got.Issuer}, nil
}

// use notes what is in the sink and plans the next renewal.
func (c *Client) use(l *ownLeaf) {
	life := l.notAfter.Sub(l.issued)
	after := time.Duration(float64(life)*renewFirst) + c.spread(time.Duration(float64(life)*renewSpread))
	c.mu.Lock()
	first := !c.state.Certified
	c.own, c.renew = l, l.issued.Add(after)
	c.state.Certified, c.state.NotAfter = true, l.notAfter
	c.mu.Unlock()
	c.cfg.Log.Info("certified", zap.String(logkey.Identity, string(c.cfg.Identity)), zap.Time(logkey.NotAfter, l.notAfter))
	if first {
		close(c.certified)
	}
	c.checkIssuer() // the issuer may have changed since it signed
}

// checkIssuer brings the renewal forward when another issuer signs now than signed the own leaf, and far more so when the
// leaf is below no root of the bundle any more.
func (c *Client) checkIssuer() {
	issuer := c.trust.issuerNow()
	c.mu.Lock()
	own := c.own
	c.mu.Unlock()
	if own == nil {
		return
	}
	within := time.Duration(float64(own.notAfter.Sub(own.issued)) * issuerSpread)
	switch {
	case !c.trusted():
		within = min(within, distrustSpread)
		c.mu.Lock()
		c.byToken = true // the certificate proves nothing to the service either
		c.mu.Unlock()
	case len(issuer) == 0 || len(own.issuer) == 0 || bytes.Equal(own.issuer, issuer):
		return
	}
	soon := c.cfg.Now().Add(c.spread(within))
	c.mu.Lock()
	earlier := c.own == own && soon.Before(c.renew)
	if earlier {
		c.renew = soon
	}
	c.mu.Unlock()
	if earlier {
		c.wake()
	}
}

// trusted reports whether the certificate in use is below a root of the bundle in force.
func (c *Client) trusted() bool {
	c.mu.Lock()
	own := c.own
	c.mu.Unlock()
	if own == nil {
		return false
	}
	_, err := mtls.Verify(own.chain, mtls.Expect{
		Bundle: c.trust.current(), Usage: x509.ExtKeyUsageClientAuth, Want: c.cfg.Identity, At: c.cfg.Now(),
	})
	return err == nil
}

func (c *Client) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}
