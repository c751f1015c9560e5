package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tulle-mesh/tulle/cli/exit"
)

// Explain turns what a client said into what an operator can act on: which server, what it means, what
// to try next. what is what was asked for: "list pods". A nil err stays nil.
func (c *Cluster) Explain(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, coded := errors.AsType[*exit.Error](err); coded {
		return err
	}
	at := "the API server at " + c.Server
	switch {
	case apierrors.IsUnauthorized(err):
		return exit.With(exit.Unreachable, fmt.Errorf("%s: %s does not accept the credentials (expired token, or of another cluster): %w", what, at, err),
			"log in again, then kubectl auth whoami")
	case apierrors.IsForbidden(err):
		return exit.With(exit.Unreachable, fmt.Errorf("%s: not allowed: %w", what, err), "kubectl auth whoami; somebody with more rights, or --as")
	case apierrors.IsNotFound(err) || isMissingKind(err):
		return exit.With(exit.Failed, fmt.Errorf("%s: %w", what, err), "")
	}
	if cause := network(err); cause != "" {
		return exit.With(exit.Unreachable, fmt.Errorf("%s: %s %s: %w", what, at, cause, err), "kubectl config current-context; kubectl get --raw /readyz")
	}
	return fmt.Errorf("%s: %w", what, err)
}

// network says what a failed connection means, or nothing where err is none.
func network(err error) string {
	var (
		dns     *net.DNSError
		op      *net.OpError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		ask     *url.Error
	)
	switch {
	case errors.As(err, &dns):
		return "has a name that cannot be resolved"
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		return "has a certificate that the kubeconfig does not trust (wrong cluster, or an old kubeconfig)"
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err):
		return "did not answer in time"
	case errors.As(err, &op):
		return "cannot be reached"
	case errors.As(err, &ask) && ask.Timeout():
		return "did not answer in time"
	case errors.As(err, &ask):
		return "cannot be asked"
	}
	return ""
}
