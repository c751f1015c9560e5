// Package proxy is the data plane: it accepts the connections of one workload
// in both directions and carries them, over mutual TLS wherever the other end
// has a proxy too.
//
// The whole way of a connection is in outbound.go and inbound.go, that of a
// request in direct.go and receive.go; what stands behind each step is a
// package of its own: detect, mtls, hop, h1, h2, exchange, tunnel, transport,
// balance, policy. A shard is a worker with everything that it owns.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/budget"
	"github.com/tulle-mesh/tulle/proxy/discover"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/mtls"
	"github.com/tulle-mesh/tulle/proxy/share"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// Discovery is what the proxy asks of its client to the control plane. Its
// calls never block.
type Discovery interface {
	Subscribe(t mesh.Target)
	Unsubscribe(t mesh.Target)
	// Report tells that an endpoint could not be reached, or was somebody else (R6.4).
	Report(f discover.Failure)
}

// Deps are what a Proxy is built on; the simulation replaces them.
type Deps struct {
	Log         *zap.Logger
	Credentials *mtls.Credentials
	Discovery   Discovery
	// Poller makes the poller of worker i.
	Poller func(i int) (loop.Poller, error)
	// Rand makes the randomness of worker i; nil seeds from the system.
	Rand func(i int) *rand.Rand
	// Steps runs handshakes; nil runs them inline.
	Steps loop.StepRunner
	// Memory reads the bytes in use; nil asks the runtime.
	Memory func() int64
}

// Proxy is the data plane of one workload. It implements discover.Sink.
type Proxy struct {
	cfg    Config
	deps   Deps
	log    *zap.Logger
	budget *slab.Budget
	shards []*shard
	// appRetries is what all workers may give to the application again (R7.3).
	appRetries *share.Bucket
	rate       *share.Bucket // of Limits.Rate; nil: none

	connected atomic.Bool
	inbound   atomic.Pointer[mesh.InboundPolicy]
	ending    atomic.Bool
	shedding  atomic.Bool // memory is short (R1.6)

	mu      sync.Mutex // guards what shards share by target
	subs    map[mesh.Target]int
	trips   map[mesh.Target]*share.Breakers
	buckets map[mesh.Target]*share.Bucket

	known knowledge
}

