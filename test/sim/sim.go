package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/test/oracle"
)

// Times of a run, simulated.
const (
	// patience is when whatever still goes on is stuck, after the last call began.
	patience = 25 * time.Second
	// cooling is when everything that idles must have been closed and freed.
	cooling = 20 * time.Second
	// began is where the clock stands when a run begins.
	began = mono.Time(time.Second)
)

// Sim is one run.
type Sim struct {
	Seed  uint64
	W     *simnet.World
	O     *oracle.Oracle
	Kinds Kinds

	certs      *Certs
	rng        *rand.Rand
	o          options
	clients    []*client
	outsider   *client
	servers    []*server
	services   []*service
	calls      []*call
	log        func(format string, args ...any)
	last       mono.Time // when the last session starts, or call began
	todo       int       // calls that have not begun
	goroutines int       // before it began
	grace      time.Duration
	// disturbed: something may turn a reset into another.
	disturbed bool
	wrong     []impostor
	denials   []denial
	rolling   bool   // the troubles are over
	tight     bool   // hogs keep what others want
	routed    [2]int // requests by the backend that they came to
}

// Result is what came of a seed.
type Result struct {
	Seed     uint64
	Hash     uint64
	Findings []oracle.Finding
	Kinds    Kinds
	Requests int
	Stats    simnet.Stats
	// Setup says in a line what the seed has drawn.
	Setup string
}

// Run runs a seed. log, which may be nil, is told of every event.
func Run(seed uint64, c *Certs, log func(format string, args ...any)) Result {
	s := &Sim{Seed: seed, certs: c, log: log, goroutines: runtime.NumGoroutine()}
	s.rng = rand.New(rand.NewPCG(seed, 0x73696d))
	s.draw()
	s.W = simnet.New(s.o.weather)
	if log != nil {
		s.W.Trace(func(now mono.Time, what string, conn uint64, n int) {
			log("%v %s conn %d: %d", time.Duration(now), what, conn, n)
		})
		log("seed %d: %s", seed, s.o.String())
	}
	s.O = oracle.New(func() oracle.Time { return oracle.Time(s.W.Now()) })
	s.tap()
	s.build()
	s.traffic()
	s.rudeTraffic()
	s.hogTraffic()
	s.script()
	for limit := mono.Time(0); limit < s.last.Add(patience); {
		limit = s.last.Add(patience)
		if s.W.RunUntil(limit, func() bool { return s.todo == 0 && s.O.Pending() == 0 }) {
			break
		}
	}
	if s.todo > 0 {
		s.O.Reportf(0, "%d requests could not even begin", s.todo)
	}
	s.rollCall()
	hash := s.W.Hash()
	s.W.Run(s.W.Now().Add(cooling))
	s.leaks()
	s.weighed()
	s.idle()
	s.forgotten()
	if s.Seed%2 == 0 || s.o.script.Has(KindEjection) { // gathering takes its time
		s.numbers()
	}
	s.spent()
	s.gaveWay()
	s.counted()
	return Result{
		Seed: seed, Hash: hash, Findings: s.O.Judge(), Kinds: s.Kinds, Requests: len(s.calls), Stats: s.W.Stats(),
		Setup: s.o.String(),
	}
}

// note mixes into the hash, and tells the log of, what a peer saw.
func (s *Sim) note(what string, v uint64) {
	s.W.Mix(v)
	if s.log != nil {
		s.log("%v -- %s %d", time.Duration(s.W.Now()), what, v)
	}
}

func (s *Sim) newRand(int) *rand.Rand { return s.W.NewRand() }

func (s *Sim) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(s.rng.Int64N(int64(d)))
}

func (s *Sim) now() oracle.Time { return oracle.Time(s.W.Now()) }

// opened is told of every connection of a peer.
func (s *Sim) opened(*simnet.Endpoint) {}

// stalled stops a peer's reading for a while.
func (s *Sim) stalled(e *simnet.Endpoint, c *call, st *stall) {
	s.Kinds.add(KindStall)
	e.Pause()
	s.W.After(st.d, func() {
		s.held(c, st, 0)
		e.Resume()
	})
}

// held holds that a reader that stands still stops its sender (R4.2): what is
// between them is bounded by the buffers of three connections and two proxies,
// and by the window that an HTTP/2 reader gave.
func (s *Sim) held(c *call, st *stall, window int64) {
	if !c.heavy {
		return
	}
	sent := c.sentReq
	if st == &c.stallResp {
		sent = c.sentResp
	}
	const proxies = 2 * (128<<10 + 64<<10 + 64<<10) // what is queued, a read, records
	if most := window + heavyStall + proxies + 3*s.buffers(); sent > most {
		s.O.Reportf(c.r.ID, "%d bytes were sent to a reader that stood still within the first %d", sent, heavyStall)
	}
}

// buffers are those of a connection's two ends, in one direction.
func (s *Sim) buffers() int64 {
	if w := s.o.weather; w.SendBuffer > 0 {
		return int64(w.SendBuffer + w.ReceiveBuffer)
	}
	return 128 << 10
}

