package destination

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tulle-mesh/tulle/api/discovery/v1"
	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

func TestAChangeReachesAProxyAsItsDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		fill(p.store, 100)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"}, func(x *proxy) { x.traced = true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		x.same(p.store, catalogTarget)
		terminate(p.store, 7)
		settle(time.Second)
		x.same(p.store, catalogTarget)
		want := []string{
			"catalog.shop:80 full +100 -0 policy=true",
			"catalog.shop:80 delta +1 -0 policy=false",
		}
		if diff := cmp.Diff(want, x.trace); diff != "" {
			t.Error(diff)
		}
		if x.inbound == nil || x.inbound.TrustDomain != "cluster.local" {
			t.Errorf("inbound policy: %+v", x.inbound)
		}
		if s := x.client.Stats(); s.Gaps+s.Mismatches+s.Resyncs+s.Nacks != 0 {
			t.Errorf("nothing went wrong, but: %+v", s)
		}
	})
}

func isDelta(m *pb.SyncResponse) bool { return m.GetTarget() != nil && !m.GetTarget().GetFull() }

// R6.4, architecture.md Discovery: a stale endpoint is found within one interval.
func TestADroppedDeltaIsFoundWithinOneDigestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{DigestInterval: 5 * time.Second})
		defer p.stop()
		fill(p.store, 100)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		lost := 0
		x.mu.Lock()
		x.lose = func(m *pb.SyncResponse) bool {
			if isDelta(m) && lost == 0 {
				lost++
				return true
			}
			return false
		}
		x.mu.Unlock()
		terminate(p.store, 7)
		settle(6*time.Second + 500*time.Millisecond) // the interval and a fifth, and the resync's spread
		x.same(p.store, catalogTarget)
		if s := x.client.Stats(); lost != 1 || s.Gaps != 1 || s.Resyncs != 1 {
			t.Errorf("lost %d; counted %+v, want one gap and one resync", lost, s)
		}
	})
}

func TestARowCorruptedInTheBalancerIsFoundWithinOneDigestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{DigestInterval: 5 * time.Second})
		defer p.stop()
		fill(p.store, 100)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		x.mu.Lock()
		for a, e := range x.tables[catalogTarget].rows {
			e.Identity = "spiffe://cluster.local/ns/shop/sa/mallory"
			x.tables[catalogTarget].rows[a] = e
			break
		}
		x.mu.Unlock()
		settle(6*time.Second + 500*time.Millisecond)
		x.same(p.store, catalogTarget)
		if s := x.client.Stats(); s.Mismatches != 1 || s.Resyncs != 1 || s.Gaps != 0 {
			t.Errorf("counted %+v, want one mismatch and one resync", s)
		}
	})
}

func TestARefusedVersionIsVisibleWithItsReasonAndTheNextOneIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		fill(p.store, 10)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"}, func(x *proxy) { x.traced = true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		x.mu.Lock()
		x.refuse = func(discover.Update) error { return errors.New("no memory for another row") }
		x.mu.Unlock()
		terminate(p.store, 3)
		settle(time.Minute)
		sub := p.server.Status().Streams[0].Subjects[0]
		if sub.Nack == nil || sub.Nack.Reason != "no memory for another row" || sub.Acked >= sub.Nack.Version {
			t.Fatalf("status: %+v %+v", sub, sub.Nack)
		}
		if n := x.client.Stats().Nacks; n != 1 {
			t.Errorf("%d refusals: a refused version must not be sent again: %+v", n, x.client.Stats())
		}
		x.mu.Lock()
		x.refuse = nil
		x.mu.Unlock()
		terminate(p.store, 4)
		settle(time.Second)
		x.same(p.store, catalogTarget)
		if last := x.trace[len(x.trace)-1]; last != "catalog.shop:80 full +10 -0 policy=true" {
			t.Errorf("after a refusal came %q", last)
		}
		if sub := p.server.Status().Streams[0].Subjects[0]; sub.Nack != nil {
			t.Errorf("the refusal is still shown: %+v", sub.Nack)
		}
	})
}

func TestAStoppedReaderGetsTheNewestStateCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{AckTimeout: time.Hour})
		defer p.stop()
		fill(p.store, 1000)
		var stopped chan struct{}
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"}, func(x *proxy) { x.traced = true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		x.mu.Lock()
		stopped = make(chan struct{})
		x.after = func(discover.Update) { <-stopped } // the proxy reads nothing more
		x.mu.Unlock()
		for i := range 500 {
			terminate(p.store, i)
			settle(10 * time.Millisecond)
		}
		x.mu.Lock()
		x.after = nil
		x.mu.Unlock()
		close(stopped)
		settle(time.Second)
		x.same(p.store, catalogTarget)
		want := []string{
			"catalog.shop:80 full +1000 -0 policy=true",
			"catalog.shop:80 delta +1 -0 policy=false",  // under way when the reader stopped
			"catalog.shop:80 full +1000 -0 policy=true", // 499 changes: more than the log holds
		}
		if diff := cmp.Diff(want, x.trace); diff != "" {
			t.Error(diff)
		}
	})
}

// R11.4: known targets keep their last state while the control plane is away; the next stream
// begins where the last one stood.
func TestAReconnectResumesWithoutSendingWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{MaxAge: time.Minute})
		defer p.stop()
		fill(p.store, 100)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"}, func(x *proxy) { x.traced = true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(3 * time.Minute)
		if s := x.client.Stats(); s.Connects < 3 || s.Updates != 1 || s.Gaps+s.Mismatches != 0 {
			t.Errorf("after two ends of streams by age: %+v, want one update in all", s)
		}
		terminate(p.store, 1)
		settle(time.Second)
		x.same(p.store, catalogTarget)
		if last := x.trace[len(x.trace)-1]; last != "catalog.shop:80 delta +1 -0 policy=false" {
			t.Errorf("the last update is %q", last)
		}
	})
}

func TestANewEpochIsToldWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		fill(p.store, 10)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"}, func(x *proxy) { x.traced = true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Second)
		p.stop()
		settle(time.Minute)
		x.mu.Lock()
		if x.up || len(x.tables[catalogTarget].rows) != 10 {
			t.Errorf("while away: up %t, %d rows; want the last state", x.up, len(x.tables[catalogTarget].rows))
		}
		x.mu.Unlock()
		again := newPlane(t, Config{})
		defer again.stop()
		fill(again.store, 11)
		p.lis.Store(again.lis.Load())
		settle(20 * time.Second)
		x.same(again.store, catalogTarget)
		if last := x.trace[len(x.trace)-1]; last != "catalog.shop:80 full +11 -0 policy=true" {
			t.Errorf("the last update is %q", last)
		}
	})
}

// R11.4: a control plane that is back is found, and known to agree, within 5 s of it, however long it was away.
func TestAServerThatIsBackAgreesWithEveryProxyWithin5s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		fill(p.store, 10)
		var all []*proxy
		for range 20 {
			x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
			defer x.stop()
			x.client.Subscribe(catalogTarget)
			all = append(all, x)
		}
		settle(time.Second)
		p.stop()
		settle(10 * time.Minute)
		before := make([]discover.Stats, len(all))
		for i, x := range all {
			before[i] = x.client.Stats()
		}
		again := newPlane(t, Config{})
		defer again.stop()
		fill(again.store, 11)
		p.lis.Store(again.lis.Load())
		settle(5 * time.Second)
		for i, x := range all {
			x.same(again.store, catalogTarget)
			if s := x.client.Stats(); s.Digests == before[i].Digests || s.Mismatches+s.Gaps != 0 {
				t.Errorf("proxy %d after 5 s: %+v, before %+v; want a digest that agrees", i, s, before[i])
			}
		}
	})
}

