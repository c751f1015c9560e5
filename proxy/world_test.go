package proxy_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/meshtest"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// A world is a client's proxy, a server's proxy and an application on a
// simulated net: the tests that use it are transcripts of raw bytes.
type world struct {
	t        *testing.T
	net      *simnet.World
	out, in  *proxy.Proxy // nil where the shape has none
	outD     *meshtest.Discovery
	inD      *meshtest.Discovery
	clients  *simnet.Host
	servers  *simnet.Host
	accepted []*conn // by the application, not yet claimed
	open     []*conn
	l        *simnet.Listener
}

// shape says which proxies stand between client and application.
type shape uint8

const (
	shapeIn   shape = iota // client, inbound proxy, application
	shapeOut               // client, outbound proxy, application: plaintext
	shapeMesh              // both, with mutual TLS between them
)

var (
	clientIP = netip.MustParseAddr("10.0.0.1")
	serverIP = netip.MustParseAddr("10.0.0.2")
	appAddr  = netip.AddrPortFrom(serverIP, 80)
	inAddr   = netip.AddrPortFrom(serverIP, 10080)
	outAddr  = meshtest.Addr("127.0.0.1:9000")
)

var authority = sync.OnceValue(func() *meshtest.Authority { return meshtest.NewAuthority(time.Now) })

// knobs are what a test changes.
type knobs struct {
	cfg       proxy.Config
	policy    mesh.TargetPolicy
	inbound   *mesh.InboundPolicy
	net       simnet.Config
	rows      []mesh.Endpoint  // instead of the application
	upstreams []proxy.Upstream // besides the one of target
	late      bool             // the inbound proxy has no policy until inD is attached
}

func newWorld(t *testing.T, s shape, edit func(k *knobs)) *world {
	t.Helper()
	k := knobs{policy: mesh.TargetPolicy{Kind: mesh.TargetService, Service: "catalog", Namespace: "shop", Port: 80}}
	if edit != nil {
		edit(&k)
	}
	w := &world{t: t, net: simnet.New(k.net)}
	w.clients, w.servers = w.net.Host(clientIP), w.net.Host(serverIP)
	w.serve()
	row := mesh.Endpoint{Addr: appAddr}
	if s != shapeOut {
		cfg := k.cfg
		cfg.InboundPorts = []proxy.InboundPort{{Listen: inAddr, App: appAddr}}
		w.inD = meshtest.NewDiscovery()
		if k.inbound != nil {
			w.inD.SetInbound(k.inbound)
		}
		w.in = w.proxy(cfg, w.servers, catalogID, w.inD)
		if !k.late {
			w.inD.Attach(w.in)
		}
		row = mesh.Endpoint{Addr: inAddr, Identity: catalogID}
	}
	if s != shapeIn {
		cfg := k.cfg
		cfg.Upstreams = append([]proxy.Upstream{{Listen: outAddr, Target: target}}, k.upstreams...)
		w.outD = meshtest.NewDiscovery()
		w.out = w.proxy(cfg, w.clients, webID, w.outD)
		w.outD.Attach(w.out)
		if k.rows == nil {
			k.rows = []mesh.Endpoint{row}
		}
		w.outD.Set(target, &k.policy, k.rows...)
	}
	w.run(time.Millisecond)
	t.Cleanup(w.nothingHeld)
	return w
}

