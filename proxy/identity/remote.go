package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "github.com/tulle-mesh/tulle/api/identity/v1"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/version"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// RemoteConfig says where the identity service is and who it must be.
type RemoteConfig struct {
	// Addr is host:port.
	Addr string
	// Identity is the service's own.
	Identity mesh.Identity
	// Bundle returns the roots that the service must be below at that moment.
	Bundle func() *mtls.Bundle
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	// Dial makes a connection to Addr; nil is TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Remote is the identity service over the network. Each call has a connection of its own: calls are
// rare, and each shows the certificate of its moment. Protobuf stops here.
type Remote struct {
	cfg RemoteConfig
}

var _ certify.Service = (*Remote)(nil)

// NewRemote makes a Remote; it connects to nothing yet.
func NewRemote(cfg RemoteConfig) *Remote {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Remote{cfg: cfg}
}

// maxMessage bounds what the service may say at once: a bundle of a hundred roots.
const maxMessage = 256 << 10

func (r *Remote) connect(own *tls.Certificate) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(r.tls(own))),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), // nobody's environment or DNS has a say here
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUserAgent("tulle/" + version.Number()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
	}
	if r.cfg.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(r.cfg.Dial))
	}
	conn, err := grpc.NewClient(r.cfg.Addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("identity service %s: %w", r.cfg.Addr, err)
	}
	return conn, nil
}

// tls verifies the service by its SPIFFE ID, never by a host name (R5.2). There is no cache of
// sessions, so nothing is resumed.
func (r *Remote) tls(own *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		Time:               r.cfg.Now,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := mtls.Verify(cs.PeerCertificates, mtls.Expect{
				Bundle: r.cfg.Bundle(), Usage: x509.ExtKeyUsageServerAuth, Want: r.cfg.Identity, At: r.cfg.Now(),
			})
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if own == nil {
				return &tls.Certificate{}, nil
			}
			return own, nil
		},
	}
}

// Certify implements certify.Service.
func (r *Remote) Certify(ctx context.Context, req certify.Request) (cert certify.Certificate, err error) {
	conn, err := r.connect(req.Own)
	if err != nil {
		return certify.Certificate{}, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	m, err := pb.NewIdentityClient(conn).Certify(ctx, &pb.CertifyRequest{Token: req.Token, Csr: req.CSR})
	if err != nil {
		return certify.Certificate{}, r.callError(err)
	}
	return certify.Certificate{Chain: m.GetChain(), NotAfter: m.GetNotAfter().AsTime(), Issuer: m.GetIssuer()}, nil
}

// callError finds the refusal in a status.
func (r *Remote) callError(err error) error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if m, ok := d.(*pb.CertifyRefusal); ok {
			return &certify.Refusal{Reason: decodeReason(m.GetReason()), Detail: st.Message()}
		}
	}
	return fmt.Errorf("identity service %s: %w", r.cfg.Addr, err)
}

// decodeReason keeps the reasons of a newer service as unspecified; the detail still says it.
func decodeReason(n pb.RefusalReason) certify.Reason {
	if n < 0 || int(n) >= len(certify.Reasons()) {
		return certify.Unspecified
	}
	return certify.Reason(n)
}

// WatchTrust implements certify.Service.
func (r *Remote) WatchTrust(ctx context.Context, w certify.Watch) (err error) {
	conn, err := r.connect(w.Own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // ends the stream too
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewIdentityClient(conn).WatchTrust(ctx)
	if err == nil {
		err = watch(stream, w)
	}
	return r.watchError(ctx, err)
}

// watch says hello and answers what comes until the stream ends, with the stream's own reason.
func watch(stream pb.Identity_WatchTrustClient, w certify.Watch) error {
	err := say(stream, &pb.WatchTrustRequest{Message: &pb.WatchTrustRequest_Hello{Hello: &pb.TrustHello{
		Features: []pb.TrustFeature{pb.TrustFeature_TRUST_FEATURE_ISSUER_CHANGE},
		Version:  version.Number(), Workload: w.Workload,
	}}})
	for err == nil {
		err = step(stream, w.Accept)
	}
	return err
}

// say sends m. When the service has ended the stream already, Send answers io.EOF and only the next
// Recv knows why; so that is no error here.
func say(stream pb.Identity_WatchTrustClient, m *pb.WatchTrustRequest) error {
	if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// step answers one message.
func step(stream pb.Identity_WatchTrustClient, accept func(certify.Bundle) error) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	b := m.GetBundle()
	if b == nil { // the hello, or a kind of message that is not known here
		return nil
	}
	refused := accept(certify.Bundle{
		Version: b.GetVersion(), TrustDomain: b.GetTrustDomain(), Roots: b.GetRoots(), Issuer: b.GetIssuer(),
	})
	answer := &pb.WatchTrustRequest{Message: &pb.WatchTrustRequest_Ack{Ack: &pb.TrustAck{Version: b.GetVersion()}}}
	if refused != nil {
		answer.Message = &pb.WatchTrustRequest_Nack{Nack: &pb.TrustNack{Version: b.GetVersion(), Reason: reasonText(refused)}}
	}
	return say(stream, answer)
}

// reasonText keeps a reason within what the API says.
func reasonText(err error) string {
	s := err.Error()
	return strings.ToValidUTF8(s[:min(len(s), 1<<10)], "")
}

func (r *Remote) watchError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return nil
	default:
		return r.callError(err)
	}
}
