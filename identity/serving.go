package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// serving is the service's own leaf, which it signs itself: anew when a handshake finds it at 70 %
// of its life, or of an issuer that is no longer the one.
type serving struct {
	authority *Authority
	identity  mesh.Identity

	mu     sync.Mutex // guards the rest
	leaf   *tls.Certificate
	issuer []byte
	renew  time.Time
}

// config is the server's side of the handshake. Clients may come without a certificate (they have
// none yet), so what they show is verified where it matters, against the bundle of that moment.
func (s *serving) config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true, // they would outlive a withdrawn root (R5.2)
		NextProtos:             []string{"h2"},
		Time:                   s.authority.cfg.Now,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current() },
	}
}

func (s *serving) current() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.authority.cfg.Now()
	issuer := s.authority.current().issuer.cert.SubjectKeyId
	if s.leaf != nil && now.Before(s.renew) && bytes.Equal(issuer, s.issuer) {
		return s.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("own key: %w", err)
	}
	cert, err := s.authority.Issue(s.identity, key.Public())
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	s.leaf = &tls.Certificate{Certificate: cert.Chain, PrivateKey: key}
	s.issuer, s.renew = cert.Issuer, renewAt(now, cert.NotAfter)
	return s.leaf, nil
}
