package simnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// Config is the weather of a World. Zero fields mean what they say; Rough makes
// up a weather from a seed.
type Config struct {
	Seed uint64
	// Start of the clock; 0 means one second.
	Start mono.Time
	// Delay of a packet one way between hosts, plus up to Jitter; 0 means 100 µs each.
	Delay, Jitter time.Duration
	// LocalDelay is that within a host; 0 means 10 µs.
	LocalDelay time.Duration
	// TurnDelay is the most that passes between something being ready and the
	// turn that handles it; 0 means 20 µs.
	TurnDelay time.Duration
	// SendBuffer and ReceiveBuffer per connection and direction, in bytes; 0
	// means 64 KiB.
	SendBuffer, ReceiveBuffer int
	// Segment is the most bytes that arrive at once; 0 means 16 KiB.
	Segment int
	// ConnectTimeout is when an unanswered connect fails by itself; 0 means 127 s.
	ConnectTimeout time.Duration

	// Probabilities, 0 to 1.
	Partial  float64 // a read, a write or a segment is cut short
	Spurious float64 // a turn is told of a socket that has nothing to read
	Withhold float64 // what is ready is reported a turn late
	Late     float64 // a packet is delayed by up to 20 times Delay + Jitter
}

// Rough returns a random weather: each hardship is absent, rare or common.
func Rough(seed uint64) Config {
	rng := rand.New(rand.NewPCG(seed, 0x7765617468657221))
	chance := func() float64 { return [...]float64{0, 0.01, 0.1, 0.3}[rng.IntN(4)] }
	size := func() int { return [...]int{2 << 10, 16 << 10, 64 << 10, 256 << 10}[rng.IntN(4)] }
	return Config{
		Seed:          seed,
		Delay:         time.Duration(rng.IntN(500)+1) * time.Microsecond,
		Jitter:        time.Duration(rng.IntN(1000)+1) * time.Microsecond,
		TurnDelay:     time.Duration(rng.IntN(200)+1) * time.Microsecond,
		SendBuffer:    size(),
		ReceiveBuffer: size(),
		Segment:       [...]int{536, 1460, 16 << 10, 64 << 10}[rng.IntN(4)],
		Partial:       chance(),
		Spurious:      chance(),
		Withhold:      chance(),
		Late:          chance() / 3,
	}
}

func (c *Config) defaults() {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Start == 0 {
		c.Start = mono.Time(time.Second)
	}
	or(&c.Delay, 100*time.Microsecond)
	or(&c.Jitter, 100*time.Microsecond)
	or(&c.LocalDelay, 10*time.Microsecond)
	or(&c.TurnDelay, 20*time.Microsecond)
	or(&c.ConnectTimeout, 127*time.Second)
	for _, n := range []*int{&c.SendBuffer, &c.ReceiveBuffer} {
		if *n == 0 {
			*n = 64 << 10
		}
	}
	if c.Segment == 0 {
		c.Segment = 16 << 10
	}
}

// Stats counts what has happened, so that a test can show that it did.
type Stats struct {
	Events, Turns, Connects, Refused, Unreachable, ConnectTimeouts uint64
	Resets, HalfCloses, WindowStalls, LatePackets, Partitioned     uint64
	PartialReads, PartialWrites, SpuriousReady, WithheldReady      uint64
	FailedAccepts, BacklogFull, Bytes                              uint64
}

// World is a simulated network and its clock. It belongs to one goroutine.
type World struct {
	cfg    Config
	rng    *rand.Rand // the network's own
	script *rand.Rand
	now    mono.Time
	queue  queue
	hosts  []*Host
	conns  []*end // the dialling ends of open connections
	cuts   []cut
	driven []*Poller // with a worker
	next   *Poller   // the one whose worker's timer is due first, nil: none
	buf    [16 << 10]byte
	onDial func(from netip.Addr, to netip.AddrPort) Outcome
	trace  func(now mono.Time, what string, conn uint64, n int)
	tap    func(from, to netip.AddrPort, p []byte)
	ids    uint64
	seeds  uint64
	hash   uint64
	stats  Stats
}

// New returns an empty world.
func New(cfg Config) *World {
	cfg.defaults()
	w := &World{cfg: cfg, now: cfg.Start, hash: 14695981039346656037}
	w.rng = w.NewRand()
	w.script = w.NewRand()
	return w
}

// Now is the simulated time.
func (w *World) Now() mono.Time { return w.now }

// Rand is randomness for scripts; the network has its own.
func (w *World) Rand() *rand.Rand { return w.script }

