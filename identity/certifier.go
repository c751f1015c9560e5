package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// certifier decides about requests.
type certifier struct {
	authority *Authority
	tokens    TokenValidator
	admit     func(context.Context, mesh.Identity) error
	metrics   *metrics
	log       *zap.Logger
	quiet     quiet
}

// ask is a request as it reached the service: peer is what the client showed in its handshake and
// holds the key of, leaf first, not otherwise verified.
type ask struct {
	token string
	csr   []byte
	peer  []*x509.Certificate
}

// certify answers a request; all its errors are *certify.Refusal.
func (c *certifier) certify(ctx context.Context, a ask) (certify.Certificate, error) {
	credential := byToken
	if a.token == "" {
		credential = byCertificate
	}
	id, cert, err := c.decide(ctx, a)
	if err != nil {
		return certify.Certificate{}, c.refuse(id, credential, err)
	}
	c.metrics.issued.WithLabelValues(credential).Inc()
	c.log.Debug("certificate issued", zap.String(logkey.Identity, string(id)),
		zap.String(logkey.Kind, credential), zap.Time(logkey.NotAfter, cert.NotAfter))
	return cert, nil
}

func (c *certifier) refuse(id mesh.Identity, credential string, err error) *certify.Refusal {
	var r *certify.Refusal
	detail := err.Error()
	if errors.As(err, &r) {
		detail = r.Detail
	} else { // what went wrong in here is for our log alone
		r = certify.Refuse(certify.Internal, "the identity service could not sign; its log says why")
	}
	c.metrics.refused.WithLabelValues(r.Reason.String()).Inc()
	if unsaid, ok := c.quiet.speak(r.Reason, c.authority.cfg.Now()); ok {
		c.log.Warn("certificate refused", zap.String(logkey.Identity, string(id)), zap.String(logkey.Kind, credential),
			zap.Stringer(logkey.Reason, r.Reason), zap.String(logkey.Error, detail), zap.Int(logkey.Count, 1+unsaid))
	}
	return r
}

// quiet lets a refusal of each reason into the log once a second: anybody who reaches the port can
// be refused as often as they like.
type quiet struct {
	mu     sync.Mutex
	last   map[certify.Reason]time.Time
	unsaid map[certify.Reason]int
}

// speak reports whether to log now, and how many were not logged since the last one.
func (q *quiet) speak(r certify.Reason, now time.Time) (unsaid int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.last == nil {
		q.last, q.unsaid = map[certify.Reason]time.Time{}, map[certify.Reason]int{}
	}
	if last, said := q.last[r]; said && now.Sub(last) < time.Second {
		q.unsaid[r]++
		return 0, false
	}
	unsaid = q.unsaid[r]
	q.last[r], q.unsaid[r] = now, 0
	return unsaid, true
}

// decide returns the identity as far as it was proved. A token is redeemed last, so that a request
// that is refused for another reason does not cost it.
func (c *certifier) decide(ctx context.Context, a ask) (mesh.Identity, certify.Certificate, error) {
	id, redeem, err := c.prove(ctx, a)
	if err != nil {
		return "", certify.Certificate{}, err
	}
	asked, key, err := parseCSR(a.csr)
	if err != nil {
		return id, certify.Certificate{}, err
	}
	if asked != id {
		return id, certify.Certificate{}, certify.Refuse(certify.WrongName, "the request is for %s, but %s asks", asked, id)
	}
	if err := c.admit(ctx, id); err != nil {
		return id, certify.Certificate{}, certify.Refuse(certify.NotAdmitted, "%v", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return id, certify.Certificate{}, err
	}
	if err := redeem(sha256.Sum256(der)); err != nil {
		return id, certify.Certificate{}, err
	}
	cert, err := c.authority.Issue(id, key)
	return id, cert, err
}

// prove says who asks: by token where there is one, else by the certificate of the connection.
func (c *certifier) prove(ctx context.Context, a ask) (mesh.Identity, func([sha256.Size]byte) error, error) {
	if a.token == "" {
		id, err := c.renewer(a.peer)
		return id, func([sha256.Size]byte) error { return nil }, err
	}
	g, err := c.tokens.Validate(ctx, a.token)
	if err != nil {
		return "", nil, err
	}
	return g.Identity, func(key [sha256.Size]byte) error { return c.tokens.Redeem(ctx, g, key) }, nil
}

func (c *certifier) renewer(peer []*x509.Certificate) (mesh.Identity, error) {
	if len(peer) == 0 {
		return "", certify.Refuse(certify.NoCredential, "neither a token nor a client certificate")
	}
	id, err := c.peer(peer)
	if err != nil {
		return "", certify.Refuse(certify.BadCertificate, "%v", err)
	}
	return id, nil
}

// peer verifies a client's chain against the bundle as it is now.
func (c *certifier) peer(chain []*x509.Certificate) (mesh.Identity, error) {
	bundle, err := c.authority.mtlsBundle()
	if err != nil {
		return "", err
	}
	id, err := mtls.Verify(chain, mtls.Expect{
		Bundle: bundle, Usage: x509.ExtKeyUsageClientAuth, Any: true, At: c.authority.cfg.Now(),
	})
	if err != nil {
		return "", err
	}
	if id.TrustDomain() != c.authority.TrustDomain() {
		return "", errors.New(string(id) + " is of another trust domain")
	}
	return id, nil
}

// mtlsBundle is the bundle in the form that peers are verified against.
func (a *Authority) mtlsBundle() (*mtls.Bundle, error) {
	s := a.current()
	roots := make([]*x509.Certificate, len(s.roots))
	for i, r := range s.roots {
		roots[i] = r.cert
	}
	return mtls.NewBundle(roots)
}

// renewAt is when a leaf that was signed at issued is replaced: at 70 % of its life (R10.1).
func renewAt(issued, notAfter time.Time) time.Time {
	return issued.Add(notAfter.Sub(issued) * 7 / 10)
}
