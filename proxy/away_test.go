package proxy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// strangerAt is a world whose application also dials addr, where one listens, and whose proxy was told of these networks.
func strangerAt(t *testing.T, addr string, networks ...string) (w *world, via netip.AddrPort, key mesh.Target) {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
	via, key = meshtest.Addr("127.0.0.1:9002"), mesh.AddrTarget(at)
	w = newWorld(t, shapeOut, func(k *knobs) { k.upstreams = []proxy.Upstream{{Listen: via, Target: key}} })
	in := &mesh.InboundPolicy{TrustDomain: "cluster.local"}
	for _, n := range networks {
		in.ClusterNetworks = append(in.ClusterNetworks, netip.MustParsePrefix(n))
	}
	w.outD.SetInbound(in)
	if at != appAddr {
		_, err := w.net.Host(at.Addr()).Listen(at, func(e *simnet.Endpoint, _ loop.Accepted) simnet.Callbacks {
			c := &conn{w: w, name: "stranger", e: e}
			w.accepted, w.open = append(w.accepted, c), append(w.open, c)
			return c.callbacks()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return w, via, key
}

// R11.4: who cannot ask discovery passes nothing on in plaintext that may be of the cluster: what is in the networks that
// discovery named, and where it named none, what is private.
func TestAnAddressThatMayBeOfTheClusterIsRefusedWhileDiscoveryIsAway(t *testing.T) {
	for _, c := range []struct {
		addr     string
		networks []string
		passed   bool
	}{
		{"10.0.0.2", nil, false},
		{"172.20.0.1", nil, false},
		{"192.168.7.7", nil, false},
		{"100.64.0.1", nil, false},
		{"100.63.0.1", nil, true},
		{"fd00::1", nil, false},
		{"203.0.113.7", nil, true},
		{"2001:db8::1", nil, true},
		{"10.0.0.2", []string{"10.1.0.0/16", "fd00::/8"}, true},
		{"10.1.0.2", []string{"10.1.0.0/16", "fd00::/8"}, false},
		{"203.0.113.7", []string{"203.0.113.0/24"}, false},
	} {
		t.Run(c.addr, func(t *testing.T) {
			w, via, _ := strangerAt(t, c.addr, c.networks...)
			d := w.dialAt(via)
			d.send(get)
			d.nothing(900 * time.Millisecond)
			w.run(200 * time.Millisecond)
			if c.passed {
				w.accept().expect(get)
				return
			}
			d.expectReset()
			w.noAccept()
		})
	}
}

// R11.4: discovery's word that it does not know an address is enough: a private one outside of the cluster is passed on.
func TestAPrivateAddressThatDiscoveryDoesNotKnowIsPassedOn(t *testing.T) {
	w, via, key := strangerAt(t, "10.0.0.2")
	w.outD.Set(key, &mesh.TargetPolicy{Kind: mesh.TargetUnknown})
	c := w.dialAt(via)
	c.send(get)
	w.accept().expect(get)
}

// R11.4: what was the cluster's when discovery was last heard is nobody else's a day later, wherever its address is.
func TestWhatWasTheClustersIsNotPassedOnAfterADay(t *testing.T) {
	for _, kind := range []mesh.TargetKind{mesh.TargetPod, mesh.TargetUnknown} {
		w, via, key := strangerAt(t, "203.0.113.7")
		var rows []mesh.Endpoint
		if kind == mesh.TargetPod {
			rows = []mesh.Endpoint{{Addr: key.Addr}}
		}
		w.outD.Set(key, &mesh.TargetPolicy{Kind: kind}, rows...)
		c := w.dialAt(via)
		c.send(get)
		w.accept().expect(get)
		c.e.Close(false)
		w.outD.Lose()
		w.run(24*time.Hour + time.Minute)
		c = w.dialAt(via)
		c.send(get)
		w.run(1100 * time.Millisecond)
		if kind == mesh.TargetUnknown {
			w.accept().expect(get)
			continue
		}
		c.expectReset()
		w.noAccept()
	}
}

// R11.4: a connection that was kept for the day is refused like a new one, request by request, and serves again.
func TestAKeptConnectionOutlivesWhatIsKnown(t *testing.T) {
	w := newWorld(t, shapeOut, nil)
	c := w.dial()
	c.send(get)
	s := w.accept()
	s.expect(get)
	w.outD.Lose()
	w.run(24*time.Hour + time.Minute)
	s.send(ok) // what was begun ends well
	c.expect(ok)
	c.send(get)
	c.expect("HTTP/1.1 503 Service Unavailable\n")
	w.noAccept()
}
