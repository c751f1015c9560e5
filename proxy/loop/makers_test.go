package loop_test

import (
	"net/netip"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// everywhere are the pollers that every system has.
func everywhere() []maker {
	return []maker{{name: "goroutines", make: func(*testing.T) (loop.Poller, netip.Addr) {
		return loop.NewGoroutines(loop.GoroutinesConfig{}), loopback
	}}}
}
