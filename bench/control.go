//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	discoveryv1 "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/destination"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

const (
	trustDomain = "cluster.local"
	namespace   = "bench"
	opaquePort  = 9000
)

// Whom the certificates are for.
var (
	identityName    = mesh.NewIdentity(trustDomain, "tulle", "identity")
	destinationName = mesh.NewIdentity(trustDomain, "tulle", "destination")
	serverName      = mesh.NewIdentity(trustDomain, namespace, "web")
	clientName      = mesh.NewIdentity(trustDomain, namespace, "client")
)

// control is the control plane: identity and destination in this process, off the proxies' core.
type control struct {
	dir                           string
	authority                     *identity.Authority
	tokens                        *identity.JoinTokens
	store                         *state.Store
	identityAddr, destinationAddr string
	stop                          func()
}

// startControl serves until stop is called. dir takes the authority's files.
func startControl(ctx context.Context, dir string) (*control, error) {
	c := &control{dir: dir, store: state.NewStore(state.Settings{TrustDomain: trustDomain})}
	var err error
	if c.authority, err = identity.OpenAuthority(identity.AuthorityConfig{TrustDomain: trustDomain, Dir: filepath.Join(dir, "authority")}); err != nil {
		return nil, err
	}
	if c.tokens, err = identity.OpenJoinTokens(identity.JoinConfig{TrustDomain: trustDomain}); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.bundleDir(), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.bundleFile(), c.authority.BundlePEM(), 0o600); err != nil {
		return nil, err
	}
	c.store.MarkSynced()
	if err := c.serve(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *control) bundleDir() string  { return filepath.Join(c.dir, "bundle") }
func (c *control) bundleFile() string { return filepath.Join(c.bundleDir(), "trust-bundle.pem") }

func (c *control) serve(ctx context.Context) error {
	ids, err := identity.New(identity.Config{Authority: c.authority, Tokens: c.tokens, Identity: identityName})
	if err != nil {
		return err
	}
	creds, err := c.serverCredentials()
	if err != nil {
		return err
	}
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		first.Close()
		return err
	}
	c.identityAddr, c.destinationAddr = first.Addr().String(), second.Addr().String()
	dest := destination.New(destination.Config{Store: c.store})
	g := grpc.NewServer(append(destination.ServerOptions(), grpc.Creds(creds))...)
	discoveryv1.RegisterDiscoveryServer(g, dest)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup // owned by control, ends with stop
	wg.Go(func() { _ = ids.Run(ctx, first) })
	wg.Go(func() { _ = dest.Run(ctx) })
	wg.Go(func() { _ = g.Serve(second) })
	c.stop = func() {
		cancel()
		g.Stop()
		wg.Wait()
		_ = c.tokens.Close() // it keeps nothing in a file
	}
	return nil
}

// serverCredentials are the destination service's.
func (c *control) serverCredentials() (credentials.TransportCredentials, error) {
	cert, err := c.leaf(destinationName)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.authority.BundlePEM()) {
		return nil, errors.New("the bundle holds no certificate")
	}
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
	}), nil
}

func (c *control) leaf(id mesh.Identity) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := c.authority.Issue(id, key.Public())
	return tls.Certificate{Certificate: cert.Chain, PrivateKey: key}, err
}

// writeLeaf writes a certificate, its chain and its key into one file, as HAProxy reads them.
func (c *control) writeLeaf(id mesh.Identity) (string, error) {
	cert, err := c.leaf(id)
	if err != nil {
		return "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return "", err
	}
	var b []byte
	for _, der := range cert.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	path := filepath.Join(c.dir, filepath.Base(string(id))+".pem")
	return path, os.WriteFile(path, b, 0o600)
}

// service makes name.bench:port a Service with one workload behind the proxy that listens on addr, and
// a client of it a workload.
func (c *control) service(name string, port uint16, addr netip.AddrPort) {
	app := map[string]string{"app": name}
	var rules state.PortRules
	if port == opaquePort {
		rules.Opaque = []state.PortRange{{From: addr.Port(), To: addr.Port()}, {From: port, To: port}}
	}
	c.store.Apply(func(tx *state.Tx) {
		tx.PutService(&state.Service{
			Name: state.Name{Namespace: namespace, Name: name}, Selector: app, Rules: rules,
			Ports: []state.ServicePort{{Port: port, Target: addr.Port()}},
		})
		tx.PutWorkload(&state.Workload{
			Name: state.Name{Namespace: namespace, Name: name + "-0"}, Labels: app, Identity: serverName, Proxied: true,
			Addrs: []netip.Addr{addr.Addr()}, Ports: []state.WorkloadPort{{Port: addr.Port()}}, Weight: 1, Rules: rules,
		})
		tx.PutWorkload(&state.Workload{
			Name: state.Name{Namespace: namespace, Name: "client-" + name}, Identity: clientName, Proxied: true, Weight: 1,
		})
	})
}

// token writes a join token for a workload into a file.
func (c *control) token(id mesh.Identity, workload string) (string, error) {
	t, err := c.tokens.Mint(identity.Join{Namespace: id.Namespace(), Account: id.Account(), Name: workload})
	if err != nil {
		return "", fmt.Errorf("token of %s: %w", workload, err)
	}
	path := filepath.Join(c.dir, workload+".token")
	return path, os.WriteFile(path, []byte(t), 0o600)
}
