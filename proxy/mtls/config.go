package mtls

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// ClientConfig is for ordinary clients beside the workers (gRPC to the control
// plane): it shows the certificate of the moment and accepts the one identity.
func ClientConfig(c *Credentials, peer mesh.Identity, alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             alpn,
		Time:                   c.now,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // verified in VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := Verify(cs.PeerCertificates, Expect{Bundle: c.Get().Bundle, Usage: x509.ExtKeyUsageServerAuth, Want: peer, At: c.now()})
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := c.Get()
			if !own.Ready() {
				return nil, ErrNoCredentials
			}
			return &own.Leaf, nil
		},
	}
}

// ServerConfig is for ordinary servers (gRPC of the control plane, tap): it
// accepts every identity of Tulle's form below the present bundle.
func ServerConfig(c *Credentials, alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             alpn,
		Time:                   c.now,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert, // verified in VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := Verify(cs.PeerCertificates, Expect{Bundle: c.Get().Bundle, Usage: x509.ExtKeyUsageClientAuth, Any: true, At: c.now()})
			return err
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			own := c.Get()
			if !own.Ready() {
				return nil, ErrNoCredentials
			}
			return &own.Leaf, nil
		},
	}
}
