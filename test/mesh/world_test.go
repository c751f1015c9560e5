package mesh

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy"
)

// world is a mesh on addresses of its own: 127.a.b.1 is the control plane, .2
// the client's proxy, .3 the recorder, .4 the server's proxy, .5 the server.
// Slots are ports; a case takes one, serves it at app and dials it at dial.
type world struct {
	t     testing.TB
	mode  mode
	net   string
	plane *plane
	rec   *recorder
	// client and server are the two proxies.
	client, server *running
	slots          int
	noRetries      bool
	env            []string // of proxies that are processes
	next           atomic.Int32
}

// worldConfig says what is special of a world.
type worldConfig struct {
	mode  mode
	plane planeConfig
	slots int  // 0: 60
	noTLS bool // proxies speak plaintext with each other
	// noRetries makes every failure final.
	noRetries bool
	// env are settings of proxies that are processes, "NAME=value".
	env []string
	// account is who discovery says the server is; empty: "server", which it is.
	account string
}

var (
	clientID = mesh.NewIdentity(trustDomain, "shop", "client")
	serverID = mesh.NewIdentity(trustDomain, "shop", "server")
)

// newWorld starts a control plane, the recorder and two proxies.
func newWorld(t testing.TB, cfg worldConfig) *world {
	t.Helper()
	w := bareWorld(t, cfg)
	w.rec = w.record()
	w.announce(cfg, "")
	w.server = w.start(w.serverSpec(cfg.noTLS))
	w.client = w.start(w.clientSpec(cfg.noTLS))
	return w
}

// bareWorld is a control plane that knows of nothing yet.
func bareWorld(t testing.TB, cfg worldConfig) *world {
	t.Helper()
	if cfg.slots == 0 {
		cfg.slots = 60
	}
	w := &world{t: t, mode: cfg.mode, slots: cfg.slots, noRetries: cfg.noRetries, env: cfg.env}
	w.net = fmt.Sprintf("127.%d.%d.", 64+rand.IntN(128), 1+rand.IntN(250))
	cfg.plane.plaintext = cfg.plane.plaintext || cfg.noTLS
	w.plane = newPlane(t, w.net+"1", cfg.plane)
	return w
}

// announce tells the control plane of the server and of who is beside the proxies. The address
// that clients are told is the recorder's, unless addr is another one.
func (w *world) announce(cfg worldConfig, addr string) {
	account := cfg.account
	if account == "" {
		account = "server"
	}
	if addr == "" {
		addr = w.net + "3"
	}
	w.plane.write("server.yaml", serviceYAML("server", w.slots)+"---\n"+
		workload{name: "server-1", account: account, service: "server", addr: addr, ports: w.slots}.yaml())
	w.plane.write("own.yaml", workload{name: "server-0", account: "server", service: "none", addr: w.net + "4", ports: w.slots}.yaml()+"---\n"+
		workload{name: "client-0", account: "client", service: "none", addr: w.net + "2"}.yaml())
}

func (w *world) serverSpec(noTLS bool) proxySpec {
	s := proxySpec{name: "server-0", account: "server", admin: w.net + "4:4191", noTLS: noTLS}
	for i := range w.slots {
		s.inbound = append(s.inbound, proxy.InboundPort{Listen: addrPort(w.net+"4", slotPort(i)), App: addrPort(w.net+"5", slotPort(i))})
	}
	return s
}

func (w *world) clientSpec(noTLS bool) proxySpec {
	s := proxySpec{name: "client-0", account: "client", admin: w.net + "2:4191", noTLS: noTLS}
	for i := range w.slots {
		s.upstreams = append(s.upstreams, proxy.Upstream{
			Listen: addrPort(w.net+"2", slotPort(i)), Target: mesh.NameTarget("server.shop", uint16(slotPort(i))),
		})
	}
	return s
}

// slot is one port from the client's side to the server's.
type slot struct{ dial, app string }

// slot returns one that no other case uses.
func (w *world) slot(t testing.TB) slot {
	t.Helper()
	i := int(w.next.Add(1)) - 1
	if i >= w.slots {
		t.Fatal("the world has too few slots")
	}
	return slot{dial: fmt.Sprintf("%s2:%d", w.net, slotPort(i)), app: fmt.Sprintf("%s5:%d", w.net, slotPort(i))}
}

// listen opens a slot's application side.
func (w *world) listen(t testing.TB) (string, net.Listener) {
	t.Helper()
	s := w.slot(t)
	l, err := net.Listen("tcp", s.app)
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	return s.dial, l
}

// connect dials a slot.
func connect(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	ok(t, err)
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}
