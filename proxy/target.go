package proxy

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/balance"
	"github.com/tulle-mesh/tulle/proxy/budget"
	"github.com/tulle-mesh/tulle/proxy/discover"
	"github.com/tulle-mesh/tulle/proxy/exchange"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
)

// target is what one worker knows of something that its application dials:
// what discovery says of it, its endpoints, and who waits for either.
type target struct {
	// immutable
	s   *shard
	key mesh.Target

	// owned by the worker
	policy   *mesh.TargetPolicy // nil before discovery has answered
	version  uint64
	bal      *balance.Balancer
	retry    *budget.Retry
	conns    []*outbound // connections parked until the target is resolved, in order
	waiting  []waiter    // exchanges and tunnels that wait for an endpoint, in order
	asking   int         // servers of silent clients that are being connected (R2.5)
	askedAt  mono.Time   // when the last one was begun
	toAsk    []*sniffer  // whose server is asked when one of those is done, in order
	users    int         // connections that were accepted for it
	lastUsed mono.Time
	httpAt   mono.Time // last seen to speak HTTP (R2.5)
	timer    loop.Timer
	// unresolved: discovery did not answer in time and the address is outside the
	// cluster (R11.4).
	unresolved bool
	stale      bool // what discovery said is too old to go by (R11.4); requests that were begun still do
	whole      bool // all that discovery knows of it was heard once
	audited    bool // a digest walks through its rows
	gone       bool
}

// waiter is somebody who waits for an endpoint until a time.
type waiter struct {
	x     *exchange.Exchange
	conn  *outTunnel
	until mono.Time
}

// target returns the worker's target for key, subscribing when it is new.
func (s *shard) target(key mesh.Target) *target {
	if t := s.targets[key]; t != nil {
		t.lastUsed = s.now()
		return t
	}
	t := &target{s: s, key: key, lastUsed: s.now()}
	t.bal = balance.New(balance.Config{
		Kind: s.p.kind(mesh.BalanceEWMA), Zone: s.p.cfg.Workload.Zone, Source: s.p.cfg.Workload.Namespace + "/" + s.p.cfg.Workload.Name, Breakers: s.p.breakers(key),
		Opened: &s.store.Proxy.CircuitOpen,
	}, s.w.Rand())
	t.retry = budget.NewShared(budget.Config{}, s.p.bucket(key))
	s.targets[key] = t
	s.targetList = append(s.targetList, t)
	s.p.subscribe(s, key)
	return t
}

// kind is how endpoints are chosen: what discovery says, or the override.
func (p *Proxy) kind(k mesh.Balancing) mesh.Balancing {
	if p.cfg.Override {
		return p.cfg.Balancing
	}
	return k
}

// resolved reports whether the target's policy is known.
func (t *target) resolved() bool { return t.policy != nil && !t.stale }

// protocol is what the target is said to speak. Where nobody says it of the target, all its endpoints may
// have been declared to be bytes, by their pods (R2.4); with routes others may be meant.
func (t *target) protocol() mesh.Protocol {
	if p := t.policy; p.Protocol != mesh.ProtocolDetect || len(p.Routes) > 0 || !t.bal.Opaque() {
		return p.Protocol
	}
	return mesh.ProtocolOpaque
}

// name is how errors name the target.
func (t *target) name() string {
	switch {
	case t.policy == nil || t.policy.Kind == mesh.TargetUnknown:
		return "target " + t.key.String()
	case t.policy.Kind == mesh.TargetPod:
		return "workload " + t.key.String()
	}
	return "service " + t.policy.String()
}

// update takes what discovery says. The client of discovery sees to the order
// of versions.
func (t *target) update(u *discover.Update) {
	now := t.s.now()
	if u.Policy != nil {
		t.policy, t.stale = u.Policy, false
		t.bal.SetKind(t.s.p.kind(u.Policy.Balancing))
	}
	t.version = u.Version
	t.unresolved = false
	var gone []*balance.Endpoint
	if u.Full {
		gone = t.bal.Replace(u.Added, now)
	} else {
		gone = t.bal.Apply(u.Added, u.Removed, now)
	}
	for _, e := range gone {
		closeEndpoint(e)
	}
	t.wake()
}

// wake lets everybody go on who waited for news of the target.
func (t *target) wake() {
	if !t.resolved() {
		return
	}
	conns := t.conns
	t.conns = nil
	for _, c := range conns {
		c.resolved()
	}
	waiting := t.waiting
	t.waiting = nil
	for _, w := range waiting {
		t.retryWaiter(w)
	}
}

func (t *target) retryWaiter(w waiter) {
	switch {
	case w.x != nil && !w.x.Finished():
		t.choose(w.x, w.until)
	case w.conn != nil && !w.conn.over:
		w.conn.choose(w.until)
	}
}

// wait queues w until there is an endpoint or its time has come (R6.5).
func (t *target) wait(w waiter) bool {
	switch {
	case w.until <= t.s.now():
		return false
	case len(t.waiting) >= t.s.p.cfg.Limits.Waiting:
		t.s.refused(metrics.RefusedQueue)
		return false
	}
	t.waiting = append(t.waiting, w)
	t.arm()
	return true
}

