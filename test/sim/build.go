package sim

import (
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// Ports of every server's applications.
const (
	portHTTP   = 80
	portOpaque = 81 // bytes, declared so
	portDetect = 82 // bytes, not declared
	portBanner = 83 // bytes, the server speaks first
	portTLS    = 84 // TLS of the application
)

var ports = [...]uint16{portHTTP, portOpaque, portDetect, portBanner, portTLS}

// mapped is added to a port where there is no redirect: the inbound proxy
// listens there.
const mapped = 10000

// half is a host with its proxy.
type half struct {
	s       *Sim
	name    string
	host    *simnet.Host
	id      mesh.Identity
	creds   *mtls.Credentials
	p       *proxy.Proxy
	d       *discovery
	pollers []*simnet.Poller
	killed  bool
}

// client is a host whose applications send requests.
type client struct {
	half
	index int
	bare  bool // it has no proxy and dials servers itself
}

// server is a host whose applications serve.
type server struct {
	half
	index     int
	listeners []*simnet.Listener
	conns     []*appConn
	h2        []*h2Server
	idleClose time.Duration // the application closes idle connections after that; 0: it does not
	down      bool
	bad       badness
	// drains is when its clients have been told to go, leaves when discovery has
	// said so; 0: never.
	drains, leaves oracle.Time
	// ends is when its proxy was told to end; 0: it was not.
	ends oracle.Time
}

// badness is how an application misbehaves for a while.
type badness uint8

const (
	badNot    badness = iota
	badStatus         // answers 503
	badReset          // resets instead of answering
	badRefuse         // refuses HTTP/2 streams
)

// service is a name or address that clients dial, served by some servers.
type service struct {
	index   int
	vip     netip.Addr
	servers []*server
	retry   mesh.Retry
	// weights of a route to this service and the next; nil: there is none.
	weights []uint32
	kind    mesh.Balancing
}

// Certs are made once per process: they cost more than most seeds.
type Certs struct {
	bundle *mtls.Bundle
	leaves map[mesh.Identity][]leaf
	hellos [][]byte // of an application's own TLS
}

func identity(role string, i int) mesh.Identity {
	return mesh.NewIdentity("cluster.local", "sim", fmt.Sprintf("%s%d", role, i))
}

// longest is how long a request may take where that is limited; a tunnel may
// take longer.
const longest = 3 * time.Second

// tryTime and quietTime are how long an attempt may be without a response, and a
// request without a byte, where that is limited.
const (
	tryTime   = 1500 * time.Millisecond
	quietTime = time.Second
)

// idleTime is how long an application's connection may rest between requests.
const idleTime = 4 * time.Second

// epoch is the wall clock when the simulated clock stands at zero.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Sim) wall() time.Time { return epoch.Add(time.Duration(s.W.Now())) }

func (s *Sim) build() {
	t := proxy.Timeouts{HopIdle: 2 * time.Second, HopAge: s.o.hopAge, TargetIdle: 5 * time.Second, Header: s.o.header, Idle: idleTime, LameDuck: lameDuck + 10*s.o.discoveryDelay, Drain: drainFor}
	if s.o.keepTargets {
		t.TargetIdle = 10 * time.Minute
	}
	for i := range s.o.servers {
		v := &server{index: i}
		v.half = half{s: s, name: fmt.Sprintf("s%d", i), host: s.W.Host(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)})), id: identity("server", i)}
		v.idleClose = s.o.idleClose
		s.servers = append(s.servers, v)
		v.listen()
		cfg := proxy.Config{Timeouts: t, DisableTLS: !s.o.tls, BufferBytes: s.o.budget}
		if s.o.explicit {
			for _, p := range ports {
				cfg.InboundPorts = append(cfg.InboundPorts, proxy.InboundPort{
					Listen: netip.AddrPortFrom(v.host.IP(), p+mapped), App: netip.AddrPortFrom(v.host.IP(), p)})
			}
		} else {
			cfg.Inbound = netip.AddrPortFrom(netip.IPv4Unspecified(), 4143)
			v.host.RedirectIn(4143)
		}
		v.start(cfg)
	}
	s.buildOutsider()
	for i := range s.o.services {
		svc := &service{index: i, vip: netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)})}
		s.drawService(svc)
		s.services = append(s.services, svc)
	}
	if len(s.services) == 2 && s.one(3) && !s.o.script.Has(KindIdentity) {
		s.Kinds.add(KindRoute)
		s.separate()
		s.services[0].weights = of(s, []uint32{1, 1}, []uint32{1, 1}, []uint32{1, 0}, []uint32{0, 1}, []uint32{3, 1})
	}
	for i := range s.o.clients {
		c := &client{index: i}
		c.half = half{s: s, name: fmt.Sprintf("c%d", i), host: s.W.Host(netip.AddrFrom4([4]byte{10, 2, 0, byte(i + 1)})), id: identity("client", i)}
		s.clients = append(s.clients, c)
		cfg := proxy.Config{Timeouts: t, DisableTLS: !s.o.tls, BufferBytes: s.o.budget}
		if s.o.explicit {
			for _, svc := range s.services {
				for _, p := range ports {
					cfg.Upstreams = append(cfg.Upstreams, proxy.Upstream{Listen: s.dialled(svc, p), Target: s.target(svc, p)})
				}
			}
		} else {
			cfg.Outbound = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 4140)
			c.host.RedirectOut(4140)
		}
		c.start(cfg)
		for _, svc := range s.services {
			for _, p := range ports {
				c.d.set(s.target(svc, p), s.policy(svc, p), s.rows(svc, p))
			}
		}
	}
}

