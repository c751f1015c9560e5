package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "github.com/tulle-mesh/tulle/api/identity/v1"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/certify"
	"github.com/tulle-mesh/tulle/internal/mesh"
	client "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

func TestReasonsAreThoseOfTheWire(t *testing.T) {
	if len(pb.RefusalReason_name) != len(certify.Reasons()) {
		t.Fatalf("%d on the wire, %d in Go", len(pb.RefusalReason_name), len(certify.Reasons()))
	}
	for _, r := range certify.Reasons() {
		want := "REFUSAL_REASON_" + strings.ToUpper(r.String())
		if got := pb.RefusalReason(r).String(); got != want {
			t.Errorf("%d is %s on the wire, want %s", r, got, want)
		}
	}
}

func TestRefusalsAreCountedAndLogged(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	core, logs := observer.New(zapcore.WarnLevel)
	s := newServer(t, identity.Config{Registerer: reg, Log: zap.New(core)})
	sub := s.over(t)
	_, err := sub.service.Certify(t.Context(), certify.Request{Token: s.mint(web), CSR: csr(t, newKey(t), cart)})
	refused(t, err, certify.WrongName)
	for range 20 {
		_, err = sub.service.Certify(t.Context(), certify.Request{Token: "nonsense", CSR: csr(t, newKey(t), web)})
		refused(t, err, certify.BadToken)
	}
	cert := sub.certified(t, web)
	key := newKey(t)
	_, err = sub.service.Certify(t.Context(), certify.Request{Own: &cert, CSR: csr(t, key, web)})
	ok(t, err)

	ok(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP identity_certificates_issued_total Certificates signed for workloads, by what proved who asked.
# TYPE identity_certificates_issued_total counter
identity_certificates_issued_total{credential="certificate"} 1
identity_certificates_issued_total{credential="token"} 1
`), "identity_certificates_issued_total"))
	for reason, want := range map[string]float64{"wrong_name": 1, "bad_token": 20, "weak_key": 0} {
		if got := refusals(t, reg, reason); got != want {
			t.Errorf("%s counted %v times, want %v", reason, got, want)
		}
	}
	said := logs.FilterField(zap.Stringer("reason", certify.WrongName)).All()
	if len(said) != 1 || said[0].ContextMap()["identity"] != string(web) || !strings.Contains(said[0].ContextMap()["error"].(string), string(cart)) {
		t.Errorf("the log says %v", said)
	}
	if n := logs.FilterField(zap.Stringer("reason", certify.BadToken)).Len(); n == 0 || n > 10 {
		t.Errorf("%d lines for 20 refusals in a moment", n)
	}
}

func refusals(t *testing.T, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	families, err := reg.Gather()
	ok(t, err)
	for _, f := range families {
		if f.GetName() != "identity_certificates_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no series for %s", reason)
	return 0
}

func TestWhoIsNotAdmittedIsRefusedEvenWithACertificate(t *testing.T) {
	gone := make(chan struct{})
	s := newServer(t, identity.Config{Admit: func(_ context.Context, id mesh.Identity) error {
		select {
		case <-gone:
			return errors.New("no workload runs as " + string(id))
		default:
			return nil
		}
	}})
	cert := ofServer(s).certified(t, web)
	close(gone)
	_, err := s.Local().Certify(t.Context(), certify.Request{Own: &cert, CSR: csr(t, newKey(t), web)})
	refused(t, err, certify.NotAdmitted)
}

// The client of the bootstrap has no certificate, and knows the service by its SPIFFE ID alone.
func TestTheServiceIsKnownByItsIdentity(t *testing.T) {
	s := newServer(t, identity.Config{})
	addr := s.listen(t)
	other, err := mtls.ParseBundle(newServer(t, identity.Config{}).authority.BundlePEM())
	ok(t, err)
	for name, tc := range map[string]struct {
		id     mesh.Identity
		bundle func() *mtls.Bundle
		want   mtls.Reason
	}{
		"another identity":   {web, s.bundle, mtls.ReasonIdentity},
		"below another root": {self, func() *mtls.Bundle { return other }, mtls.ReasonChain},
	} {
		t.Run(name, func(t *testing.T) {
			r := client.NewRemote(client.RemoteConfig{Addr: addr, Identity: tc.id, Bundle: tc.bundle})
			_, err := r.Certify(t.Context(), certify.Request{Token: s.mint(web), CSR: csr(t, newKey(t), web)})
			if err == nil || !strings.Contains(err.Error(), "refused ("+tc.want.String()+")") {
				t.Errorf("got %v, want the handshake to fail for %q", err, tc.want)
			}
		})
	}
}

func TestTheServiceRenewsItsOwnLeaf(t *testing.T) {
	s := newServer(t, identity.Config{})
	addr := s.listen(t)
	shown := func() *x509.Certificate {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		ok(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	first := shown()
	if !shown().Equal(first) {
		t.Error("it changes without a cause")
	}
	ofServer(s).rotate()
	if shown().Equal(first) {
		t.Error("it stays below the old issuer")
	}
}

func TestTLS12IsRefused(t *testing.T) {
	addr := newServer(t, identity.Config{}).listen(t)
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12})
	if err == nil {
		c.Close()
		t.Error("it was accepted")
	}
}

func TestARefusedBundleIsSeen(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	core, logs := observer.New(zapcore.WarnLevel)
	s := newServer(t, identity.Config{Registerer: reg, Log: zap.New(core)})
	sub := s.over(t)
	cert := sub.certified(t, web)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- sub.service.WatchTrust(ctx, certify.Watch{Own: &cert, Workload: "shop/web-1", Accept: func(certify.Bundle) error {
			return errors.New("not this one \xff" + strings.Repeat("!", 2000)) // no valid string, and too long
		}})
	}()
	if !eventually(func() bool { return s.Standing() == identity.Standing{Refused: 1} }) {
		t.Errorf("standing %+v, want one that refused", s.Standing())
	}
	if !eventually(func() bool { return logs.Len() == 1 }) {
		t.Fatal("it is not in the log")
	}
	if m := logs.All()[0].ContextMap(); !strings.HasPrefix(m["reason"].(string), "not this one") || m["peer"] != string(web) {
		t.Errorf("the log says %v", m)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
	if !eventually(func() bool { return s.Standing() == identity.Standing{} }) {
		t.Errorf("standing %+v after it left", s.Standing())
	}
}

func TestStreamsEndAtTheirAge(t *testing.T) {
	s := newServer(t, identity.Config{MaxStreamAge: 50 * time.Millisecond})
	sub := s.over(t)
	cert := sub.certified(t, web)
	err := sub.service.WatchTrust(t.Context(), certify.Watch{Own: &cert, Accept: func(certify.Bundle) error { return nil }})
	if err != nil {
		t.Errorf("got %v, want an end in order", err)
	}
}

func TestWatchersAreToldThatTheServiceStops(t *testing.T) {
	s := newServer(t, identity.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run := make(chan error, 1)
	go func() { run <- s.Run(ctx, l) }()
	sub := ofServer(s)
	cert := sub.certified(t, web)
	r := client.NewRemote(client.RemoteConfig{Addr: l.Addr().String(), Identity: self, Bundle: s.bundle})
	err = r.WatchTrust(t.Context(), certify.Watch{Own: &cert, Accept: func(certify.Bundle) error {
		cancel()
		return nil
	}})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	ok(t, <-run)
}

// A peer that does not keep to the protocol gets an answer, and never harms the service.
func TestPeersThatDoNotKeepToTheProtocol(t *testing.T) {
	s := newServer(t, identity.Config{})
	addr := s.listen(t)
	cert := ofServer(s).certified(t, web)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{cert},
	})))
	ok(t, err)
	defer conn.Close()
	ack := &pb.WatchTrustRequest{Message: &pb.WatchTrustRequest_Ack{Ack: &pb.TrustAck{Version: 1 << 60}}}
	hello := &pb.WatchTrustRequest{Message: &pb.WatchTrustRequest_Hello{Hello: &pb.TrustHello{Features: []pb.TrustFeature{99}}}}
	for name, tc := range map[string]struct {
		send []*pb.WatchTrustRequest
		want codes.Code
	}{
		"no hello first": {[]*pb.WatchTrustRequest{ack}, codes.InvalidArgument},
		"nothing in it":  {[]*pb.WatchTrustRequest{{}}, codes.InvalidArgument},
		"two hellos":     {[]*pb.WatchTrustRequest{hello, hello}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := pb.NewIdentityClient(conn).WatchTrust(t.Context())
			ok(t, err)
			for _, m := range tc.send {
				ok(t, stream.Send(m))
			}
			for err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	_, err = pb.NewIdentityClient(conn).Certify(t.Context(), &pb.CertifyRequest{Token: strings.Repeat("a", 1<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of 1 MiB: %v", err)
	}
}

func TestAServerThatCannotBe(t *testing.T) {
	a := open(t, identity.AuthorityConfig{})
	tokens, err := identity.OpenJoinTokens(identity.JoinConfig{TrustDomain: trustDomain})
	ok(t, err)
	for _, cfg := range []identity.Config{
		{Authority: a, Identity: self},
		{Tokens: tokens, Identity: self},
		{Authority: a, Tokens: tokens},
		{Authority: a, Tokens: tokens, Identity: "spiffe://other.test/ns/tulle/sa/tulle-identity"},
	} {
		if _, err := identity.New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestRunEndsWhenItsContextHasEnded(t *testing.T) {
	s := newServer(t, identity.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ok(t, s.Run(ctx, l))
}

// The real client against the real server: it gets its certificate, follows a rotation made by hand,
// and is below the new root before the old one is withdrawn.
func TestAClientFollowsARotation(t *testing.T) {
	a := open(t, identity.AuthorityConfig{Dir: t.TempDir(), LeafLifetime: 10 * time.Second})
	s := newServer(t, identity.Config{Authority: a})
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, identity.BundleFile), a.BundlePEM(), 0o600))
	token := s.mint(web)
	creds := mtls.NewCredentials(time.Now)
	c, err := client.New(client.Config{
		Identity: web, Workload: "shop/web-1", Token: func() (string, error) { return token, nil }, BundleDir: dir,
		Server: s.listen(t), ServerIdentity: self, Sink: creds,
	})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if !eventually(func() bool { return s.Standing() == identity.Standing{Current: 1} }) {
		t.Fatalf("it does not follow: %+v", c.State())
	}
	first := creds.Get().Leaf.Leaf
	ofServer(s).rotate()
	if !eventually(func() bool { return !creds.Get().Leaf.Leaf.Equal(first) }) {
		t.Fatalf("it does not renew: %+v", c.State())
	}
	ofServer(s).withdraw()
	if !eventually(func() bool { return creds.Get().Bundle.Len() == 1 && s.Standing() == identity.Standing{Current: 1} }) {
		t.Fatalf("it still trusts the old root: %+v", c.State())
	}
	if !trusted(t, a, certify.Certificate{Chain: creds.Get().Leaf.Certificate}, time.Now()) || c.State().Degraded() != nil {
		t.Errorf("after it: %+v", c.State())
	}
	cancel()
	ok(t, <-done)
}