// NewRand returns another stream of randomness that depends on the seed and on
// how many were asked for before: one for each worker.
func (w *World) NewRand() *rand.Rand {
	w.seeds++
	return rand.New(rand.NewPCG(w.cfg.Seed, w.seeds*0x9e3779b97f4a7c15))
}

// Stats returns what has happened so far.
func (w *World) Stats() Stats { return w.stats }

// Hash identifies everything that has happened so far, in order.
func (w *World) Hash() uint64 { return w.hash }

// Mix adds to the hash what a test holds to be part of what happened.
func (w *World) Mix(v uint64) {
	for range 8 {
		w.hash = (w.hash ^ v&0xff) * 1099511628211 // FNV-1a
		v >>= 8
	}
}

// Trace has f told of every event, for a replay.
func (w *World) Trace(f func(now mono.Time, what string, conn uint64, n int)) { w.trace = f }

// Tap has f see every byte that is put onto a connection, as a recorder on the
// wire would; p is valid during the call.
func (w *World) Tap(f func(from, to netip.AddrPort, p []byte)) { w.tap = f }

func (w *World) note(k kind, conn uint64, n int) {
	w.hash = (w.hash ^ uint64(w.now)) * 1099511628211
	w.hash = (w.hash ^ uint64(k)<<56 ^ conn<<32 ^ uint64(n)) * 1099511628211
	if w.trace != nil {
		w.trace(w.now, k.String(), conn, n)
	}
}

// Timer is a call that At or After has promised.
type Timer struct {
	f func()
}

// Stop takes the promise back.
func (t *Timer) Stop() { t.f = nil }

// At calls f at the given time, or now's next event when that has passed.
func (w *World) At(at mono.Time, f func()) *Timer {
	t := &Timer{f: f}
	w.push(event{at: max(at, w.now), kind: kindCall, timer: t})
	return t
}

// After is At in d from now.
func (w *World) After(d time.Duration, f func()) *Timer { return w.At(w.now.Add(d), f) }

// Run lets everything happen that is due until the given time, which it then is.
func (w *World) Run(until mono.Time) {
	for w.step(until) {
	}
	w.now = max(w.now, until)
}

// RunUntil is Run that ends early, and answers true, once ok does; ok is asked
// after each event.
func (w *World) RunUntil(limit mono.Time, ok func() bool) bool {
	for !ok() {
		if !w.step(limit) {
			w.now = max(w.now, limit)
			return ok()
		}
	}
	return true
}

// Idle says that nothing will ever happen again: no event, no timer of a worker.
func (w *World) Idle() bool { return len(w.queue.heap) == 0 && w.next == nil }

// step handles the next event, if there is one until limit.
func (w *World) step(limit mono.Time) bool {
	if p := w.next; p != nil && (len(w.queue.heap) == 0 || p.deadline < w.queue.heap[0].at) {
		if p.deadline > limit {
			return false
		}
		w.now = max(w.now, p.deadline)
		p.turn()
		return true
	}
	if len(w.queue.heap) == 0 || w.queue.heap[0].at > limit {
		return false
	}
	e := w.queue.pop()
	w.now = e.at
	w.stats.Events++
	w.handle(&e)
	return true
}

func (w *World) handle(e *event) {
	switch e.kind {
	case kindCall:
		if f := e.timer.f; f != nil {
			w.note(kindCall, 0, 0)
			f()
		}
	case kindTurn:
		e.poller.turnSoon()
	case kindApp:
		e.end.app.run()
	case kindSegment:
		e.end.in.arrive(e.n)
	case kindFIN:
		e.end.in.arriveFIN()
	case kindRST:
		e.end.arriveRST(e.err)
	case kindWindow:
		e.end.out.opened()
	case kindSYN:
		e.end.arriveSYN()
	case kindSYNACK:
		e.end.arriveSYNACK(e.err)
	case kindACK:
		e.end.arriveACK()
	case kindRest:
		e.listener.rested()
	default:
		panic(fmt.Sprintf("BUG: event of kind %d", e.kind))
	}
}

// chance is true with probability p; it draws only when that is in doubt.
func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// upTo draws a duration below d.
func (w *World) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(d)))
}

// cutShort draws, seldom or often as the weather has it, less than n.
func (w *World) cutShort(n int, count *uint64) int {
	if n > 1 && w.chance(w.cfg.Partial) {
		*count++
		return 1 + w.rng.IntN(n-1)
	}
	return n
}
