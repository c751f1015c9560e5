package destination

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

func TestMain(m *testing.M) { leak.Main(m) }

const catalogID = mesh.Identity("spiffe://cluster.local/ns/shop/sa/catalog")

// plane is a control plane in memory.
type plane struct {
	t      testing.TB
	store  *state.Store
	server *Server
	grpc   *grpc.Server
	lis    atomic.Pointer[bufconn.Listener]
	stop   func()
}

// identify stands in for certificates: the caller says who it is.
func identify(ctx context.Context) (mesh.Identity, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if ids := md.Get("identity"); len(ids) == 1 {
		return mesh.ParseIdentity(ids[0])
	}
	return "", errors.New("the caller showed no certificate")
}

func newPlane(t testing.TB, cfg Config) *plane {
	if cfg.Store == nil {
		cfg.Store = state.NewStore(state.Settings{})
	}
	cfg.Identify = identify
	p := &plane{t: t, store: cfg.Store, server: New(cfg), grpc: grpc.NewServer(ServerOptions()...)}
	p.lis.Store(bufconn.Listen(1 << 20))
	pb.RegisterDiscoveryServer(p.grpc, p.server)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.server.Run(ctx) })
	wg.Go(func() { p.grpc.Serve(p.lis.Load()) })
	p.stop = sync.OnceFunc(func() {
		cancel()
		p.grpc.Stop()
		wg.Wait()
	})
	return p
}

func (p *plane) dialer(context.Context, string) (net.Conn, error) { return p.lis.Load().Dial() }

// proxy is a proxy without workers: a discover.Client and the tables of its balancers.
type proxy struct {
	t      testing.TB
	client *discover.Client
	stop   func()

	mu      sync.Mutex
	tables  map[mesh.Target]*held
	inbound *mesh.InboundPolicy
	up      bool
	refuse  func(discover.Update) error // nil takes all
	late    time.Duration               // calls done within
	mute    bool                        // never calls done
	after   func(discover.Update)       // called when an update was applied
	lose    func(*pb.SyncResponse) bool // messages that the network loses
	trace   []string                    // what came, for transcripts
	traced  bool
	verbose bool // with rows
}

type held struct {
	version uint64
	rows    map[netip.AddrPort]mesh.Endpoint
	policy  *mesh.TargetPolicy
}

func (p *plane) connect(id mesh.Identity, cfg discover.Config, prepare ...func(*proxy)) *proxy {
	x := &proxy{t: p.t, tables: make(map[mesh.Target]*held)}
	for _, f := range prepare {
		f(x)
	}
	return p.connectTo(id, cfg, x, x)
}

// connectTo connects a sink; x is the same when the sink is a proxy.
func (p *plane) connectTo(id mesh.Identity, cfg discover.Config, sink discover.Sink, x *proxy) *proxy {
	if x == nil {
		x = &proxy{t: p.t}
	}
	cfg.Server = "passthrough:///destination"
	cfg.DialOptions = []grpc.DialOption{
		grpc.WithContextDialer(p.dialer), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
			s grpc.Streamer, o ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			cs, err := s(metadata.AppendToOutgoingContext(ctx, "identity", string(id)), d, cc, m, o...)
			return &lossy{cs, x}, err
		}),
	}
	x.client = discover.New(cfg, sink)
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { x.client.Run(ctx) })
	x.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	return x
}

// lossy is a stream that loses messages.
type lossy struct {
	grpc.ClientStream
	x *proxy
}

func (l *lossy) RecvMsg(m any) error {
	for {
		if err := l.ClientStream.RecvMsg(m); err != nil {
			return err
		}
		l.x.mu.Lock()
		lose := l.x.lose
		l.x.mu.Unlock()
		if r, ok := m.(*pb.SyncResponse); !ok || lose == nil || !lose(r) {
			return nil
		}
	}
}

func (x *proxy) Target(u discover.Update, done func(error)) {
	x.mu.Lock()
	if x.refuse != nil {
		if err := x.refuse(u); err != nil {
			x.mu.Unlock()
			done(err)
			return
		}
	}
	h := x.tables[u.Target]
	if h == nil || u.Full {
		old := h
		h = &held{rows: make(map[netip.AddrPort]mesh.Endpoint)}
		if old != nil {
			h.policy = old.policy
		}
		x.tables[u.Target] = h
	}
	for _, e := range u.Added {
		h.rows[e.Addr] = e
	}
	for _, a := range u.Removed {
		delete(h.rows, a)
	}
	if u.Policy != nil {
		h.policy = u.Policy
	}
	h.version = u.Version
	if x.traced {
		x.trace = append(x.trace, describe(u))
		if x.verbose {
			x.trace = append(x.trace, rowsOf(u)...)
		}
	}
	mute, after := x.mute, x.after
	x.mu.Unlock()
	if after != nil {
		after(u)
	}
	if x.late > 0 {
		time.AfterFunc(rand.N(x.late), func() { done(nil) })
	} else if !mute {
		done(nil)
	}
}

