package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/discover"
)

// discovery stands in for the stream to the control plane: a table that answers
// subscriptions after a while, with deltas or whole.
type discovery struct {
	s       *Sim
	sink    discover.Sink
	targets map[mesh.Target]*row
	inbound *mesh.InboundPolicy
	version uint64
	last    mono.Time // answers stay in order
	reports int
}

type row struct {
	policy  *mesh.TargetPolicy
	rows    []mesh.Endpoint
	version uint64
	sub     bool
}

func (d *discovery) attach(sink discover.Sink) {
	d.sink = sink
	sink.Connected(true)
	sink.Inbound(d.inbound, 1, d.acked) // traffic comes once it is ready (R11.1)
}

// set fills the table.
func (d *discovery) set(t mesh.Target, policy *mesh.TargetPolicy, rows []mesh.Endpoint) {
	r := d.targets[t]
	if r == nil {
		r = &row{}
		d.targets[t] = r
	}
	r.policy, r.rows, r.version = policy, rows, r.version+1
	if r.sub {
		d.whole(t, r)
	}
}

// later runs f as if a message had come over the stream.
func (d *discovery) later(f func()) {
	at := max(d.last+1, d.s.W.Now().Add(time.Duration(1+d.s.rng.Int64N(int64(d.s.o.discoveryDelay)))))
	d.last = at
	d.s.W.At(at, f)
}

func (d *discovery) whole(t mesh.Target, r *row) {
	u := discover.Update{Target: t, Version: r.version, Full: true, Added: slices.Clone(r.rows), Policy: r.policy}
	d.s.rng.Shuffle(len(u.Added), func(i, j int) { u.Added[i], u.Added[j] = u.Added[j], u.Added[i] })
	d.later(func() { d.tell(u) })
}

// tell hands an update to the proxy.
func (d *discovery) tell(u discover.Update) {
	if d.s.log != nil {
		d.s.log("%v discovery: %s version %d whole=%v added=%v removed=%v", time.Duration(d.s.W.Now()), u.Target, u.Version, u.Full, u.Added, u.Removed)
	}
	d.sink.Target(u, d.acked)
}

func (d *discovery) acked(err error) {
	if err != nil {
		d.s.O.Reportf(0, "a version was refused: %v", err)
	}
}

// change adds or replaces rows and removes addresses; it returns when the proxy
// hears of it.
func (d *discovery) change(t mesh.Target, added []mesh.Endpoint, removed []netip.AddrPort) mono.Time {
	r := d.targets[t]
	if r == nil {
		return d.s.W.Now()
	}
	gone := func(a netip.AddrPort) bool {
		return slices.Contains(removed, a) || slices.ContainsFunc(added, func(e mesh.Endpoint) bool { return e.Addr == a })
	}
	r.rows = slices.DeleteFunc(slices.Clone(r.rows), func(e mesh.Endpoint) bool { return gone(e.Addr) })
	r.rows = append(r.rows, added...)
	r.version++
	switch {
	case !r.sub:
	case d.s.rng.IntN(3) == 0:
		d.whole(t, r)
	default:
		u := discover.Update{Target: t, Version: r.version, Added: added, Removed: removed}
		d.later(func() { d.tell(u) })
	}
	return max(d.last, d.s.W.Now())
}

// setInbound publishes the workload's own policy; it returns when the proxy hears of it.
func (d *discovery) setInbound(p *mesh.InboundPolicy) mono.Time {
	d.inbound = p
	d.version++
	v := d.version + 1
	d.later(func() { d.sink.Inbound(p, v, d.acked) })
	return d.last
}

// Subscribe implements proxy.Discovery.
func (d *discovery) Subscribe(t mesh.Target) {
	r := d.targets[t]
	if r == nil { // explicit upstreams subscribe at once; the table comes before the first turn
		r = &row{}
		d.targets[t] = r
	}
	r.sub = true
	if d.sink != nil && r.policy != nil {
		d.whole(t, r)
	}
}

// Unsubscribe implements proxy.Discovery.
func (d *discovery) Unsubscribe(t mesh.Target) {
	if r := d.targets[t]; r != nil {
		r.sub = false
	}
}

// Report implements proxy.Discovery.
func (d *discovery) Report(discover.Failure) { d.reports++ }
