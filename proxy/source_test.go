package proxy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
)

// outsider connects from an address outside of the mesh to the inbound proxy.
func (w *world) outsider(from string) *conn {
	c := &conn{w: w, name: "outsider"}
	c.e = w.net.Host(netip.MustParseAddr(from)).Dial(inAddr, c.callbacks())
	w.open = append(w.open, c)
	return c
}

// greeted checks that a silent client's server is connected within patience, not before least, and that
// the client hears it.
func (w *world) greeted(c *conn, least, patience time.Duration) {
	w.t.Helper()
	if least > 0 {
		w.run(least)
		if len(w.accepted) > 0 {
			w.t.Fatalf("the application was connected to within %s", least)
		}
	}
	w.run(patience - least)
	if len(w.accepted) != 1 {
		w.t.Fatalf("after %s the application was connected to %d times, want once", patience, len(w.accepted))
	}
	w.accept().send("220 ready\n")
	c.expect("220 ready\n")
}

const (
	soon = 12 * time.Millisecond // the client's 10 ms, and the way
	late = 1100 * time.Millisecond
)

// R2.5: where peers come, a silent client from outside of the mesh is given the second that a peer's ClientHello
// may be late, once: from then on its address is known.
func TestAClientFromOutsideOfTheMeshWaitsOnce(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	w.greeted(w.dial(), 0, soon+5*time.Millisecond) // a peer
	w.greeted(w.outsider("192.0.2.1"), 900*time.Millisecond, late)
	w.greeted(w.outsider("192.0.2.1"), 0, soon)
	w.greeted(w.outsider("192.0.2.2"), 900*time.Millisecond, late) // another one
	w.greeted(w.outsider("192.0.2.1"), 0, soon)

	w.run(11 * time.Minute) // the address may be another workload's by then
	w.greeted(w.dial(), 0, soon+5*time.Millisecond)
	w.greeted(w.outsider("192.0.2.1"), 900*time.Millisecond, late)
}

// R2.5: what a client says first tells who it is as well as its silence does.
func TestAClientThatSpokePlaintextIsFromOutside(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	c := w.outsider("192.0.2.1")
	c.send("PING\n")
	w.accept().expect("PING\n")
	w.greeted(w.outsider("192.0.2.1"), 0, soon)
}

// R2.5: an address from which peers come as well (a NAT's, or one machine's) may be a peer each time: what
// the server says first would be all that a late peer hears.
func TestAnAddressOfPeersMayAlwaysBeAPeer(t *testing.T) {
	w := newWorld(t, shapeMesh, nil)
	w.greeted(w.dial(), 0, soon+5*time.Millisecond)
	for range 2 {
		w.greeted(w.outsider(clientIP.String()), 900*time.Millisecond, late)
	}
	w.greeted(w.dial(), 0, soon+5*time.Millisecond)
	w.greeted(w.outsider(clientIP.String()), 900*time.Millisecond, late)
}

// R2.4: pods may say what their ports are; where all that stand behind a target are declared to be bytes, the
// target is.
func TestATargetOfOpaqueEndpointsIsOpaque(t *testing.T) {
	opaque := mesh.Endpoint{Addr: inAddr, Identity: catalogID, Protocol: mesh.ProtocolOpaque}
	w := newWorld(t, shapeMesh, func(k *knobs) { k.rows = []mesh.Endpoint{opaque} })
	w.greeted(w.dial(), 0, 5*time.Millisecond) // nobody waits for the client
	detected := opaque
	detected.Protocol = mesh.ProtocolDetect
	w.outD.Set(target, &mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80}, detected)
	w.run(time.Millisecond)
	w.greeted(w.dial(), 5*time.Millisecond, soon+5*time.Millisecond)
}
