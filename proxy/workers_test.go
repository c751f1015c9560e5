package proxy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
)

// R6.6: what discovery said to one worker the others know when their
// applications dial the same, with all that has changed since.
func TestEveryWorkerKnowsATarget(t *testing.T) {
	vip := meshtest.Addr("10.96.0.1:80")
	w := newWorld(t, shapeOut, func(k *knobs) {
		k.cfg.Workers = 2
		k.cfg.Outbound = meshtest.Addr("127.0.0.1:4140")
	})
	w.clients.RedirectOut(4140)
	policy := &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "cart", Namespace: "shop", Protocol: mesh.ProtocolOpaque}
	stale := netip.AddrPortFrom(serverIP, 9)
	key := mesh.AddrTarget(vip)
	w.outD.Set(key, policy, mesh.Endpoint{Addr: stale})
	c := w.dialAt(vip) // one worker hears of the stale row
	w.run(time.Millisecond)
	c.e.Close(true)
	w.outD.Set(key, policy, mesh.Endpoint{Addr: appAddr})
	for range 20 { // by chance some for either worker
		c := w.dialAt(vip)
		c.send("hello")
		w.accept().expect("hello")
	}
}