func TestNothingIsServedBeforeTheSourcesSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(time.Minute)
		if n := x.len(catalogTarget); n != -1 || x.client.Stats().Connects != 0 {
			t.Fatalf("served %d rows, connected %d times", n, x.client.Stats().Connects)
		}
		fill(p.store, 3)
		settle(20 * time.Second)
		x.same(p.store, catalogTarget)
	})
}

func TestOnlyTheCertificateDecidesWhoseInboundPolicyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		fill(p.store, 2)
		mallory := p.connect("spiffe://cluster.local/ns/shop/sa/mallory", discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer mallory.stop()
		nameless := p.connect(catalogID, discover.Config{})
		defer nameless.stop()
		early := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-5"})
		defer early.stop()
		settle(time.Second)
		for _, x := range []*proxy{mallory, nameless, early} {
			if x.inbound != nil {
				t.Errorf("told %+v", x.inbound)
			}
			if n := x.client.Stats().Refusals; n != 1 {
				t.Errorf("%d refusals", n)
			}
		}
		var why []string
		for _, st := range p.server.Status().Streams {
			why = append(why, st.Refused)
		}
		all := strings.Join(why, "\n")
		for _, want := range []string{
			"spiffe://cluster.local/ns/shop/sa/mallory may not be workload shop/catalog-0",
			"2 workloads have this identity", "workload shop/catalog-5 is not known (yet)",
		} {
			if !strings.Contains(all, want) {
				t.Errorf("reasons:\n%s\nwant %q", all, want)
			}
		}
		fill(p.store, 6)
		settle(time.Second)
		if early.inbound == nil {
			t.Error("the workload appeared, but its policy was not told")
		}
	})
}

// R11.2: the proxy learns from discovery that its own workload is terminating.
func TestAWorkloadLearnsThatItIsTerminating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		fill(p.store, 2)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-1"})
		defer x.stop()
		settle(time.Second)
		if x.inbound == nil || x.inbound.Terminating {
			t.Fatalf("at first: %+v", x.inbound)
		}
		terminate(p.store, 1)
		settle(time.Second)
		if !x.inbound.Terminating {
			t.Error("not told")
		}
	})
}

func TestAnUnknownTargetIsToldAndThenItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{})
		defer p.stop()
		p.store.MarkSynced()
		x := p.connect(catalogID, discover.Config{}, func(x *proxy) { x.traced = true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(30 * time.Second)
		x.mu.Lock()
		if h := x.tables[catalogTarget]; h == nil || h.policy.Kind != mesh.TargetUnknown {
			t.Fatalf("an unknown target: %+v", h)
		}
		x.mu.Unlock()
		fill(p.store, 3)
		settle(time.Second)
		x.same(p.store, catalogTarget)
		want := []string{"catalog.shop:80 full +0 -0 policy=true", "catalog.shop:80 full +3 -0 policy=true"}
		if diff := cmp.Diff(want, x.trace); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTooManyTargetsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{MaxTargets: 2})
		defer p.stop()
		fill(p.store, 1)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"})
		defer x.stop()
		for port := range uint16(3) {
			x.client.Subscribe(mesh.NameTarget("catalog.shop", 80+port))
		}
		settle(time.Second)
		if n := x.client.Stats().Refusals; n != 1 || len(x.tables) != 2 {
			t.Errorf("%d refusals, %d targets told", n, len(x.tables))
		}
	})
}

func TestAVersionThatIsNeverAnsweredIsSentWholeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, Config{AckTimeout: 10 * time.Second})
		defer p.stop()
		fill(p.store, 5)
		x := p.connect(catalogID, discover.Config{Namespace: "shop", Name: "catalog-0"},
			func(x *proxy) { x.traced, x.mute = true, true })
		defer x.stop()
		x.client.Subscribe(catalogTarget)
		settle(5 * time.Minute)
		if n := len(x.trace); n < 3 || n > 7 {
			t.Errorf("sent %d times in 5 min: %q", n, x.trace)
		}
	})
}
