package loop_test

import (
	"net/netip"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// everywhere are the pollers that every system has.
func everywhere() []maker {
	goroutines := func(*testing.T) (loop.Poller, netip.Addr) {
		return loop.NewGoroutines(loop.GoroutinesConfig{}), loopback
	}
	simulated := func(cfg simnet.Config) func(*testing.T) (loop.Poller, netip.Addr) {
		return func(*testing.T) (loop.Poller, netip.Addr) {
			h := simnet.New(cfg).Host(netip.MustParseAddr("10.0.0.1"))
			return h.NewPoller(), h.IP()
		}
	}
	rough := simnet.Config{Seed: 7, Partial: 0.3, Spurious: 0.3, Withhold: 0.3, Late: 0.1, Segment: 536, SendBuffer: 4 << 10}
	return []maker{
		{name: "goroutines", make: goroutines},
		{name: "simulated", make: simulated(simnet.Config{Seed: 1}), seesReset: true},
		{name: "simulated-rough", make: simulated(rough), seesReset: true},
	}
}
