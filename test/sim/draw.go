package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// Kind is a kind of event that a seed may have.
type Kind uint8

// Kinds.
const (
	KindDelay Kind = iota
	KindPartial
	KindReset
	KindCrash
	KindIdleClose
	KindRenewal
	KindDrain
	KindEjection
	KindStale
	KindEndpoints
	KindIdentity
	KindStall
	KindOrder
	KindAbort
	KindBreak
	KindKill
	KindGoAway
	KindRefuse
	KindRetry
	KindTLS
	KindHTTP1
	KindHTTP2
	KindTunnel
	KindUpgrade
	KindGRPC
	KindPipeline
	KindTrailers
	KindLarge
	KindWorkers
	KindOutsider
	KindDeny
	KindRoute
	KindContinue
	KindLie
	KindLimits
	KindDeadline
	KindTurnedAway
	KindConnect
	KindHabits
	KindRude
	KindUnwanted
	KindEnd
	KindHog
	NumKinds
)

var kindNames = [NumKinds]string{
	"delay", "partial", "reset", "crash", "idle close", "renewal", "drain", "ejection", "stale endpoint",
	"endpoints", "identity", "window stall", "discovery order", "client aborts", "server breaks off", "proxy killed",
	"goaway", "refused stream", "retry policy", "tls", "http/1", "http/2", "tunnel", "upgrade", "grpc", "pipelining",
	"trailers", "large body", "two workers", "client outside the mesh",
	"denial", "weighted route", "100-continue", "reserved fields",
	"time limits", "grpc deadline", "early close", "connect over http/2", "odd habits", "rude client", "unwanted uploads", "proxy ended",
	"clients that stand still",
}

// String names the kind.
func (k Kind) String() string { return kindNames[k] }

// Kinds is a set of kinds that occurred.
type Kinds uint64

func (k *Kinds) add(kind Kind) { *k |= 1 << kind }

// Has reports whether kind occurred.
func (k *Kinds) Has(kind Kind) bool { return *k&(1<<kind) != 0 }

// options are what a seed draws first.
type options struct {
	tls, explicit              bool
	clients, servers, services int
	workers                    int // of each proxy
	weather                    simnet.Config
	idleClose, hopAge          time.Duration
	discoveryDelay             time.Duration
	header                     time.Duration // for a head
	linger, pace, goAwayWait   time.Duration
	shortLeaf                  bool
	limits                     bool          // requests and heads have a time
	tries                      bool          // and attempts, instead of requests
	plain                      bool          // peers do what all peers do
	budget                     int64         // of a proxy, in bytes; 0: what it has by default
	shift                      time.Duration // sessions begin so much later
	blocks, outside, modest    bool          // hogs keep heads without an end, are not in the mesh, keep less than there is
	keepTargets                bool          // a proxy does not forget what it has not used for long
	protocols                  []protocol
	sessions                   int
	span                       time.Duration // in which sessions start
	script                     Kinds         // what the script does
}

// String is the options in a line.
func (o *options) String() string {
	var names strings.Builder
	for k := range NumKinds {
		if o.script.Has(k) {
			names.WriteString(" " + k.String() + ",")
		}
	}
	return fmt.Sprintf("tls=%v explicit=%v clients=%d servers=%d services=%d sessions=%d delay=%v+%v buffers=%d/%d script:%s", o.tls, o.explicit,
		o.clients, o.servers, o.services, o.sessions, o.weather.Delay, o.weather.Jitter, o.weather.SendBuffer, o.weather.ReceiveBuffer, names.String())
}

// one draws true once in n.
func (s *Sim) one(n int) bool { return s.rng.IntN(n) == 0 }

// of draws one of the values.
func of[T any](s *Sim, values ...T) T { return values[s.rng.IntN(len(values))] }

func (s *Sim) draw() {
	o := &s.o
	o.tls = s.one(4)
	o.explicit = s.one(3)
	o.clients = 1 + s.rng.IntN(mostClients)
	o.servers = 1 + s.rng.IntN(min(mostServers, 4-o.clients))
	o.services = 1 + s.rng.IntN(2)
	o.workers = 1
	if s.one(4) {
		o.workers = 2
		s.Kinds.add(KindWorkers)
	}
	o.weather = simnet.Config{Seed: s.Seed}
	if !s.one(3) {
		o.weather = simnet.Rough(s.Seed)
	}
	if o.weather.LocalDelay = 10 * time.Microsecond; s.one(5) { // a busy machine
		o.weather.LocalDelay = of(s, 200*time.Microsecond, time.Millisecond)
	}
	if o.weather.Late > 0 || o.weather.Withhold > 0 {
		s.Kinds.add(KindDelay)
	}
	o.discoveryDelay = time.Millisecond
	o.linger, o.pace, o.goAwayWait = 20*time.Millisecond, 5*time.Millisecond, 20*time.Millisecond
	o.sessions = 1 + s.rng.IntN(7)
	o.span = 100 * time.Millisecond
	o.hopAge = time.Hour
	o.plain = s.one(2)
	o.keepTargets = !s.one(3)
	o.header = 3 * time.Second
	all := []protocol{protoH1, protoH2, protoTCP}
	o.protocols = all
	if s.one(2) {
		o.protocols = []protocol{of(s, all...)}
	}
	s.drawScript()
	s.drawHogs()
}

