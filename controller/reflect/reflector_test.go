package reflect

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	k8stesting "k8s.io/client-go/testing"

	"github.com/tulle-mesh/tulle/controller/state"
)

// deaf has the watches of a kind tell nothing.
func (s *script) deaf(resource string) {
	s.client.PrependWatchReactor(resource, func(k8stesting.Action) (bool, watch.Interface, error) {
		return true, watch.NewFake(), nil
	})
}

func pod(name, ip string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "shop"},
		"status": map[string]any{"phase": "Running", "podIP": ip},
	}}
}

func (s *script) knows(ip string) bool {
	return s.r.cfg.Store.Snapshot().Owner(netip.AddrPortFrom(netip.MustParseAddr(ip), 80)) != nil
}

// A watch that lost events is found by comparing with a fresh list, and everything is read anew.
func TestAWatchThatLostEventsIsFoundByAnAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		s.apply(pod("gone", "10.1.0.1"))
		s.deaf("pods")
		s.start()
		s.delete("Pod", "shop/gone")
		s.apply(pod("new", "10.1.0.2"))
		s.settle(10 * time.Minute)
		if !s.knows("10.1.0.1") || s.knows("10.1.0.2") {
			t.Fatal("the test wants a watch that tells nothing")
		}
		s.settle(10 * time.Minute)
		if s.knows("10.1.0.1") || !s.knows("10.1.0.2") {
			t.Error("the audit found nothing")
		}
		if n := testutil.ToFloat64(s.r.metrics.differences.WithLabelValues("Pod")); n != 2 {
			t.Errorf("%v differences are counted, want 2", n)
		}
	})
}

// Proxies that cannot reach an address have its namespace compared at once.
func TestAFailureHasItsNamespaceCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		s.apply(pod("gone", "10.1.0.1"))
		s.deaf("pods")
		s.start()
		s.delete("Pod", "shop/gone")
		s.r.Recheck([]netip.AddrPort{netip.MustParseAddrPort("10.1.0.1:80")})
		s.settle(12 * time.Second)
		if s.knows("10.1.0.1") {
			t.Error("the stale pod is still there")
		}
	})
}

// What a watch tells in time is no difference, though a list is ahead of it for a moment.
func TestAnAuditOfAHealthyWatchFindsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		s.start()
		for i := range 100 {
			s.apply(pod("web", netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()))
			s.settle(time.Minute)
		}
		if n := testutil.ToFloat64(s.r.metrics.audits); n < 4 {
			t.Errorf("%v audits", n)
		}
		if n := testutil.ToFloat64(s.r.metrics.differences.WithLabelValues("Pod")); n != 0 {
			t.Errorf("%v differences", n)
		}
	})
}

// However many changes come, the writer sees the newest of each object, in one transaction.
func TestAStormIsOneTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		s.start()
		before := s.r.cfg.Store.Snapshot().Version
		for i := range 50 {
			s.apply(pod("web", netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()))
			s.apply(pod("api", netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}).String()))
		}
		s.settle(time.Second)
		if now := s.r.cfg.Store.Snapshot().Version; now > before+2 {
			t.Errorf("%d transactions", now-before)
		}
		if !s.knows("10.1.0.49") || !s.knows("10.2.0.49") {
			t.Error("the newest is not there")
		}
	})
}

// R11.2: the workload's own proxy is told that its pod ends, by the deletionTimestamp, before any slice
// or signal says so.
func TestAPodsOwnEndReachesItsInboundPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		s.apply(pod("web", "10.1.0.1"))
		s.start()
		name := state.Name{Namespace: "shop", Name: "web"}
		if s.r.cfg.Store.Snapshot().Inbound(name).Policy.Terminating {
			t.Fatal("it ends already")
		}
		w := s.r.cfg.Store.Watch()
		defer w.Close()
		ends := pod("web", "10.1.0.1")
		ends.SetDeletionTimestamp(new(metav1.Now()))
		s.apply(ends)
		s.settle(time.Second)
		if !s.r.cfg.Store.Snapshot().Inbound(name).Policy.Terminating || !w.Take().Inbound[name] {
			t.Error("its proxy is not told")
		}
	})
}