// buildOutsider makes a client that is not in the mesh.
func (s *Sim) buildOutsider() {
	s.outsider = &client{index: -1, bare: true}
	s.outsider.half = half{s: s, name: "outsider", host: s.W.Host(netip.AddrFrom4([4]byte{10, 95, 0, 1}))}
}

// start makes the half's proxy.
func (h *half) start(cfg proxy.Config) {
	s := h.s
	h.creds = mtls.NewCredentials(s.wall)
	h.creds.SetBundle(s.certs.bundle)
	must(h.creds.SetLeaf(s.certs.leaf(h.id, s.o.shortLeaf, 0)))
	h.d = &discovery{s: s, targets: map[mesh.Target]*row{}, inbound: &mesh.InboundPolicy{TrustDomain: "cluster.local"}}
	cfg.Workers = s.o.workers
	for range s.o.workers {
		h.pollers = append(h.pollers, h.host.NewPoller())
	}
	p, err := proxy.New(cfg, proxy.Deps{
		Log: zap.NewNop(), Credentials: h.creds, Discovery: h.d,
		Poller: func(i int) (loop.Poller, error) { return h.pollers[i], nil },
		Rand:   s.newRand,
	})
	must(err)
	h.p = p
	for i, w := range p.Workers() {
		s.W.Drive(h.pollers[i], w)
	}
	h.d.attach(p)
}

// dialled is the address that an application dials.
func (s *Sim) dialled(svc *service, port uint16) netip.AddrPort {
	if s.o.explicit {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9000+uint16(svc.index)*100+port)
	}
	return netip.AddrPortFrom(svc.vip, port)
}

func (s *Sim) target(svc *service, port uint16) mesh.Target {
	if s.o.explicit {
		return mesh.NameTarget(fmt.Sprintf("svc%d.sim", svc.index), port)
	}
	return mesh.AddrTarget(netip.AddrPortFrom(svc.vip, port))
}

func (s *Sim) policy(svc *service, port uint16) *mesh.TargetPolicy {
	p := &mesh.TargetPolicy{
		Kind: mesh.TargetService, Service: fmt.Sprintf("svc%d", svc.index), Namespace: "sim", Port: port,
		Balancing: svc.kind, Retry: svc.retry,
	}
	for i, w := range svc.weights {
		if i == 0 {
			p.Routes = []mesh.Route{{Name: "sim/split"}}
		}
		p.Routes[0].Backends = append(p.Routes[0].Backends, mesh.Backend{Target: s.target(s.services[i], port), Weight: w})
	}
	switch {
	case s.o.limits && s.o.tries: // the whole may take longer than each part
		p.Timeouts.PerTry, p.Timeouts.Idle = tryTime, quietTime
	case s.o.limits:
		p.Timeouts.Request = longest
	}
	if port == portOpaque {
		p.Protocol = mesh.ProtocolOpaque
	}
	return p
}

// rowAddr is a server's address as endpoints have it.
func (s *Sim) rowAddr(v *server, port uint16) netip.AddrPort {
	if s.o.explicit {
		port += mapped
	}
	return netip.AddrPortFrom(v.host.IP(), port)
}

func (s *Sim) row(v *server, port uint16) mesh.Endpoint {
	return mesh.Endpoint{Addr: s.rowAddr(v, port), Identity: v.id, Namespace: "sim", Deployment: v.name, Pod: v.name}
}

func (s *Sim) rows(svc *service, port uint16) []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, v := range svc.servers {
		out = append(out, s.row(v, port))
	}
	return out
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