// chances are how often, one seed in n, the script does something.
var chances = [...]struct {
	kind Kind
	n    int
}{
	{KindReset, 6}, {KindCrash, 9}, {KindIdleClose, 6}, {KindRenewal, 10}, {KindDrain, 5}, {KindEjection, 9},
	{KindStale, 9}, {KindEndpoints, 8}, {KindIdentity, 9}, {KindStall, 4}, {KindOrder, 8}, {KindAbort, 6}, {KindBreak, 6},
	{KindKill, 11}, {KindGoAway, 5}, {KindRefuse, 5}, {KindRetry, 5}, {KindLarge, 14}, {KindDelay, 6}, {KindDeny, 9}, {KindEnd, 12},
}

func (s *Sim) drawScript() {
	o := &s.o
	if s.one(4) {
		o.script = 0 // nothing befalls anybody
	}
	quiet := s.one(4)
	for _, c := range chances {
		hit := s.one(c.n)
		if hit && (!quiet || c.kind == KindLarge || c.kind == KindStall || c.kind == KindRetry) {
			o.script.add(c.kind)
		}
	}
	if o.script.Has(KindIdentity) || o.script.Has(KindRenewal) && s.one(2) {
		o.tls = true
	}
	if o.script.Has(KindIdentity) { // they would put the right identity back
		o.script &^= 1<<KindEndpoints | 1<<KindDrain
	}
	if o.script.Has(KindCrash) && s.one(2) { // others stand in: only then is every failure a finding
		o.tls, o.servers = true, max(o.servers, 2)
		o.script &= 1<<KindCrash | 1<<KindLarge | 1<<KindStall | 1<<KindRetry | 1<<KindAbort | 1<<KindBreak | 1<<KindGoAway | 1<<KindRefuse
	}
	if o.script.Has(KindLarge) && s.one(2) {
		o.script.add(KindStall)
	}
	if o.script.Has(KindEnd) {
		o.script &^= 1<<KindKill | 1<<KindDrain | 1<<KindEndpoints | 1<<KindIdentity // they would bring it back
		o.servers = max(o.servers, 2)
	}
	if o.script.Has(KindDeny) { // a drain's policy would replace it
		o.script &^= 1 << KindDrain
	}
	if o.script.Has(KindRenewal) {
		o.shortLeaf = o.tls
		s.o.span = 200 * time.Millisecond
	}
	const slow = 1<<KindAbort | 1<<KindOrder | 1<<KindStale | 1<<KindKill | 1<<KindDelay | 1<<KindRenewal | 1<<KindLarge
	if o.limits = o.script&slow == 0 && s.one(2); o.limits {
		s.Kinds.add(KindLimits)
		o.tries = s.one(2)
		o.header = longest / 2
	}
	if o.script.Has(KindIdleClose) {
		o.idleClose = of(s, time.Millisecond, 5*time.Millisecond, 30*time.Millisecond)
	}
	if o.script.Has(KindOrder) {
		o.discoveryDelay = of(s, 20*time.Millisecond, 300*time.Millisecond)
	}
}

// drawService decides who serves a service, and its policy.
func (s *Sim) drawService(svc *service) {
	for _, v := range s.servers {
		if svc.index == 0 || s.one(2) {
			svc.servers = append(svc.servers, v)
		}
	}
	if len(svc.servers) == 0 {
		svc.servers = append(svc.servers, s.servers[s.rng.IntN(len(s.servers))])
	}
	svc.kind = of(s, mesh.BalanceEWMA, mesh.BalanceEWMA, mesh.BalanceRoundRobin, mesh.BalanceLeastRequests, mesh.BalanceRandom)
	if s.o.script.Has(KindRetry) {
		s.Kinds.add(KindRetry)
		svc.retry = mesh.Retry{Statuses: []int{503}, ConnectFailure: true, GRPC: []int{14}}
	}
}