// park holds a connection until the target is resolved (proxy.md, "Waiting").
func (t *target) park(c *outbound) bool {
	if len(t.conns) >= t.s.p.cfg.Limits.Waiting {
		t.s.refused(metrics.RefusedQueue)
		return false
	}
	t.conns = append(t.conns, c)
	t.arm()
	return true
}

// arm has the timer go off for whoever of both queues has waited longest.
func (t *target) arm() {
	var at mono.Time
	if len(t.conns) > 0 {
		at = t.conns[0].until
	}
	if len(t.waiting) > 0 && (at == 0 || t.waiting[0].until < at) {
		at = t.waiting[0].until
	}
	if at != 0 {
		t.s.w.Arm(&t.timer, at, t, 0)
	}
}

// Expired implements loop.TimerHandler: somebody has waited long enough.
func (t *target) Expired(*loop.Timer, uint8) {
	now := t.s.now()
	if !t.resolved() && t.passThrough() {
		return
	}
	for len(t.conns) > 0 && t.conns[0].until <= now {
		c := t.conns[0]
		t.conns = t.conns[1:]
		c.unresolved()
	}
	for len(t.waiting) > 0 && t.waiting[0].until <= now {
		w := t.waiting[0]
		t.waiting = t.waiting[1:]
		t.expireWaiter(w)
	}
	t.arm()
}

func (t *target) expireWaiter(w waiter) {
	k := metrics.TimeoutEndpoint
	if !t.resolved() {
		k = metrics.TimeoutResolve
	}
	switch {
	case w.x != nil && !w.x.Finished():
		t.s.store.Proxy.Timeouts[k]++
		w.x.OpenFailed(t.nowhere(w.x))
	case w.conn != nil && !w.conn.over:
		t.s.store.Proxy.Timeouts[k]++
		w.conn.fail(t.whyNone())
	}
}

// nowhere is why x has no endpoint (R8.1). Where its client's own target is a name that the control
// plane knows nothing by, there is no route to anything (R8.4).
func (t *target) nowhere(x *exchange.Exchange) exchange.Failure {
	f := exchange.Failure{Unprocessed: true, Final: true, Status: 503, Reason: t.whyNone()}
	if t.nameless() && x.Att.Route == "" {
		f.Status = 404
	}
	return f
}

// nameless reports whether the control plane said that it knows nothing by the target's name.
func (t *target) nameless() bool { return t.outside() && t.key.Name != "" }

// whyNone says why there is no endpoint (R6.5).
func (t *target) whyNone() string {
	if !t.resolved() {
		return "not resolved by the control plane within " + t.s.p.cfg.Timeouts.Resolve.String()
	}
	if t.nameless() {
		return "no route: the control plane knows nothing by this name"
	}
	return "no ready endpoint: " + t.bal.WhyNone(t.s.now())
}

// passThrough treats a target that discovery has not resolved in time as an
// address of the outside world, where that is allowed (R11.4).
func (t *target) passThrough() bool {
	p := t.s.p
	if p.cfg.Strict || !t.key.Addr.IsValid() || t.stale && t.policy.Kind != mesh.TargetUnknown || p.perhapsInCluster(t.key.Addr.Addr()) {
		return false
	}
	t.unresolved = true
	t.external(&mesh.TargetPolicy{Kind: mesh.TargetUnknown, Service: t.key.Addr.Addr().String(), Port: t.key.Addr.Port()})
	t.wake()
	return true
}

// external makes the dialled address the target's only endpoint, in plaintext.
func (t *target) external(p *mesh.TargetPolicy) {
	t.policy, t.stale = p, false
	gone := t.bal.Replace([]mesh.Endpoint{{Addr: t.key.Addr, NoTLS: mesh.NoTLSUnresolved}}, t.s.now())
	for _, e := range gone {
		closeEndpoint(e)
	}
}

// forget drops what discovery said too long ago (R11.4): the target is as one that was never resolved,
// but for what was the cluster's own, which is never passed through, and asked for anew.
func (t *target) forget() {
	if !t.resolved() || t.unresolved {
		return
	}
	t.stale, t.version, t.whole = true, 0, false
	for _, e := range t.bal.Replace(nil, t.s.now()) {
		closeEndpoint(e)
	}
	t.s.p.resubscribe(t.key)
}

// idle reports whether the target was not used for d.
func (t *target) idle(now mono.Time, d time.Duration) bool {
	return t.users == 0 && len(t.waiting) == 0 && len(t.conns) == 0 && now.Sub(t.lastUsed) >= d
}

// drop forgets the target.
func (t *target) drop() {
	t.gone = true
	t.s.w.Cancel(&t.timer)
	for _, e := range t.bal.Close() {
		closeEndpoint(e)
	}
	delete(t.s.targets, t.key)
	t.s.p.unsubscribe(t.key)
}
