package discover

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/discoverypb"
	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

func TestMain(m *testing.M) { leak.Main(m) }

var web = mesh.NameTarget("web.shop", 80)

// tc is a conversation between a Client and a server that the test plays.
type tc struct {
	t      *testing.T
	client *Client
	sink   *fake
	got    chan *pb.SyncRequest  // what the client says
	say    chan *pb.SyncResponse // what the server says
	end    chan error            // ends the stream
	opened atomic.Int32          // streams
	conns  []*cable              // that the client made
	pb.UnimplementedDiscoveryServer
}

// fake is a Sink whose answers the test holds.
type fake struct {
	mu      sync.Mutex
	updates []Update
	inbound []*mesh.InboundPolicy
	up      []bool
	answer  func(Update) error // nil: nothing is answered
	digest  uint64
}

func (f *fake) Target(u Update, done func(error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates = append(f.updates, u)
	if f.answer != nil {
		go done(f.answer(u))
	}
}

func (f *fake) Inbound(p *mesh.InboundPolicy, _ uint64, done func(error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inbound = append(f.inbound, p)
	go done(nil)
}

func (f *fake) Digest(_ mesh.Target, _ uint64, answer func(uint64, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	go answer(f.digest, true)
}

func (f *fake) Connected(up bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = append(f.up, up)
}

func takeAll(Update) error { return nil }

// converse runs f in a bubble with a client that is not connected yet.
func converse(t *testing.T, f func(*tc)) {
	synctest.Test(t, func(t *testing.T) {
		c := &tc{
			t: t, sink: &fake{answer: takeAll}, got: make(chan *pb.SyncRequest, 100),
			say: make(chan *pb.SyncResponse, 100), end: make(chan error, 1),
		}
		lis := bufconn.Listen(1 << 20)
		server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
		pb.RegisterDiscoveryServer(server, c)
		c.client = New(Config{
			Server: "passthrough:///x", Namespace: "shop", Name: "web-1", ResyncSpread: -1, Spread: -1,
			DialOptions: []grpc.DialOption{
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return c.dial(lis) }),
			},
		}, c.sink)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { server.Serve(lis) })
		wg.Go(func() { c.client.Run(ctx) })
		f(c)
		cancel()
		server.Stop()
		wg.Wait()
	})
}

// cable is a connection that can be cut without either end being told.
type cable struct {
	net.Conn
	cut atomic.Bool
}

func (c *cable) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.cut.Load() {
			return n, err
		}
	}
}

func (c *cable) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *tc) dial(lis *bufconn.Listener) (net.Conn, error) {
	conn, err := lis.Dial()
	if err != nil {
		return nil, err
	}
	k := &cable{Conn: conn}
	c.conns = append(c.conns, k)
	return k, nil
}

