package loop_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

func makers() []maker {
	epoll := func(hold time.Duration) func(t *testing.T) (loop.Poller, netip.Addr) {
		return func(t *testing.T) (loop.Poller, netip.Addr) {
			p, err := loop.NewEpoll(loop.EpollConfig{Hold: hold})
			if err != nil {
				t.Fatal(err)
			}
			return p, loopback
		}
	}
	return append(everywhere(),
		maker{name: "epoll", make: epoll(0), seesReset: true},
		maker{name: "epoll-parked", make: epoll(-1), seesReset: true})
}
