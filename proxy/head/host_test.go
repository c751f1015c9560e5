package head

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestIPv6IsWhatNetipTakesForIt(t *testing.T) {
	check := func(s string) {
		a, err := netip.ParseAddr(s)
		if want := err == nil && a.Is6() && a.Zone() == ""; isIPv6([]byte(s)) != want {
			t.Errorf("%q: %v, netip says %v", s, !want, want)
		}
	}
	for _, s := range []string{
		"", ":", "::", ":::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"1:2:3:4:5:6:7:8::", "1::2::3", "12345::", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "::1.2.3.4.5",
		"::1.2.3.256", "::01.2.3.4", "::1.2.3.4:5", "1.2.3.4", "g::", "fe80::1%eth0", "1:2:3:4:5::1.2.3.4", "::0.0.0.0", "1:", ":1", "::1.2.3.", "::a.2.3.4",
	} {
		check(s)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	parts := []string{"::", ":", ":", ":", "1", "ab", "FFFF", "0", "1.2.3.4", ".", "25", "256"}
	for range 200_000 {
		var b strings.Builder
		for range rng.IntN(18) {
			b.WriteString(parts[rng.IntN(len(parts))])
		}
		check(b.String())
	}
}

func TestHostsAreNotAllocated(t *testing.T) {
	b := []byte("[2001:db8:1234:5678:9abc:def0:1234:5678]:8080")
	if n := testing.AllocsPerRun(10, func() {
		if host, port, ok := SplitHost(b); !ok || len(host) != 40 || string(port) != ":8080" {
			t.Fatal(host, port, ok)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