func (w *world) proxy(cfg proxy.Config, h *simnet.Host, id mesh.Identity, d *meshtest.Discovery) *proxy.Proxy {
	pollers := make([]*simnet.Poller, max(cfg.Workers, 1))
	for i := range pollers {
		pollers[i] = h.NewPoller()
	}
	p, err := proxy.New(cfg, proxy.Deps{
		Log: zap.NewNop(), Credentials: authority().Credentials(id), Discovery: d,
		Poller: func(i int) (loop.Poller, error) { return pollers[i], nil },
		Rand:   func(int) *rand.Rand { return w.net.NewRand() },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for i, worker := range p.Workers() {
		w.net.Drive(pollers[i], worker)
	}
	return p
}

func (w *world) run(d time.Duration) { w.net.Run(w.net.Now().Add(d)) }

// serve has the application listen.
func (w *world) serve() {
	l, err := w.servers.Listen(appAddr, func(e *simnet.Endpoint, _ loop.Accepted) simnet.Callbacks {
		c := &conn{w: w, name: "server", e: e}
		w.accepted = append(w.accepted, c)
		w.open = append(w.open, c)
		return c.callbacks()
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.l = l
}

// dial connects a client.
func (w *world) dial() *conn {
	if w.out != nil {
		return w.dialAt(outAddr)
	}
	return w.dialAt(inAddr)
}

func (w *world) dialAt(to netip.AddrPort) *conn {
	c := &conn{w: w, name: "client"}
	c.e = w.clients.Dial(to, c.callbacks())
	w.open = append(w.open, c)
	return c
}

// accept is the next connection to the application.
func (w *world) accept() *conn {
	w.t.Helper()
	if !w.net.RunUntil(w.net.Now().Add(patience), func() bool { return len(w.accepted) > 0 }) {
		w.t.Fatal("the application was not connected to")
	}
	c := w.accepted[0]
	w.accepted = w.accepted[1:]
	return c
}

// warm has one request answered, so that the port is known to speak HTTP, and returns both ends.
func (w *world) warm() (client, server *conn) {
	client = w.dial()
	client.send(get)
	server = w.accept()
	server.expect(w.request(get))
	server.send(ok)
	client.expect(ok)
	return client, server
}

// noAccept checks that the application was not connected to again.
func (w *world) noAccept() {
	w.t.Helper()
	w.run(100 * time.Millisecond)
	if len(w.accepted) > 0 {
		w.t.Fatal("the application was connected to again")
	}
}

// nothingHeld ends all connections and checks that no proxy keeps memory.
func (w *world) nothingHeld() {
	for _, c := range w.open {
		if !c.e.Closed() {
			c.e.Close(true)
		}
	}
	w.run(5 * time.Minute)
	for _, p := range []*proxy.Proxy{w.out, w.in} {
		if p == nil {
			continue
		}
		if n := p.Workers()[0].Pool().InUse(); n != 0 {
			w.t.Errorf("%d bytes of slab memory held after the end", n)
		}
		p.Close()
	}
}

// patience is how long, simulated, an expected thing may take.
const patience = 5 * time.Second

// conn is one end of a transcript.
type conn struct {
	w    *world
	name string
	e    *simnet.Endpoint
	got  strings.Builder
	read int // of got
	eof  bool
	err  error
}

func (c *conn) callbacks() simnet.Callbacks {
	return simnet.Callbacks{
		Data:   func(_ *simnet.Endpoint, p []byte) { c.got.Write(p) },
		EOF:    func(*simnet.Endpoint) { c.eof = true },
		Failed: func(_ *simnet.Endpoint, err error) { c.err = err },
	}
}

// send writes text, in which lines end with CRLF.
func (c *conn) send(text string) {
	c.e.Write([]byte(crlf(text)))
	c.w.run(time.Millisecond)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func (c *conn) unread() string { return c.got.String()[c.read:] }

// expect checks what comes next, exactly.
func (c *conn) expect(text string) {
	c.w.t.Helper()
	want := crlf(text)
	c.w.net.RunUntil(c.w.net.Now().Add(patience), func() bool {
		return len(c.unread()) >= len(want) || c.err != nil || c.eof
	})
	got := c.unread()
	if got = got[:min(len(got), len(want))]; got != want {
		c.w.t.Fatalf("%s: got\n%q, want\n%q (eof %v, %v)", c.name, c.unread(), want, c.eof, c.err)
	}
	c.read += len(want)
}

// nothing checks that nothing comes for a while, and that the connection stands.
func (c *conn) nothing(d time.Duration) {
	c.w.t.Helper()
	c.w.run(d)
	if c.unread() != "" || c.eof || c.err != nil {
		c.w.t.Fatalf("%s: got %q, eof %v, %v; want nothing", c.name, c.unread(), c.eof, c.err)
	}
}

func (c *conn) expectEOF() {
	c.w.t.Helper()
	c.w.net.RunUntil(c.w.net.Now().Add(patience), func() bool { return c.eof || c.err != nil })
	if !c.eof || c.err != nil || c.unread() != "" {
		c.w.t.Fatalf("%s: %q, eof %v, %v; want a clean end", c.name, c.unread(), c.eof, c.err)
	}
}

func (c *conn) expectReset() {
	c.w.t.Helper()
	c.w.net.RunUntil(c.w.net.Now().Add(patience), func() bool { return c.eof || c.err != nil })
	if c.err == nil {
		c.w.t.Fatalf("%s: %q, eof %v; want a reset", c.name, c.unread(), c.eof)
	}
}

// headOf is the status line of what comes next, which is skipped.
func (c *conn) headOf() string {
	c.w.t.Helper()
	c.w.net.RunUntil(c.w.net.Now().Add(patience), func() bool {
		return strings.Contains(c.unread(), "\r\n\r\n") || c.err != nil || c.eof
	})
	h, _, ok := strings.Cut(c.unread(), "\r\n\r\n")
	if !ok {
		c.w.t.Fatalf("%s: %q, eof %v, %v; want a head", c.name, c.unread(), c.eof, c.err)
	}
	c.read += len(h) + 4
	return strings.ReplaceAll(h, "\r\n", "\n")
}
