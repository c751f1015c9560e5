package proxy

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/budget"
	"github.com/tulle-mesh/tulle/proxy/chain"
	"github.com/tulle-mesh/tulle/proxy/detect"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/policy"
	"github.com/tulle-mesh/tulle/proxy/transport"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// shard is one worker with everything that it owns. Connections, pools and
// estimates belong to a shard; limits, budgets and ejections to the proxy (R6.6).
type shard struct {
	// immutable
	p        *Proxy
	w        *loop.Worker
	wire     *wire.Env
	env      *exchange.Env
	store    *metrics.Store
	h2Shared *h2.Shared
	maxConns int

	// pools' parameters: between proxies, to endpoints in plaintext, to the application
	hopParams, plainParams, appParams transport.Params

	// owned by the worker
	queues     [2]transport.Queues // by direction
	doors      []*door
	targets    map[mesh.Target]*target
	targetList []*target // the same, in order of age: maps are not ranged over
	apps       map[netip.AddrPort]*app
	appList    []*app
	inbounds   chain.List[*inbound]
	tunnels    int
	inbound    *mesh.InboundPolicy
	audits     []*audit // in order; digests that are being compared
	draining   bool
	leaveUntil mono.Time  // until when peers that have not left keep the process, 0 before SIGTERM
	peerAt     mono.Time  // when a peer last came, or could have since the start
	sources    sources    // clients of the network
	downSince  mono.Time  // when the stream to discovery ended, 0 while it is up
	early      []*inbound // that came before the first inbound policy, in order
	earlyTimer loop.Timer
	sweep      loop.Timer
	relief     relief
	retry      *budget.Retry // of what is given to the application again
}

// sweepEvery is how often a shard looks for what is no longer used.
const sweepEvery = 30 * time.Second

const (
	timerSweep uint8 = iota
	timerEarly
	timerRelief
)

func newShard(p *Proxy, w *loop.Worker) *shard {
	s := &shard{
		p: p, w: w, store: metrics.NewStore(), h2Shared: &h2.Shared{},
		targets: map[mesh.Target]*target{}, apps: map[netip.AddrPort]*app{},
	}
	l := &p.cfg.Limits
	s.wire = wire.NewEnv(w, max(1, l.Handshakes/p.cfg.Workers))
	s.env = &exchange.Env{Wire: s.wire, MaxInFlight: max(1, l.Requests/p.cfg.Workers), Refuse: s.refuse}
	s.maxConns = max(1, l.Connections/p.cfg.Workers)
	s.retry = budget.NewShared(budget.Config{}, p.appRetries)
	s.setParams()
	w.Pool().OnFull(s.relieve)
	s.peerAt = w.Now()
	w.Arm(&s.sweep, w.Now().Add(sweepEvery), s, timerSweep)
	return s
}

func (s *shard) setParams() {
	t, l := &s.p.cfg.Timeouts, &s.p.cfg.Limits
	base := transport.Params{
		Env: s.env, Connect: t.Connect, Handshake: t.Handshake, Idle: t.HopIdle,
		MaxConns: l.Conns, MaxWaiting: l.Waiting, H2: s.h2Config(), Wall: s.p.deps.Credentials.Now,
	}
	base.Queues = &s.queues[metrics.Outbound]
	s.plainParams, s.hopParams, s.appParams = base, base, base
	s.appParams.Queues = &s.queues[metrics.Inbound]
	s.plainParams.Client = &exchange.ClientParams{Env: s.env, Limits: l.Heads}
	s.appParams.Client = s.plainParams.Client
	s.appParams.Connect = t.ConnectApp
	s.hopParams.Client = &exchange.ClientParams{Env: s.env, Limits: l.Heads, Hop: true, PingEvery: t.Ping, PingTimeout: t.Ping}
	s.hopParams.MaxAge = t.HopAge
	s.hopParams.UserTimeout = 3 * t.Ping
}

func (s *shard) now() mono.Time { return s.w.Now() }

// h2Config is what every HTTP/2 connection of the worker is made with.
func (s *shard) h2Config() h2.Config {
	h := &s.p.cfg.Limits.Heads
	return h2.Config{
		HeaderBytes: h.HeaderBytes, HeaderCount: h.HeaderCount, TargetBytes: h.TargetBytes,
		Pool: s.w.Pool(), Shared: s.h2Shared,
	}
}