// Sync is the server's end.
func (c *tc) Sync(s pb.Discovery_SyncServer) error {
	c.opened.Add(1)
	go func() { // ends with the stream
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			c.got <- m
		}
	}()
	for {
		select {
		case m := <-c.say:
			if err := s.Send(m); err != nil {
				return err
			}
		case err := <-c.end:
			return err
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

func (c *tc) hello(interval time.Duration) {
	h := &pb.ServerHello{Epoch: "e1", Cluster: &pb.Cluster{TrustDomain: "cluster.local"}}
	if interval > 0 {
		h.DigestInterval = durationpb.New(interval)
	}
	c.say <- &pb.SyncResponse{Message: &pb.SyncResponse_Hello{Hello: h}}
	c.settle()
}

func (c *tc) settle() { synctest.Wait() }

// pass lets the bubble's time pass.
func (c *tc) pass(d time.Duration) {
	time.Sleep(d) //house:sleep converse put this into a bubble
	c.settle()
}

func (c *tc) write(m *pb.SyncResponse) {
	c.say <- m
	c.settle()
}

// want takes the client's next message and fails unless ok says that it is the expected one.
func (c *tc) want(what string, ok func(*pb.SyncRequest) bool) *pb.SyncRequest {
	c.t.Helper()
	select {
	case m := <-c.got:
		if !ok(m) {
			c.t.Fatalf("want %s, got %v", what, m)
		}
		return m
	default:
		c.t.Fatalf("want %s, got nothing", what)
		return nil
	}
}

func (c *tc) wantNothing(why string) {
	c.t.Helper()
	select {
	case m := <-c.got:
		c.t.Fatalf("%s, got %v", why, m)
	default:
	}
}

func (c *tc) wantAck(version uint64) {
	c.t.Helper()
	c.want("an acknowledgement", func(m *pb.SyncRequest) bool { return m.GetAck().GetVersion() == version })
}

// open brings a stream up with one subscription, which stands on version 1 afterwards.
func (c *tc) open() (subject uint64) {
	c.t.Helper()
	c.client.Subscribe(web)
	c.settle()
	c.want("a hello", func(m *pb.SyncRequest) bool { return m.GetHello().GetWorkload().GetName() == "web-1" })
	s := c.want("a subscription", func(m *pb.SyncRequest) bool { return m.GetSubscribe() != nil }).GetSubscribe()
	c.hello(0)
	c.write(full(s.GetSubject(), 1, "10.0.0.1:80"))
	c.wantAck(1)
	return s.GetSubject()
}

func rows(addrs ...string) (es []*pb.Endpoint) {
	for _, a := range addrs {
		es = append(es, discoverypb.EncodeEndpoint(mesh.Endpoint{Addr: netip.MustParseAddrPort(a), NoTLS: mesh.NoTLSNotMeshed}))
	}
	return es
}

func full(subject, version uint64, addrs ...string) *pb.SyncResponse {
	return &pb.SyncResponse{Message: &pb.SyncResponse_Target{Target: &pb.TargetUpdate{
		Subject: subject, Version: version, Full: true, Added: rows(addrs...),
		Policy: discoverypb.EncodePolicy(&mesh.TargetPolicy{Kind: mesh.TargetService, Service: "web", Namespace: "shop", Port: 80}),
	}}}
}

func delta(subject, version, base uint64, addrs ...string) *pb.SyncResponse {
	return &pb.SyncResponse{Message: &pb.SyncResponse_Target{Target: &pb.TargetUpdate{
		Subject: subject, Version: version, Base: base, Added: rows(addrs...),
	}}}
}

func digestOf(subject, version, value uint64) *pb.SyncResponse {
	return &pb.SyncResponse{Message: &pb.SyncResponse_Digest{Digest: &pb.Digest{Subject: subject, Version: version, Digest: value}}}
}

func isResync(why pb.ResyncReason) func(*pb.SyncRequest) bool {
	return func(m *pb.SyncRequest) bool { return m.GetResync() != nil && m.GetResync().GetReason() == why }
}

func TestAVersionIsAcknowledgedWhenItIsInForceAndNotBefore(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		c.sink.mu.Lock()
		c.sink.answer = nil
		c.sink.mu.Unlock()
		c.write(delta(s, 2, 1, "10.0.0.2:80"))
		c.wantNothing("the sink has not called done")
		if n := len(c.sink.updates); n != 2 || c.sink.updates[1].Full {
			t.Errorf("%d updates: %+v", n, c.sink.updates)
		}
	})
}

func TestWhatTheSinkRefusesIsRefusedWithItsReason(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		c.sink.mu.Lock()
		c.sink.answer = func(Update) error { return errors.New("too large") }
		c.sink.mu.Unlock()
		c.write(delta(s, 2, 1, "10.0.0.2:80"))
		c.want("a refusal", func(m *pb.SyncRequest) bool {
			return m.GetNack().GetVersion() == 2 && m.GetNack().GetReason() == "too large"
		})
		c.sink.mu.Lock()
		c.sink.answer = takeAll
		c.sink.mu.Unlock()
		c.write(digestOf(s, 1, 0)) // the server checks the version that is still in force
		c.wantNothing("the digest of the acknowledged version agrees")
		c.write(delta(s, 3, 1, "10.0.0.3:80"))
		c.wantAck(3)
	})
}