func describe(u discover.Update) string {
	kind := "delta"
	if u.Full {
		kind = "full"
	}
	return fmt.Sprintf("%s %s +%d -%d policy=%t", u.Target, kind, len(u.Added), len(u.Removed), u.Policy != nil)
}

func rowsOf(u discover.Update) (lines []string) {
	if p := u.Policy; p != nil {
		line := fmt.Sprintf("\tpolicy: %v", p.Protocol)
		if p.Kind == mesh.TargetUnknown {
			line = "\tunknown"
		}
		for _, r := range p.Routes {
			line += fmt.Sprintf(", route %s %v", r.Name, r.Backends)
		}
		lines = append(lines, line)
	}
	for _, e := range u.Added {
		line := fmt.Sprintf("\t+ %s %s%s", e.Addr, e.Identity, e.NoTLS)
		if e.Terminating {
			line += " terminating"
		}
		lines = append(lines, line)
	}
	for _, a := range u.Removed {
		lines = append(lines, fmt.Sprintf("\t- %s", a))
	}
	return lines
}

func (x *proxy) Inbound(p *mesh.InboundPolicy, _ uint64, done func(error)) {
	x.mu.Lock()
	x.inbound = p
	if x.verbose {
		x.trace = append(x.trace, fmt.Sprintf("inbound %v %v terminating=%t", p.Default, p.Ports, p.Terminating))
	}
	x.mu.Unlock()
	done(nil)
}

func (x *proxy) Digest(t mesh.Target, version uint64, answer func(uint64, bool)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.tables[t]
	if h == nil || h.version != version {
		go answer(0, false)
		return
	}
	var d mesh.Digest
	for _, e := range h.rows {
		d.Add(e)
	}
	go answer(d.Value(), true)
}

func (x *proxy) Connected(up bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.up = up
}

func (x *proxy) len(t mesh.Target) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.tables[t] == nil {
		return -1
	}
	return len(x.tables[t].rows)
}

// same fails unless the proxy holds exactly what the store has.
func (x *proxy) same(s *state.Store, t mesh.Target) {
	x.t.Helper()
	table, _ := s.Snapshot().Resolve(t)
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.tables[t]
	if h == nil {
		x.t.Fatalf("target %s: the proxy holds nothing", t)
	}
	var d mesh.Digest
	for _, e := range h.rows {
		d.Add(e)
	}
	if d.Value() != table.Digest() {
		x.t.Fatalf("target %s: the proxy holds %d rows at %d, want the %d of %d", t, len(h.rows), h.version, table.Len(), table.Version)
	}
}

var catalogTarget = mesh.NameTarget("catalog.shop", 80)

func workload(i int) *state.Workload {
	return &state.Workload{
		Name: state.Name{Namespace: "shop", Name: fmt.Sprintf("catalog-%d", i)}, Proxied: true, Identity: catalogID,
		Labels: map[string]string{"app": "catalog"},
		Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
		Ports:  []state.WorkloadPort{{Name: "grpc", Port: 8080}},
	}
}

func fill(s *state.Store, n int) {
	s.Apply(func(x *state.Tx) {
		x.PutService(&state.Service{
			Name: state.Name{Namespace: "shop", Name: "catalog"}, Addrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
			Ports:    []state.ServicePort{{Name: "grpc", Port: 80, TargetName: "grpc", Protocol: mesh.ProtocolGRPC}},
			Selector: map[string]string{"app": "catalog"},
		})
		for i := range n {
			x.PutWorkload(workload(i))
		}
	})
	s.MarkSynced()
}

// terminate changes one workload.
func terminate(s *state.Store, i int) {
	w := workload(i)
	w.Terminating = true
	s.Apply(func(x *state.Tx) { x.PutWorkload(w) })
}

// settle lets d pass and everything that is due happen.
func settle(d time.Duration) {
	time.Sleep(d) //house:sleep its callers are in a bubble, whose clock it moves
	synctest.Wait()
}