func (s *shard) serverParams(f exchange.Front, peer bool) *exchange.ServerParams {
	t := &s.p.cfg.Timeouts
	p := &exchange.ServerParams{
		Env: s.env, Front: f, Limits: s.p.cfg.Limits.Heads,
		HeaderTimeout: t.Header, IdleTimeout: t.Idle, Hop: peer,
	}
	if peer {
		p.IdleTimeout = 0 // the peer's pool closes what it no longer uses
		p.PingEvery = t.Ping
	}
	return p
}

// ownApp says which application an endpoint is, when it is this very workload (R1.4).
func (s *shard) ownApp(addr netip.AddrPort) (netip.AddrPort, bool) {
	cfg := &s.p.cfg
	for _, m := range cfg.InboundPorts {
		if m.Listen == addr {
			return m.App, true
		}
	}
	// Where traffic is redirected all of the workload's ports are its application's.
	return addr, cfg.Inbound.IsValid() && slices.Contains(cfg.OwnAddrs, addr.Addr())
}

// denySelf is why the local policy denies this workload one of its own ports, which is dialled past
// the inbound side (R1.4); empty when it does not.
func (s *shard) denySelf(u *endpoint) string {
	if u.noTLS != mesh.NoTLSLoopback {
		return ""
	}
	d := policy.Decide(s.inbound, u.addr.Port(), s.p.deps.Credentials.Get().Identity)
	if d.Allow {
		return ""
	}
	return "denied by " + d.Policy + ": " + d.Reason
}

// Expired implements loop.TimerHandler: what is no longer used is dropped.
func (s *shard) Expired(_ *loop.Timer, kind uint8) {
	now := s.now()
	switch kind {
	case timerEarly:
		s.admit(now)
		return
	case timerRelief:
		s.relieve()
		return
	}
	s.forgetStale(now)
	idle := s.p.cfg.Timeouts.TargetIdle
	keep := s.targetList[:0]
	for _, t := range s.targetList {
		if s.p.connected.Load() && t.idle(now, idle) { // never dropped while the stream is down (R11.4)
			t.drop()
			continue
		}
		keep = append(keep, t)
	}
	clear(s.targetList[len(keep):])
	s.targetList = keep
	s.sweepApps(now, idle)
	s.recheck() // roots may have been withdrawn
	s.store.Expire(now)
	s.w.Pool().Trim()
	s.w.Arm(&s.sweep, now.Add(sweepEvery), s, timerSweep)
}

func (s *shard) sweepApps(now mono.Time, idle time.Duration) {
	keep := s.appList[:0]
	for _, a := range s.appList {
		if a.users == 0 && now.Sub(a.lastUsed) >= idle {
			a.h1.Close()
			a.h2.Close()
			delete(s.apps, a.addr)
			continue
		}
		keep = append(keep, a)
	}
	clear(s.appList[len(keep):])
	s.appList = keep
}

// setInbound takes the workload's own policy and re-checks live connections (R9.4).
func (s *shard) setInbound(p *mesh.InboundPolicy) {
	ending := p.Terminating && (s.inbound == nil || !s.inbound.Terminating)
	s.inbound = p
	s.admit(s.now())
	s.recheck()
	if ending {
		s.drain() // the application still serves; clients are told to go (R11.2)
	}
}

func (s *shard) recheck() {
	for i := range s.inbounds.All() {
		i.recheck()
	}
}

// drain ends inbound connections gracefully: GOAWAY, Connection: close.
func (s *shard) drain() {
	s.draining = true
	for i := range s.inbounds.All() {
		i.drain()
	}
}

// leaveTime is how long connections over HTTP/2 may take to end at SIGTERM: longer than between the two GOAWAYs. A peer that
// has not heard the first sends on, and what it sends to a process that has exited is lost.
const leaveTime = 1500 * time.Millisecond

// busy is what is still going on: requests and tunnels, and for a while peers that have not left.
func (s *shard) busy() int {
	n := s.env.InFlight + s.tunnels
	if s.now() >= s.leaveUntil {
		return n
	}
	for i := range s.inbounds.All() {
		if i.h2 != nil {
			n++
		}
	}
	return n
}