// New builds a proxy and opens its listeners. Nothing is accepted before Run,
// or the first Turn of its workers.
func New(cfg Config, deps Deps) (*Proxy, error) {
	cfg = cfg.WithDefaults()
	p := &Proxy{
		cfg: cfg, deps: deps, log: deps.Log, budget: slab.NewBudget(cfg.bufferBytes()), appRetries: budget.NewBucket(budget.Config{}),
		subs: map[mesh.Target]int{}, trips: map[mesh.Target]*share.Breakers{}, buckets: map[mesh.Target]*share.Bucket{},
	}
	if perSecond := share.Milli(cfg.Limits.Rate) * share.Token; perSecond > 0 {
		p.rate = share.NewBucket(perSecond, perSecond, perSecond)
	}
	if p.deps.Memory == nil {
		p.deps.Memory = memory
	}
	for i := range cfg.Workers {
		poller, err := deps.Poller(i)
		if err != nil {
			return nil, fmt.Errorf("poller: %w", err)
		}
		wc := loop.Config{Pool: slab.NewPool(p.budget), Steps: deps.Steps}
		if deps.Rand != nil {
			wc.Rand = deps.Rand(i)
		}
		p.shards = append(p.shards, newShard(p, loop.NewWorker(poller, wc)))
	}
	for _, s := range p.shards {
		if err := s.open(); err != nil {
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

// open binds the shard's listeners.
func (s *shard) open() error {
	cfg := &s.p.cfg
	for _, u := range cfg.Upstreams {
		if err := s.listen(u.Listen, false, s.openUpstream(u.Target)); err != nil {
			return fmt.Errorf("listen for upstream %s on %s: %w", u.Target, u.Listen, err)
		}
		s.target(u.Target) // asked for at once: the first request need not wait
	}
	for _, m := range cfg.InboundPorts {
		if err := s.listen(m.Listen, false, s.openPort(m.App)); err != nil {
			return fmt.Errorf("listen for application %s on %s: %w", m.App, m.Listen, err)
		}
	}
	if cfg.Outbound.IsValid() {
		if err := s.listen(cfg.Outbound, true, s.openRedirected); err != nil {
			return fmt.Errorf("listen for outbound traffic on %s: %w", cfg.Outbound, err)
		}
	}
	if cfg.Inbound.IsValid() {
		if err := s.listen(cfg.Inbound, true, s.openInbound); err != nil {
			return fmt.Errorf("listen for inbound traffic on %s: %w", cfg.Inbound, err)
		}
	}
	return nil
}

// Workers are the proxy's workers, for those who turn them by hand.
func (p *Proxy) Workers() []*loop.Worker {
	ws := make([]*loop.Worker, len(p.shards))
	for i, s := range p.shards {
		ws[i] = s.w
	}
	return ws
}

// Addrs are the addresses that the first worker listens on, in the order of
// Config: upstreams, inbound ports, outbound, inbound.
func (p *Proxy) Addrs() []netip.AddrPort {
	var a []netip.AddrPort
	for _, d := range p.shards[0].doors {
		a = append(a, d.self)
	}
	return a
}

// Run serves until ctx ends, then drains (R11.2) and returns.
func (p *Proxy) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range p.shards {
		wg.Go(s.w.Run) // ends with Stop
	}
	wg.Go(func() { p.watchMemory(ctx) }) // ends with ctx
	<-ctx.Done()
	p.shutdown()
	for _, s := range p.shards {
		s.w.Stop()
	}
	wg.Wait()
	p.Close()
	return nil
}

// shutdown lets what is in flight finish, for as long as the settings allow.
func (p *Proxy) shutdown() {
	began := time.Now()
	p.Drain()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if gone := time.Since(began); p.MayExit(gone, 1) || p.MayExit(gone, p.busy()) {
			return
		}
	}
}

// Drain tells who came to go, as at SIGTERM (R11.2): what is in flight goes on,
// and so does outbound.
func (p *Proxy) Drain() {
	p.ending.Store(true)
	p.each(func(s *shard) {
		s.leaveUntil = s.now().Add(leaveTime)
		s.drain()
	})
}

// MayExit reports whether the proxy may exit so long after Drain while so many
// things go on (AskBusy).
func (p *Proxy) MayExit(after time.Duration, busy int) bool {
	t := &p.cfg.Timeouts
	return after >= t.Drain || after >= t.LameDuck && busy == 0
}

// busy asks every worker what is still going on.
func (p *Proxy) busy() int {
	n := make(chan int, 1)
	p.AskBusy(func(sum int) { n <- sum })
	return <-n
}

// AskBusy has done called with the number of requests and tunnels that go on, and
// of peers that have yet to hear of Drain, by the last worker that answers.
func (p *Proxy) AskBusy(done func(n int)) {
	var left, sum atomic.Int64
	left.Store(int64(len(p.shards)))
	one := func(n int) {
		sum.Add(int64(n))
		if left.Add(-1) == 0 {
			done(int(sum.Load()))
		}
	}
	for _, s := range p.shards {
		if !s.w.Post(func() { one(s.busy()) }) {
			one(0)
		}
	}
}

// each runs f on every worker, later.
func (p *Proxy) each(f func(s *shard)) {
	for _, s := range p.shards {
		s.w.Post(func() { f(s) })
	}
}

// Close frees listeners and pollers of workers that do not run.
func (p *Proxy) Close() {
	for _, s := range p.shards {
		_ = s.w.Poller().Close() // nothing to be done about a failing close at the end
	}
}

// Snapshots are the workers' metrics, each copied at the end of a turn.
func (p *Proxy) Snapshots() []*metrics.Snapshot {
	got := make(chan []*metrics.Snapshot, 1)
	p.AskSnapshots(func(all []*metrics.Snapshot) { got <- all })
	return <-got
}

// AskSnapshots has done called with them, by the last worker that answers.
func (p *Proxy) AskSnapshots(done func([]*metrics.Snapshot)) {
	got := make([]*metrics.Snapshot, len(p.shards))
	var left atomic.Int32
	left.Store(int32(len(p.shards)))
	one := func(i int, s *metrics.Snapshot) {
		got[i] = s
		if left.Add(-1) == 0 {
			done(slices.DeleteFunc(got, func(s *metrics.Snapshot) bool { return s == nil }))
		}
	}
	for i, s := range p.shards {
		if !s.w.Post(func() { s.w.Reap(func() { one(i, s.snapshot()) }) }) {
			one(i, nil)
		}
	}
}

// snapshot sets the gauges and copies the counters.
func (s *shard) snapshot() *metrics.Snapshot {
	m := &s.store.Proxy
	m.InFlight = [2]int64{}
	m.InFlight[metrics.Outbound] = int64(s.env.InFlight)
	waiting := 0
	for _, t := range s.targetList {
		waiting += len(t.waiting) + len(t.conns)
	}
	m.Queued[metrics.Outbound] = int64(waiting + s.queues[metrics.Outbound].Waiting)
	m.Queued[metrics.Inbound] = int64(len(s.early) + s.queues[metrics.Inbound].Waiting)
	for d := range s.queues {
		m.Refused[metrics.RefusedQueue] += s.queues[d].Full
		s.queues[d].Full = 0
	}
	m.BuffersUsed, m.BuffersLent, m.BuffersLimit = s.p.budget.Used(), s.p.budget.Lent(), s.p.budget.Limit()
	m.Busy = s.w.BusyShare()
	if d, ok := s.p.deps.Discovery.(interface{ Stats() discover.Stats }); ok && s == s.p.shards[0] {
		st := d.Stats() // of the process: one worker says it for all
		m.UpdatesAcked, m.UpdatesRefused = st.Updates+st.Inbounds-min(st.Nacks, st.Updates+st.Inbounds), st.Nacks
		m.Digests, m.DigestMismatches, m.Resyncs = st.Digests, st.Mismatches, st.Resyncs
	}
	return s.store.Snapshot()
}

// IsConnected reports whether the stream to discovery is up.
func (p *Proxy) IsConnected() bool { return p.connected.Load() }

// HasPolicy reports whether the first inbound policy was received (R11.1).
func (p *Proxy) HasPolicy() bool { return p.inbound.Load() != nil }

// IsEnding reports whether the proxy was told to end.
func (p *Proxy) IsEnding() bool { return p.ending.Load() }

// subscribe asks discovery for a target once for all shards; a later one is told
// what is known by then.
func (p *Proxy) subscribe(s *shard, t mesh.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.subs[t]++; p.subs[t] == 1 {
		p.deps.Discovery.Subscribe(t)
		return
	}
	p.known.again(t, func(u discover.Update) {
		s.w.Post(func() { _ = s.hear(&u) }) // discovery has its answer already
	})
}

func (p *Proxy) unsubscribe(t mesh.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.subs[t]--; p.subs[t] <= 0 {
		delete(p.subs, t)
		delete(p.trips, t)
		delete(p.buckets, t)
		p.deps.Discovery.Unsubscribe(t)
		p.known.forget(t)
	}
}

// resubscribe asks for a target as if nothing had been said of it.
func (p *Proxy) resubscribe(t mesh.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known.forget(t)
	p.deps.Discovery.Unsubscribe(t)
	p.deps.Discovery.Subscribe(t)
}

// breakers are what all workers know of a target's failures (R6.6).
func (p *Proxy) breakers(t mesh.Target) *share.Breakers {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trips[t] == nil {
		p.trips[t] = &share.Breakers{}
	}
	return p.trips[t]
}

// bucket is the retry budget of a target, shared by all workers (R7.3).
func (p *Proxy) bucket(t mesh.Target) *share.Bucket {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.buckets[t] == nil {
		p.buckets[t] = budget.NewBucket(budget.Config{})
	}
	return p.buckets[t]
}

// report tells discovery of an endpoint that could not be reached, or that was
// somebody else: perhaps its address went to another workload.
func (p *Proxy) report(t mesh.Target, addr netip.AddrPort, err error) {
	f := discover.Failure{Target: t, Addr: addr, Kind: discover.FailureConnect}
	if verify, ok := errors.AsType[*mtls.VerifyError](err); ok {
		f.Kind, f.Presented = discover.FailureIdentity, verify.Got
	}
	if err != nil {
		f.Error = err.Error()
	}
	p.deps.Discovery.Report(f)
}

// networks are the cluster's, as discovery named them last.
func (p *Proxy) networks() []netip.Prefix {
	if in := p.inbound.Load(); in != nil {
		return in.ClusterNetworks
	}
	return p.cfg.ClusterNetworks
}

// inCluster reports whether an address is in the networks that discovery named.
func (p *Proxy) inCluster(a netip.Addr) bool {
	return slices.ContainsFunc(p.networks(), func(n netip.Prefix) bool { return n.Contains(a) })
}

// perhapsInCluster is inCluster for who cannot ask discovery. Where nobody has named the cluster's networks, no private
// address is known to be outside: RFC 1918, RFC 4193, and RFC 6598, which clusters use too.
func (p *Proxy) perhapsInCluster(a netip.Addr) bool {
	if len(p.networks()) == 0 {
		shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)
		return a.IsPrivate() || shared.Contains(a)
	}
	return p.inCluster(a)
}

// ownPort reports whether an address is one of the proxy's own listeners.
func (p *Proxy) ownPort(a netip.AddrPort) bool {
	return a == p.cfg.Outbound || a == p.cfg.Inbound ||
		a.Port() != 0 && (a.Port() == p.cfg.Outbound.Port() || a.Port() == p.cfg.Inbound.Port())
}

var _ discover.Sink = (*Proxy)(nil)
