// Package balance chooses an endpoint for each request or connection (rules R6.1 to R6.5).
// Estimates, the choice, ejection and its floor are one state, a Balancer, which belongs to one
// worker; what is of the whole proxy (rule R6.6) is in share. Everything here is a pure function of
// its inputs, of now and of the injected generator.
//
// # The choice
//
// Two endpoints are drawn, the one with the lower cost is taken: estimate × (load + 1) / weight.
// The estimate is a peak EWMA of the time to the first byte of a response: a worse sample is taken
// over at once, towards better ones it decays with a time constant of 10 s, and without samples it
// decays towards zero, so that nobody starves. Load is what waits for its first data frame, and open
// tunnels. A first sample replaces what a new endpoint began with. To that the following was added;
// without any one of them a script of testdata/sim fails:
//
//   - Decay towards zero is for endpoints that are not asked. One that was asked and does not answer
//     is at least as slow as it has been silent, and costs so (hung).
//   - One request in fifty may go to the loser of a draw whose last sample is older than 3 s, so that
//     a recovery is seen before decay shows it (slower, idle-streams).
//   - An idle loser whose cost is near the winner's is taken with a probability that falls with the
//     third power of the cost. Else, with little in flight, the cheaper of two equals takes everything
//     until it has a peak of its own, and weights mean nothing (slow, slow-few, weights).
//   - A sample counts as at most fifty times what is usual for the target: decay from a client's
//     patience of a minute would take a minute and more (hung).
//   - A new endpoint's weight grows for 5 s, and so does a readmitted one's: slow start.
//
// # Rooms
//
// Every endpoint is in one of four lists, and in a list each draw costs the same however long it is:
// home (to be preferred in this zone), away (of other zones), ending (terminating), out (ejected, a
// heap by the time of the next probe). Home spills into away when too few of home are in service, and
// when home is slow compared with away; ending serves when both are empty.
package balance

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/share"
)

// Config of a Balancer. The zero Config is peak EWMA without a zone.
type Config struct {
	Kind mesh.Balancing
	// Zone is where this workload runs; empty: no zone is preferred.
	Zone string
	// Source is who asks, for mesh.BalanceSource: the workload, the same in all workers and after a restart.
	Source string
	// Breakers is what all workers of the proxy know of this target's failures; nil: the balancer
	// is the only one.
	Breakers *share.Breakers
	// FirstEstimate is what a target without any sample begins with; 0 is 30 ms.
	FirstEstimate time.Duration
	// Opened counts ejections beside Stats; it is the worker's, shared by its balancers, and outlives
	// them (circuit_open_total). Nil: not.
	Opened *uint64
	// Failures in a row that eject; 0 is 7, negative never.
	Failures int
	// FloorPercent of endpoints stay in service whatever they do, at least one; 0 is 30.
	FloorPercent int
}

func (c Config) filled() Config {
	if c.FirstEstimate == 0 {
		c.FirstEstimate = 30 * time.Millisecond
	}
	if c.Failures == 0 {
		c.Failures = 7
	}
	if c.FloorPercent == 0 {
		c.FloorPercent = 30
	}
	return c
}

// Balancer holds the endpoints of one target for one worker. Not safe for concurrent use.
type Balancer struct {
	cfg   Config
	rng   *rand.Rand
	share *share.Breakers // nil: breakers are the endpoints' own

	index  map[netip.AddrPort]*Endpoint
	rooms  [rooms]list
	homes  int    // endpoints that are home or would be, were they not ejected
	cursor int    // of round robin
	heavy  uint32 // the largest weight; 0: to be found anew

	usual average        // of all samples, over a minute
	means [rooms]average // of a room's samples, over tau
	spare float64        // requests that may go to a loser to get a sample

	opaque int // endpoints that are declared to be bytes

	told  mesh.Digest // of the rows that were put in
	moves uint64      // changes of the rooms: what a Walk must not miss
	mine  [rooms]mine // where Source goes

	stats Stats
	gone  []*Endpoint // result of the last Apply
}

// Stats count what happened in a balancer.
type Stats struct {
	Ejections    uint64 // circuits that opened (not: probes that failed)
	Readmissions uint64
	Probes       uint64 // requests that probed an ejected endpoint
	Kept         uint64 // ejections that the floor forbade
}

// New returns a balancer without endpoints. rng is the worker's.
func New(cfg Config, rng *rand.Rand) *Balancer {
	return &Balancer{
		cfg: cfg.filled(), rng: rng, share: cfg.Breakers, index: map[netip.AddrPort]*Endpoint{},
	}
}

// Apply takes a delta: removed leave, added come or change. The endpoints that left are returned, so
// that their owner can close what it keeps for them; the slice is valid until the next call. An
// address that comes back with another identity or another pod is a new endpoint, and the old one is
// among those that left (address reuse).
func (b *Balancer) Apply(added []mesh.Endpoint, removed []netip.AddrPort, now mono.Time) []*Endpoint {
	b.gone = b.gone[:0]
	for _, a := range removed {
		if e := b.index[a]; e != nil {
			b.remove(e)
		}
	}
	b.addAll(added, now)
	b.keepFloor(now)
	return b.gone
}

// Replace makes all the endpoints that there are. Those that were there keep their state.
func (b *Balancer) Replace(all []mesh.Endpoint, now mono.Time) []*Endpoint {
	b.gone = b.gone[:0]
	keep := make(map[netip.AddrPort]struct{}, len(all))
	for i := range all {
		keep[all[i].Addr] = struct{}{}
	}
	var left []*Endpoint
	b.Each(func(e *Endpoint) {
		if !has(keep, e.Addr) {
			left = append(left, e)
		}
	})
	for _, e := range left {
		b.remove(e)
	}
	b.addAll(all, now)
	b.keepFloor(now)
	return b.gone
}

