package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	discoveryv1 "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/controller/files"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/destination"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
	proxyid "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

const trustDomain = "cluster.local"

var (
	identityID    = mesh.NewIdentity(trustDomain, "tulle", "identity")
	destinationID = mesh.NewIdentity(trustDomain, "tulle", "destination")
)

// planeConfig says how a control plane differs from the ordinary one.
type planeConfig struct {
	authority identity.AuthorityConfig // Dir and TrustDomain are filled in
	plaintext bool                     // no identities are told
	process   bool                     // the real tulle-controller; of authority only LeafLifetime counts
}

// plane is the control plane: identity and destination from a directory of YAML.
// It can be ended and started again at the same addresses.
type plane struct {
	t    testing.TB
	cfg  planeConfig
	yaml string // directory that is watched
	keys string // the authority's own
	// identityAddr and destinationAddr are where it serves.
	identityAddr, destinationAddr string

	authority *identity.Authority
	tokens    *identity.JoinTokens
	stop      func()
}

func newPlane(t testing.TB, host string, cfg planeConfig) *plane {
	p := &plane{
		t: t, cfg: cfg, yaml: t.TempDir(), keys: t.TempDir(),
		identityAddr: host + ":8080", destinationAddr: host + ":8086",
	}
	p.write("mesh.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

// write puts a file into the watched directory, at once as a whole.
func (p *plane) write(name, text string) {
	tmp := filepath.Join(p.keys, name+".new")
	ok(p.t, os.WriteFile(tmp, []byte(text), 0o600))
	ok(p.t, os.Rename(tmp, filepath.Join(p.yaml, name)))
}

// remove takes a file away.
func (p *plane) remove(name string) { ok(p.t, os.Remove(filepath.Join(p.yaml, name))) }

// start serves until stop is called.
func (p *plane) start() {
	if p.cfg.process {
		p.startProcess()
		return
	}
	ac := p.cfg.authority
	ac.TrustDomain, ac.Dir = trustDomain, p.keys
	var err error
	p.authority, err = identity.OpenAuthority(ac)
	ok(p.t, err)
	p.tokens, err = identity.OpenJoinTokens(identity.JoinConfig{Dir: p.keys, TrustDomain: trustDomain})
	ok(p.t, err)
	ident, err := identity.New(identity.Config{Authority: p.authority, Tokens: p.tokens, Identity: identityID})
	ok(p.t, err)
	store := state.NewStore(state.Settings{TrustDomain: trustDomain, NoMutualTLS: p.cfg.plaintext})
	dest := destination.New(destination.Config{Store: store, Identify: peerIdentity})

	ctx, cancel := context.WithCancel(context.Background()) // it outlives cleanups that come before its own
	g := &run.Group{}
	g.Add("identity", run.Func(func(ctx context.Context) error { return ident.Run(ctx, p.listen(p.identityAddr)) }))
	g.Add("files", files.New(files.Config{Dir: p.yaml, Store: store}))
	p.addDestination(g, ident, dest)
	var wg sync.WaitGroup
	wg.Go(func() { // ended by stop
		if err := g.Run(ctx); err != nil {
			p.t.Errorf("control plane: %v", err)
		}
	})
	p.stop = func() {
		cancel()
		wg.Wait()
		ok(p.t, p.tokens.Close())
	}
}

// startProcess runs tulle-controller; stop kills it, which is the worst that can happen to it.
func (p *plane) startProcess() {
	cmd := exec.Command(binary(p.t, "tulle-controller"), "all", "--source=files:"+p.yaml, "--state-dir="+p.keys, "--admin-listen=",
		"--identity-listen="+p.identityAddr, "--destination-listen="+p.destinationAddr,
		"--leaf-lifetime="+p.cfg.authority.LeafLifetime.String())
	said := &logBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	ok(p.t, cmd.Start())
	ended := make(chan struct{})
	go func() { // ends with the process
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	p.stop = func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
	until(p.t, "control plane", func() bool {
		select {
		case <-ended:
			p.t.Fatalf("tulle-controller ended:\n%s", said)
		default:
		}
		for _, addr := range []string{p.identityAddr, p.destinationAddr} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	})
}

// peerIdentity is the caller's: mtls.ServerConfig verified the certificate during the handshake.
func peerIdentity(ctx context.Context) (mesh.Identity, error) {
	p, found := peer.FromContext(ctx)
	if !found {
		return "", errors.New("no peer")
	}
	info, isTLS := p.AuthInfo.(credentials.TLSInfo)
	if !isTLS || len(info.State.PeerCertificates) == 0 {
		return "", errors.New("no certificate")
	}
	return mtls.IdentityOf(info.State.PeerCertificates[0])
}

// listen waits for an address that a predecessor may still hold.
func (p *plane) listen(addr string) net.Listener {
	var l net.Listener
	until(p.t, "listener at "+addr, func() bool {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	return l
}

// addDestination has the destination service get a certificate as a proxy does, and serve.
func (p *plane) addDestination(g *run.Group, ident *identity.Server, dest *destination.Server) {
	creds := mtls.NewCredentials(time.Now)
	client, err := proxyid.New(proxyid.Config{
		Identity: destinationID, Workload: "tulle/destination",
		Token: func() (string, error) {
			return p.tokens.Mint(identity.Join{Namespace: "tulle", Name: "destination", Account: "destination"})
		},
		BundleDir: p.bundleDir(), Service: ident.Local(), Sink: creds, Log: zap.NewNop(),
	})
	ok(p.t, err)
	g.Add("destination's identity", client)
	g.Add("destination", dest)
	g.Add("discovery", run.Func(func(ctx context.Context) error {
		select {
		case <-client.Certified():
		case <-ctx.Done():
			return nil
		}
		opts := append(destination.ServerOptions(), grpc.Creds(credentials.NewTLS(mtls.ServerConfig(creds, "h2"))))
		srv := grpc.NewServer(opts...)
		discoveryv1.RegisterDiscoveryServer(srv, dest)
		done := make(chan struct{})
		go func() { // ends with ctx
			defer close(done)
			<-ctx.Done()
			srv.Stop()
		}()
		err := srv.Serve(p.listen(p.destinationAddr))
		<-done
		return err
	}))
}

func (p *plane) bundleDir() string { return filepath.Join(p.keys, identity.BundleDir) }

// token is a join token for a workload.
func (p *plane) token(name, account string) string {
	minter, err := identity.OpenMinter(p.keys, trustDomain, nil) // what `tulle-controller token` does
	ok(p.t, err)
	token, err := minter.Mint(identity.Join{Namespace: "shop", Name: name, Account: account})
	ok(p.t, err)
	return token
}

// workload is the YAML of one instance.
type workload struct {
	name, account, service, addr string
	ports                        int
	terminating                  bool
}

func (w workload) yaml() string {
	s := fmt.Sprintf("apiVersion: policy.tulle.dev/v1alpha1\nkind: ExternalWorkload\n"+
		"metadata: {name: %s, namespace: shop, labels: {app: %s}}\nspec:\n  addresses: [%s]\n  serviceAccount: %s\n",
		w.name, w.service, w.addr, w.account)
	if w.terminating {
		s += "  terminating: true\n"
	}
	s += "  ports:\n"
	for i := range w.ports {
		s += fmt.Sprintf("  - {name: p%d, port: %d}\n", i, slotPort(i))
	}
	if w.ports == 0 {
		s += "  - {name: none, port: 1}\n"
	}
	return s
}

// service is the YAML of a Service with n ports.
func serviceYAML(name string, n int) string {
	s := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec:\n  clusterIP: None\n"+
		"  selector: {app: %s}\n  ports:\n", name, name)
	for i := range n {
		s += fmt.Sprintf("  - {name: p%d, port: %d, targetPort: p%d}\n", i, slotPort(i), i)
	}
	return s
}

// slotPort is the port of slot i, at every address.
func slotPort(i int) int { return 8000 + i }
