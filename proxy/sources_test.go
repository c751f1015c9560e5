package proxy

import (
	"net/netip"
	"testing"
)

// R2.5: addresses are remembered within bounds, the latest first.
func TestTheLatestAddressesAreRemembered(t *testing.T) {
	var o sources
	first := netip.MustParseAddr("198.18.0.0")
	a := first
	more := func(n int) {
		for range n {
			o.put(a, source{plain: 1})
			a = a.Next()
		}
	}
	more(maxSources + 10)
	if o.get(first) == (source{}) {
		t.Error("the older generation is forgotten too early")
	}
	o.put(first, source{plain: 2}) // it came again
	more(maxSources)
	if got := o.get(first); got.plain != 2 {
		t.Errorf("an address that came again is known as %v", got)
	}
	more(maxSources)
	if got := o.get(first); got != (source{}) {
		t.Errorf("an address that did not come for long is known as %v", got)
	}
	if n := len(o.young) + len(o.old); n > 2*maxSources {
		t.Errorf("%d addresses are remembered", n)
	}
	if o.get(a.Prev()) == (source{}) {
		t.Error("the last address is not remembered")
	}
}
