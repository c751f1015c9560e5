package proxy

import (
	"net/netip"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/transport"
)

// endpoint is what a worker keeps of an endpoint besides its estimates: its
// pools of connections and its metrics.
type endpoint struct {
	t     *target
	addr  netip.AddrPort // what is dialled
	noTLS mesh.NoTLSReason
	hop   *transport.H2Pool // over mutual TLS
	h1    *transport.H1Pool // plaintext
	h2    *transport.H2Pool // plaintext, prior knowledge

	route string // of http
	http  *metrics.HTTP
	tcp   *metrics.TCP
}

// endpoint returns e's, making it when it is first used.
func (t *target) endpoint(e *balance.Endpoint) *endpoint {
	if u, ok := e.User.(*endpoint); ok {
		return u
	}
	u := &endpoint{t: t, addr: e.Addr, noTLS: e.NoTLS}
	p := t.s.p
	if app, ok := t.s.ownApp(e.Addr); ok { // R1.4: never mesh TLS to oneself
		u.addr, u.noTLS = app, mesh.NoTLSLoopback
	} else if p.cfg.DisableTLS {
		u.noTLS = mesh.NoTLSDisabled
	}
	if e.Identity == "" && u.noTLS == mesh.NoTLSNone {
		u.noTLS = mesh.NoTLSNotMeshed
	}
	e.User = u
	return u
}

// secure reports whether the hop is mutual TLS.
func (u *endpoint) secure() bool { return u.noTLS == mesh.NoTLSNone }

// pool is where exchanges go.
type pool interface {
	Open(x *exchange.Exchange)
	Cancel(x *exchange.Exchange)
}

// poolFor returns the pool for a request of HTTP version v.
func (u *endpoint) poolFor(e *balance.Endpoint, v uint8) pool {
	s := u.t.s
	switch {
	case u.secure():
		if u.hop == nil {
			u.hop = transport.NewH2Pool(&s.hopParams, s.remote(e, hop.ALPNHTTP))
		}
		return u.hop
	case v >= 20:
		if u.h2 == nil {
			u.h2 = transport.NewH2Pool(&s.plainParams, transport.Remote{Addr: u.addr})
		}
		return u.h2
	}
	if u.h1 == nil {
		u.h1 = transport.NewH1Pool(&s.plainParams, transport.Remote{Addr: u.addr})
	}
	return u.h1
}

// remote is e, reached over mutual TLS with the given ALPN name. The peer must
// be who discovery says (R5.2).
func (s *shard) remote(e *balance.Endpoint, alpn string) transport.Remote {
	id, creds := e.Identity, s.p.deps.Credentials
	return transport.Remote{Addr: e.Addr, Session: func() *mtls.Session {
		return mtls.Client(creds, mtls.ClientParams{Peer: id, ALPN: []string{alpn}, Pool: s.w.Pool()})
	}}
}

// closeEndpoint lets an endpoint's connections go; what is in flight finishes.
func closeEndpoint(e *balance.Endpoint) {
	u, ok := e.User.(*endpoint)
	if !ok {
		return
	}
	if u.hop != nil {
		u.hop.Close()
	}
	if u.h1 != nil {
		u.h1.Close()
	}
	if u.h2 != nil {
		u.h2.Close()
	}
}

// labels are an endpoint's, of the direction outbound (R12.2).
func (t *target) labels(u *endpoint, e *balance.Endpoint, route string) metrics.Labels {
	l := metrics.Labels{Direction: metrics.Outbound, Route: route}
	if p := t.policy; p != nil {
		l.Service, l.Namespace = p.Service, p.Namespace
	}
	if e == nil {
		l.NoTLS = mesh.NoTLSNoEndpoint
		return l
	}
	l.Deployment, l.Zone = e.Deployment, e.Zone
	l.TLS = u.secure()
	if l.TLS {
		l.ServerID = e.Identity
		l.ClientID = t.s.p.deps.Credentials.Get().Identity
	} else {
		l.NoTLS = u.noTLS
	}
	return l
}

func (u *endpoint) metricsHTTP(e *balance.Endpoint, route string) *metrics.HTTP {
	if u.http == nil || u.route != route {
		u.http, u.route = u.t.s.store.HTTP(u.t.labels(u, e, route), u.t.s.now()), route
	}
	return u.http
}

func (u *endpoint) metricsTCP(e *balance.Endpoint) *metrics.TCP {
	if u.tcp == nil {
		l := u.t.labels(u, e, "")
		l.Pod = e.Pod
		u.tcp = u.t.s.store.TCP(l, u.t.s.now())
	}
	return u.tcp
}