// refuse says whether a new request is to be shed, and counts it.
func (s *shard) refuse() (exchange.Answer, bool) {
	s.relieve()
	if s.p.shedding.Load() {
		s.refused(metrics.RefusedMemory)
		return exchange.Answer{Status: 503, GRPC: 14, Reason: shedReason, RetryAfter: 1, Unprocessed: true}, true
	}
	if s.env.InFlight > s.env.MaxInFlight {
		s.refused(metrics.RefusedRequests)
		return exchange.Answer{Status: 503, GRPC: 14, Reason: "too many requests in flight", RetryAfter: 1, Unprocessed: true}, true
	}
	return exchange.Answer{}, false
}

// shedReason is why new work is refused while memory is short (R1.6).
const shedReason = "the proxy is short of memory"

// refused counts a refusal; repeated ones are not logged (house style).
func (s *shard) refused(reason metrics.Refusal) {
	s.store.Proxy.Refused[reason]++
	if reason == metrics.RefusedMemory {
		s.relieve()
	}
}

func (s *shard) acceptFailed(d *door, err error) {
	s.refused(metrics.RefusedConnections)
	if !d.failing {
		d.failing = true
		s.p.log.Warn("cannot accept connections", logAddr(d.self), logErr(err))
	}
}

func (s *shard) handshakeFailed(err error) {
	var v *mtls.VerifyError
	switch {
	case errors.As(err, &v):
		s.refused(metrics.RefusedPeer)
	case errors.Is(err, wire.ErrTooManyHandshakes):
		s.refused(metrics.RefusedHandshakes)
	case errors.Is(err, wire.ErrHandshakeTimeout):
		s.store.Proxy.Timeouts[metrics.TimeoutHandshake]++
	}
}

func (s *shard) timedOut(f *exchange.Failure) {
	k := f.TimedOut
	switch {
	case errors.Is(f.Err, wire.ErrHandshakeTimeout):
		k = metrics.TimeoutHandshake
	case f.Connect:
		k = metrics.TimeoutConnect
	}
	s.store.Proxy.Timeouts[k]++
}

// detected counts what a connection was found to speak (R2.6).
func (s *shard) detected(d metrics.Direction, port uint16, v detect.Verdict, serverFirst bool) {
	o := metrics.DetectedOpaque
	switch {
	case serverFirst && v != detect.HTTP1 && v != detect.HTTP2:
		o = metrics.DetectedServerFirst
	case v == detect.HTTP1:
		o = metrics.DetectedHTTP1
	case v == detect.HTTP2:
		o = metrics.DetectedHTTP2
	case v == detect.TLS:
		o = metrics.DetectedTLS
	case v == detect.Mesh:
		o = metrics.DetectedMesh
	}
	s.store.Detection(d, port, o)
}

// responded counts the end of an exchange.
func (s *shard) responded(x *exchange.Exchange, r exchange.Result) {
	h := x.Att.HTTP
	if h == nil || r == exchange.Cancelled && x.Status == 0 {
		return
	}
	failure := metrics.Failure(x.Status, x.GRPCStatus) || r == exchange.Cut
	now := s.now()
	h.Response(x.Status, x.GRPCStatus, failure, now.Sub(x.Started), now)
}

// errDenied ends a tunnel that the policy no longer allows.
var errDenied = errors.New("denied by policy")

// errno is the label of how a connection ended.
func errno(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return errnoName(e)
	case errors.Is(err, errDenied):
		return "POLICY"
	case errors.Is(err, wire.ErrEvicted):
		return "EVICTED"
	case errors.Is(err, wire.ErrTruncated), errors.Is(err, mtls.ErrTruncated):
		return "TRUNCATED"
	}
	return "TLS"
}

func errnoName(e syscall.Errno) string {
	switch e {
	case syscall.ECONNRESET:
		return "ECONNRESET"
	case syscall.EPIPE:
		return "EPIPE"
	case syscall.ETIMEDOUT:
		return "ETIMEDOUT"
	case syscall.ECONNREFUSED:
		return "ECONNREFUSED"
	case syscall.ECONNABORTED:
		return "ECONNABORTED"
	case syscall.EHOSTUNREACH:
		return "EHOSTUNREACH"
	}
	return "other"
}