// arrive notes that call reached v.
func (s *Sim) arrive(c *call, v *server) *oracle.Attempt {
	s.note("arrive", uint64(c.r.ID)<<8|uint64(v.index))
	s.denied(c, v)
	s.mayTake(c, v)
	s.split(c, v)
	if c.direct != nil {
		s.Kinds.add(KindOutsider)
	}
	for _, w := range s.wrong {
		if at := c.beganAt; w.c == c.c && w.v == v && c.direct == nil && c.svc.weights == nil && w.t == s.target(c.svc, c.port) && at > w.from && s.now() < w.until {
			s.O.Reportf(c.r.ID, "reached server %s, which discovery does not name for it", v.name)
			break
		}
	}
	if !c.mayReach(v) {
		s.O.Reportf(c.r.ID, "reached server %s, which does not serve what it was for", v.name)
	}
	return s.O.Arrive(c.r.ID, v.name)
}

// clientID holds R5.5: who asks is what the certificate says, and nobody else says it.
func (s *Sim) clientID(c *call, v *server, fs []field) {
	var got []string
	for _, f := range fs {
		if n := strings.ToLower(f.name); strings.HasPrefix(n, "tulle-") {
			got = append(got, n+"="+f.value)
		}
	}
	want := ""
	if s.o.tls && !c.c.bare {
		want = "tulle-client-id=" + string(c.c.id)
	}
	if have := strings.Join(got, " "); have != want {
		s.O.Reportf(c.r.ID, "server %s was told %q, want %q", v.name, have, want)
	}
}

// compare holds R3.1: fields come out as they went in.
func (s *Sim) compare(c *call, what string, got, want []field, lower bool) {
	if g, w := line(got, lower), line(want, lower); g != w {
		s.O.Reportf(c.r.ID, "the fields of the %s are %q, %q were sent", what, g, w)
	}
}

// tap holds that nothing of what applications say can be read between two proxies.
func (s *Sim) tap() {
	if !s.o.tls {
		return
	}
	s.W.Tap(func(from, to netip.AddrPort, p []byte) {
		if from.Addr() == to.Addr() || from.Addr().IsLoopback() || to.Addr().IsLoopback() || !s.between(from.Addr(), to.Addr()) {
			return
		}
		if strings.Contains(string(p), marker) {
			s.O.Reportf(0, "a path crossed from %s to %s in the clear", from, to)
		}
		for i := 0; i+16 <= len(p) && i < 64; i += 8 {
			if k, _, ok := oracle.Find(p[i:], oracle.ID(len(s.calls))); ok {
				s.O.Reportf(oracle.ID(k>>1), "its body crossed from %s to %s in the clear", from, to)
			}
		}
	})
}

// between reports whether two addresses are of different hosts.
func (s *Sim) between(a, b netip.Addr) bool {
	return a.As4()[1] != b.As4()[1] && a.As4()[1] < 90 && b.As4()[1] < 90
}

// leaks looks for what outlived its use.
func (s *Sim) leaks() {
	for _, h := range s.halves() {
		if h.killed {
			continue
		}
		for i, w := range h.p.Workers() {
			if n := w.Pool().InUse(); n != 0 {
				s.O.Reportf(0, "the proxy of %s still holds %d bytes of slab memory", h.name, n)
			}
			if n := h.pollers[i].Sockets() - len(h.p.Addrs()); n != 0 {
				s.O.Reportf(0, "the proxy of %s still has %d connections open", h.name, n)
			}
		}
	}
	if n := runtime.NumGoroutine() - s.goroutines; n > 0 && !s.Kinds.Has(KindKill) && !s.Kinds.Has(KindEnd) {
		s.O.Reportf(0, "%d handshakes were never stopped", n)
	}
	open := ""
	s.W.ResetWhere(func(from, to netip.AddrPort) bool { open += fmt.Sprintf(" %s->%s", from, to); return false })
	if open != "" {
		s.O.Reportf(0, "connections are still open:%s", open)
	}
}

func (s *Sim) halves() []*half {
	var hs []*half
	for _, c := range s.clients {
		hs = append(hs, &c.half)
	}
	for _, v := range s.servers {
		hs = append(hs, &v.half)
	}
	return hs
}

// impostor is a server that is not, for a while, who a client's discovery says.
type impostor struct {
	c           *client
	v           *server
	t           mesh.Target
	from, until oracle.Time
}

func (s *Sim) impostor(w impostor) { s.wrong = append(s.wrong, w) }

func mtime(t oracle.Time) mono.Time { return mono.Time(t) }

// counted adds the kinds that only the network knows of.
func (s *Sim) counted() {
	st := s.W.Stats()
	if st.PartialReads+st.PartialWrites > 0 {
		s.Kinds.add(KindPartial)
	}
	if st.LatePackets+st.WithheldReady+st.Partitioned > 0 {
		s.Kinds.add(KindDelay)
	}
	if s.o.tls {
		s.Kinds.add(KindTLS)
	}
}
