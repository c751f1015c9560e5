package balance_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/balance"
)

// ofSource is a balancer of one source with endpoints 10.0.0.1 to n.
func ofSource(source string, n int) *balance.Balancer {
	b := balance.New(balance.Config{Kind: mesh.BalanceSource, Source: source}, rand.New(rand.NewPCG(7, 7)))
	for i := range n {
		b.Apply([]mesh.Endpoint{numbered(i + 1)}, nil, 1)
	}
	return b
}

func numbered(i int) mesh.Endpoint {
	return mesh.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), NoTLS: mesh.NoTLSNotMeshed}
}

func picked(t *testing.T, b *balance.Balancer, now mono.Time, avoid ...*balance.Endpoint) *balance.Endpoint {
	t.Helper()
	e, ok := b.Pick(now, avoid)
	if !ok {
		t.Fatal("nobody is left")
	}
	return e
}

func TestASourceStaysWithOneEndpoint(t *testing.T) { // R6.2
	counts := map[netip.AddrPort]int{}
	for i := range 400 {
		source := fmt.Sprintf("shop/client-%d", i)
		b := ofSource(source, 4)
		first := picked(t, b, 1)
		for range 20 {
			if e := picked(t, b, 1); e != first {
				t.Fatalf("%s went to %s and %s", source, first.Addr, e.Addr)
			}
		}
		if other := picked(t, ofSource(source, 4), 1); other.Addr != first.Addr {
			t.Fatalf("another worker of %s goes to %s, not %s", source, other.Addr, first.Addr)
		}
		counts[first.Addr]++
	}
	for addr, n := range counts {
		if n < 60 || n > 140 || len(counts) != 4 {
			t.Errorf("%s has %d of 400 sources", addr, n)
		}
	}
}

func TestASourceMovesOnlyWhenItMust(t *testing.T) { // R6.2
	moved := 0
	for i := range 200 {
		b := ofSource(fmt.Sprintf("shop/client-%d", i), 4)
		first := picked(t, b, 1)
		second := picked(t, b, 1, first)
		if second == first {
			t.Fatal("it was to be avoided")
		}
		b.Apply([]mesh.Endpoint{numbered(5)}, nil, 1)
		switch e := picked(t, b, 1); {
		case e == first:
		case e.Addr == numbered(5).Addr:
			moved++
		default:
			t.Fatalf("it moved from %s to %s, which was there before", first.Addr, e.Addr)
		}
		b.Apply(nil, []netip.AddrPort{numbered(5).Addr}, 1)
		if e := picked(t, b, 1); e != first {
			t.Fatal("it did not come back")
		}
		b.Apply(nil, []netip.AddrPort{first.Addr}, 1)
		if e := picked(t, b, 1); e != second {
			t.Fatalf("without %s it goes to %s, not %s", first.Addr, e.Addr, second.Addr)
		}
	}
	if moved < 15 || moved > 70 {
		t.Errorf("%d of 200 sources moved to the fifth endpoint, want about 40", moved)
	}
}

// TestASourceLeavesWhatFails: an ejection moves it, and after the ejection it comes back by itself: no request
// is spent on a probe of somebody else's endpoint.
func TestASourceLeavesWhatFails(t *testing.T) { // R6.2, R6.4
	b := ofSource("shop/client", 3)
	first := picked(t, b, 1)
	for range 7 {
		f := first.Start(1)
		f.Done(1, balance.Outcome{Result: balance.Failed})
	}
	second := picked(t, b, 1)
	if second == first {
		t.Fatal("it stays with an endpoint that is ejected")
	}
	for now := mono.Time(2); now < mono.Time(time.Minute); now += mono.Time(100 * time.Millisecond) {
		if e := picked(t, b, now); e != first && e != second {
			t.Fatalf("it went to %s, which is neither", e.Addr)
		}
	}
	if e := picked(t, b, mono.Time(time.Minute)); e != first {
		t.Errorf("it is at %s a minute later, not back at %s", e.Addr, first.Addr)
	}
}
