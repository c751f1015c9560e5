package proxy

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

// R4.2: the budget is 64 MiB, or a quarter of the memory limit, or what is asked for.
func TestTheBudgetFollowsTheMemoryLimit(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want int64
	}{
		{Config{}, 64 << 20},
		{Config{MemoryLimit: 100 << 20}, 25 << 20},
		{Config{MemoryLimit: 1 << 30}, 64 << 20},
		{Config{MemoryLimit: 100 << 20, BufferBytes: 5 << 20}, 5 << 20},
	} {
		if got := c.cfg.bufferBytes(); got != c.want {
			t.Errorf("%d of %d asked for: %d, want %d", c.cfg.BufferBytes, c.cfg.MemoryLimit, got, c.want)
		}
	}
}

// R1.5: a peer that dials one port after the other does not fill the proxy.
func TestPortsThatAreDialledAreBounded(t *testing.T) {
	a := newAudited(t, 0)
	s, most := a.p.shards[0], a.p.cfg.Limits.Targets
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1+i)) }
	for i := range 2 * most {
		if !s.roomForApp(at(i)) {
			t.Fatalf("no room for number %d, though nobody uses the others", i)
		}
		s.app(at(i))
		if len(s.apps) > most || len(s.appList) > most {
			t.Fatalf("%d and %d kept, want %d at most", len(s.apps), len(s.appList), most)
		}
	}
	for i := range most {
		if s.roomForApp(at(i)) {
			s.app(at(i)).users++
		}
	}
	if s.roomForApp(at(most)) || !s.roomForApp(at(0)) {
		t.Errorf("with %d in use there is room for another: %v; for one of them: %v", most, s.roomForApp(at(most)), s.roomForApp(at(0)))
	}
}

// R1.6: shedding begins at 85 % of the limit, ends under 80 %, and answers new
// requests with what makes clients come back later.
func TestSheddingFollowsMemory(t *testing.T) {
	p, err := New(Config{InboundPorts: []InboundPort{{Listen: meshtest.Addr("127.0.0.1:0"), App: netip.MustParseAddrPort("127.0.0.1:1")}}}, Deps{
		Log: zap.NewNop(), Credentials: meshtest.NewAuthority(time.Now).Credentials("spiffe://cluster.local/ns/a/sa/b"),
		Discovery: meshtest.NewDiscovery(),
		Poller:    func(int) (loop.Poller, error) { return loop.NewPoller(loop.EpollConfig{Hold: -1}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, step := range []struct {
		used int64
		want bool
	}{{84, false}, {85, true}, {82, true}, {79, false}, {84, false}, {99, true}} {
		p.weigh(step.used, 100)
		if got := p.shedding.Load(); got != step.want {
			t.Errorf("at %d %%: shedding %v, want %v", step.used, got, step.want)
		}
		a, refused := p.shards[0].refuse()
		if refused != step.want || refused && (a.Status != 503 || a.GRPC != 14 || a.RetryAfter == 0) {
			t.Errorf("at %d %%: %+v, refused %v", step.used, a, refused)
		}
	}
}