// R5.6: silence is never read as plaintext.
func TestWhatCannotBeReadIsRefusedWithTheField(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		m := full(s, 2, "10.0.0.2:80")
		m.GetTarget().Added[0].NoTlsReason = 0
		c.write(m)
		nack := c.want("a refusal", func(m *pb.SyncRequest) bool { return m.GetNack().GetVersion() == 2 }).GetNack()
		if want := `endpoint 0: endpoint 10.0.0.2:80: want an identity or a reason for none, got "" and ""`; nack.GetReason() != want {
			t.Errorf("reason %q, want %q", nack.GetReason(), want)
		}
		c.write(&pb.SyncResponse{Message: &pb.SyncResponse_Inbound{Inbound: &pb.InboundPolicyUpdate{
			Version: 5, Policy: &pb.InboundPolicy{},
		}}})
		c.want("a refusal of the policy", func(m *pb.SyncRequest) bool {
			return m.GetNack().GetSubject() == 0 && m.GetNack().GetVersion() == 5
		})
		if n := len(c.sink.updates); n != 1 || len(c.sink.inbound) != 0 {
			t.Errorf("the sink saw %d updates and %d policies", n, len(c.sink.inbound))
		}
	})
}

func TestAChangeThatFollowsSomethingElseAsksForTheWhole(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		c.write(delta(s, 3, 2, "10.0.0.3:80"))
		c.want("a resync", isResync(pb.ResyncReason_RESYNC_REASON_GAP))
		c.write(delta(s, 4, 3, "10.0.0.4:80"))
		c.wantNothing("it has been asked for")
		c.write(full(s, 4, "10.0.0.4:80"))
		c.wantAck(4)
		if st := c.client.Stats(); st.Gaps != 2 || st.Resyncs != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestADigestThatDiffersAsksForTheWholeOnce(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		c.write(digestOf(s, 1, 99))
		c.want("a resync", isResync(pb.ResyncReason_RESYNC_REASON_DIGEST_MISMATCH))
		c.write(digestOf(s, 1, 99))
		c.wantNothing("it has been asked for")
		c.sink.mu.Lock()
		c.sink.digest = 99
		c.sink.mu.Unlock()
		c.write(full(s, 1, "10.0.0.9:80"))
		c.wantAck(1)
		c.write(digestOf(s, 1, 99))
		c.wantNothing("the digest agrees")
	})
}

func TestMessagesOfAnEndedSubscriptionAreDroppedAndNotAnswered(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		c.client.Unsubscribe(web)
		c.settle()
		c.want("its end", func(m *pb.SyncRequest) bool { return m.GetUnsubscribe().GetSubject() == s })
		c.write(delta(s, 2, 1, "10.0.0.2:80"))
		c.write(digestOf(s, 2, 1))
		c.wantNothing("the subscription ended")
		c.client.Subscribe(web)
		c.settle()
		again := c.want("a subscription", func(m *pb.SyncRequest) bool { return m.GetSubscribe() != nil }).GetSubscribe()
		if again.GetSubject() == s || again.GetKnown() != nil {
			t.Errorf("a new subscription is %v", again)
		}
	})
}

// R11.4: the last state stays, and the next stream begins where the last one stood.
func TestTheNextStreamBeginsWhereTheLastOneStood(t *testing.T) {
	converse(t, func(c *tc) {
		c.open()
		c.end <- nil
		c.settle()
		c.want("a hello", func(m *pb.SyncRequest) bool { return m.GetHello() != nil })
		known := c.want("a subscription", func(m *pb.SyncRequest) bool { return m.GetSubscribe() != nil }).GetSubscribe().GetKnown()
		if known.GetEpoch() != "e1" || known.GetVersion() != 1 {
			t.Errorf("it knows %v", known)
		}
		c.hello(0)
		c.sink.mu.Lock()
		defer c.sink.mu.Unlock()
		if len(c.sink.up) != 3 || c.sink.up[1] || !c.sink.up[2] {
			t.Errorf("the sink was told %v", c.sink.up)
		}
	})
}

func TestAStreamWithoutTheDigestsThatWerePromisedIsDead(t *testing.T) {
	converse(t, func(c *tc) {
		c.client.Subscribe(web)
		c.settle()
		c.hello(5 * time.Second)
		c.write(full(1, 1, "10.0.0.1:80"))
		for range 5 { // digests keep it
			c.pass(6 * time.Second)
			c.write(digestOf(1, 1, 0))
		}
		if n := c.opened.Load(); n != 1 {
			t.Fatalf("%d streams while digests came", n)
		}
		c.pass(12 * time.Second)
		if n := c.opened.Load(); n != 2 {
			t.Errorf("%d streams after they ended", n)
		}
	})
}

