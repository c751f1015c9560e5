package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/tulle-mesh/tulle/internal/certify"
)

// Local serves parts of the same process without a connection. They hold the keys of what they show.
func (s *Server) Local() certify.Service { return local{s} }

type local struct{ s *Server }

// Certify implements certify.Service.
func (l local) Certify(ctx context.Context, r certify.Request) (certify.Certificate, error) {
	chain, err := parseChain(r.Own)
	if err != nil {
		return certify.Certificate{}, err
	}
	return l.s.certifier.certify(ctx, ask{token: r.Token, csr: r.CSR, peer: chain})
}

func parseChain(own *tls.Certificate) ([]*x509.Certificate, error) {
	if own == nil {
		return nil, nil
	}
	chain := make([]*x509.Certificate, len(own.Certificate))
	for i, der := range own.Certificate {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("own certificate: %w", err)
		}
	}
	return chain, nil
}

// WatchTrust implements certify.Service.
func (l local) WatchTrust(ctx context.Context, w certify.Watch) error {
	chain, err := parseChain(w.Own)
	if err != nil {
		return err
	}
	id, err := l.s.certifier.peer(chain)
	if err != nil {
		return err
	}
	me := &watcher{identity: id, workload: w.Workload}
	l.s.watchers.add(me)
	defer l.s.watchers.remove(me)
	for {
		bundle, changed := l.s.authority.Trust()
		if w.Accept(bundle) == nil {
			l.s.watchers.ack(me, bundle.Version)
		} else {
			l.s.watchers.nack(me, bundle.Version)
			l.s.metrics.nacks.Inc()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.s.stopping:
			return nil
		}
	}
}