// SetKind changes how endpoints are chosen; what is known of them stays.
func (b *Balancer) SetKind(k mesh.Balancing) { b.cfg.Kind = k }

// Close lets go of every endpoint and returns them.
func (b *Balancer) Close() []*Endpoint { return b.Replace(nil, 0) }

// Len is the number of endpoints.
func (b *Balancer) Len() int { return len(b.index) }

// Available is the number of endpoints that Pick chooses from at now: those in service, and ejected
// ones whose probe is due.
func (b *Balancer) Available(now mono.Time) int {
	n := len(b.rooms[home].all) + len(b.rooms[away].all)
	if n == 0 {
		n = len(b.rooms[ending].all)
	}
	if o := b.rooms[out].all; len(o) > 0 && o[0].probeAt <= now {
		n++
	}
	return n
}

// Opaque reports whether there are endpoints and each is declared to be bytes.
func (b *Balancer) Opaque() bool { return b.opaque > 0 && b.opaque == len(b.index) }

// Stats returns what was counted so far.
func (b *Balancer) Stats() Stats { return b.stats }

// Each calls f for every endpoint, in an order that depends on what happened and nothing else.
func (b *Balancer) Each(f func(*Endpoint)) {
	for r := range b.rooms {
		for _, e := range b.rooms[r].all {
			f(e)
		}
	}
}

func (b *Balancer) addAll(rows []mesh.Endpoint, now mono.Time) {
	first := len(b.index) == 0
	start := -1.0
	for i := range rows {
		row := &rows[i]
		if e := b.index[row.Addr]; e != nil {
			if sameWorkload(&e.Endpoint, row) {
				b.change(e, row)
				continue
			}
			b.remove(e)
		}
		if start < 0 {
			start = b.median(now)
		}
		b.add(row, start, now, first)
	}
}

func (b *Balancer) add(row *mesh.Endpoint, start float64, now mono.Time, first bool) {
	e := &Endpoint{Endpoint: *row, b: b, est: estimate{value: start, at: now}, sampled: now}
	e.br = &e.own
	if b.share != nil {
		e.ref = b.share.Acquire(row.Addr)
		e.br = &e.ref.Value
	}
	if !first {
		e.warmUp(now)
	}
	b.index[row.Addr] = e
	b.tell(e)
	b.remember(e)
	b.enter(e, b.roomOf(e))
	if b.isHome(e) {
		b.homes++
	}
}

// change takes a row's new values for an endpoint that stays.
func (b *Balancer) change(e *Endpoint, row *mesh.Endpoint) {
	if b.isHome(e) {
		b.homes--
	}
	b.forget(e)
	b.untell(e)
	e.Endpoint = *row
	b.tell(e)
	b.remember(e)
	if b.isHome(e) {
		b.homes++
	}
	if e.room != out && e.room != b.roomOf(e) {
		b.leave(e)
		b.enter(e, b.roomOf(e))
	}
}

func (b *Balancer) remove(e *Endpoint) {
	if b.isHome(e) {
		b.homes--
	}
	b.leave(e)
	b.forget(e)
	b.untell(e)
	delete(b.index, e.Addr)
	if e.ref != nil {
		b.share.Release(e.ref)
	}
	e.b = nil
	b.gone = append(b.gone, e)
}

// heaviest is the largest weight, which round robin and random compare the others with. It is looked
// for only after one that had it left or changed.
func (b *Balancer) heaviest() float64 {
	if b.heavy == 0 {
		b.heavy = 1
		b.Each(func(e *Endpoint) { b.heavy = max(b.heavy, e.Weight) })
	}
	return float64(b.heavy)
}

// forget takes e out of the running for the largest weight and out of what counts rows, and remember puts it in.
func (b *Balancer) forget(e *Endpoint) {
	if e.Protocol == mesh.ProtocolOpaque {
		b.opaque--
	}
	if e.Weight >= b.heavy && b.heavy > 1 {
		b.heavy = 0
	}
}

func (b *Balancer) remember(e *Endpoint) {
	if e.Protocol == mesh.ProtocolOpaque {
		b.opaque++
	}
	if b.heavy != 0 {
		b.heavy = max(b.heavy, e.Weight)
	}
}

func (b *Balancer) isHome(e *Endpoint) bool { return b.roomOf(e) == home }

// roomOf is where e belongs while it is not ejected. Hints are what EndpointSlices carry for
// trafficDistribution; an endpoint without a hint is everybody's.
func (b *Balancer) roomOf(e *Endpoint) room {
	switch {
	case e.Terminating:
		return ending
	case b.cfg.Zone == "" || e.ForZones == "" || inList(e.ForZones, b.cfg.Zone):
		return home
	}
	return away
}

// inList reports whether a comma-separated list has s.
func inList(l, s string) bool {
	for l != "" {
		var one string
		one, l, _ = strings.Cut(l, ",")
		if one == s {
			return true
		}
	}
	return false
}

func sameWorkload(a, b *mesh.Endpoint) bool {
	return a.Identity == b.Identity && a.Namespace == b.Namespace && a.Pod == b.Pod
}

func has[K comparable](m map[K]struct{}, k K) bool { _, ok := m[k]; return ok }