// A server whose node lost its power sends no end. A proxy whose application dials nothing is owed no digest, but its
// inbound policy, and the news that its pod is terminating (R11.2).
func TestAServerThatVanishedIsNoticedByAProxyThatDialsNothing(t *testing.T) {
	converse(t, func(c *tc) {
		c.settle()
		c.hello(5 * time.Second)
		c.pass(10 * time.Minute)
		if n := c.opened.Load(); n != 1 {
			t.Fatalf("%d streams while the server lived, want 1", n)
		}
		c.conns[0].cut.Store(true)
		c.pass(aliveAfter + aliveTime + time.Second)
		if n := c.opened.Load(); n != 2 {
			t.Errorf("%d streams after it vanished, want 2", n)
		}
	})
}

func TestARefusedSubscriptionIsTriedAgainWhenTheServerSaysSo(t *testing.T) {
	converse(t, func(c *tc) {
		c.client.Subscribe(web)
		c.settle()
		c.hello(0)
		c.want("a hello", func(m *pb.SyncRequest) bool { return m.GetHello() != nil })
		c.want("a subscription", func(m *pb.SyncRequest) bool { return m.GetSubscribe().GetSubject() == 1 })
		c.write(&pb.SyncResponse{Message: &pb.SyncResponse_Refusal{Refusal: &pb.Refusal{
			Subject: 1, Code: pb.RefusalCode_REFUSAL_CODE_TOO_MANY, Reason: "full", RetryAfter: durationpb.New(time.Minute),
		}}})
		c.wantNothing("it is too early")
		c.pass(2 * time.Minute)
		c.want("a subscription", func(m *pb.SyncRequest) bool { return m.GetSubscribe().GetSubject() == 2 })
	})
}

// R6.4: failures are reported together and soon.
func TestFailuresAreReportedTogether(t *testing.T) {
	converse(t, func(c *tc) {
		s := c.open()
		for range 3 {
			c.client.Report(Failure{Target: web, Addr: netip.MustParseAddrPort("10.0.0.1:80"), Kind: FailureConnect, Error: "refused"})
		}
		c.pass(reportInterval)
		m := c.want("a report", func(m *pb.SyncRequest) bool { return m.GetReport() != nil }).GetReport()
		f := m.GetFailures()
		if len(f) != 1 || f[0].GetCount() != 3 || f[0].GetSubject() != s || f[0].GetKind() != pb.FailureKind_FAILURE_KIND_CONNECT {
			t.Errorf("report: %v", m)
		}
		c.pass(time.Minute)
		c.wantNothing("there is nothing more to report")
	})
}

func TestAttemptsToConnectAreSpreadAndBounded(t *testing.T) {
	p := newPause(Config{BackoffMin: 100 * time.Millisecond, BackoffMax: time.Second})
	for i := range 20 {
		low := min(100*time.Millisecond<<i, time.Second)
		if i > 10 {
			low = time.Second
		}
		if d := p.next(false); d < low/2 || d > low*3/2 {
			t.Errorf("attempt %d waits %v, want about %v", i, d, low)
		}
	}
	if d := p.next(true); d != 0 {
		t.Errorf("without a spread a stream that was up waits %v", d)
	}
	if d := p.next(false); d > 150*time.Millisecond {
		t.Errorf("after a stream that was up the wait is %v", d)
	}
}

// Subscribe, Unsubscribe and Report come from any goroutine and never block, connected or not.
func TestSubscribingFromManyGoroutinesNeverBlocks(t *testing.T) {
	c := New(Config{Server: "passthrough:///nowhere"}, &fake{answer: takeAll})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range uint16(1000) {
				t := mesh.NameTarget("web.shop", i%97+1)
				c.Subscribe(t)
				c.Report(Failure{Target: t})
				if g%2 == 0 {
					c.Unsubscribe(t)
				}
			}
		})
	}
	wg.Wait()
}
