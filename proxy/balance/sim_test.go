package balance_test

import (
	"bufio"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/balance"
)

// TestSimulatedTargets plays the scripts of testdata/sim in virtual time. The words of a script:
//
//	kind ewma|round-robin|least-requests|random
//	patience T                              clients cancel after T
//	zone Z                                  where the caller is
//	rate R/s | clients N                    open loop (Poisson) or closed loop
//	server NAME 10ms [workers=N] [fail=P] [weight=W] [zones=Z]
//	                                        from the start; jitter is exponential around the figure
//	at T server …                           comes, or changes
//	at T remove NAME
//	at T watch NAME                         one request that is never answered
//	expect NAME FROM-TO < P% (or >)         share of the requests that began in that time
//	expect failed FROM-TO < P%              of all requests
//
// Each runs with the seeds and at the rates that its lines "seeds" and "rates" name.
func TestSimulatedTargets(t *testing.T) { // R6.1, R6.2, R6.3, R6.4
	files, err := filepath.Glob("testdata/sim/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		s := readScript(t, f)
		for _, rate := range s.rates {
			t.Run(fmt.Sprintf("%s/%s", strings.TrimSuffix(filepath.Base(f), ".txt"), rate), func(t *testing.T) {
				t.Parallel()
				seeds := s.seeds
				if race.Enabled {
					seeds = 1 // nothing here runs at the same time
				}
				for seed := range seeds {
					s.play(t, rate, seed)
				}
			})
		}
	}
}

type script struct {
	kind    mesh.Balancing
	zone    string
	wait    time.Duration
	rates   []string // "100/s" or "20 clients"
	seeds   uint64
	steps   []step
	expects []expect
	end     time.Duration
}

type step struct {
	at     time.Duration
	server *server
	verb   string // of a step without a server
	name   string
}

type server struct {
	name    string
	latency time.Duration
	workers int
	fail    float64
	gone    bool // nobody answers: a connection takes its limit, and fails
	weight  uint32
	zones   string
}

type expect struct {
	name     string
	from, to time.Duration
	less     bool
	percent  float64
	line     int
}

func readScript(t *testing.T, file string) *script {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &script{seeds: 10}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if w := strings.Fields(line); len(w) > 0 {
			if err := s.read(w, n); err != nil {
				t.Fatalf("%s:%d: %v", file, n, err)
			}
		}
	}
	for _, e := range s.expects {
		s.end = max(s.end, e.to)
	}
	return s
}

func (s *script) read(w []string, line int) error {
	switch w[0] {
	case "kind":
		s.kind = map[string]mesh.Balancing{
			"ewma": mesh.BalanceEWMA, "round-robin": mesh.BalanceRoundRobin,
			"least-requests": mesh.BalanceLeastRequests, "random": mesh.BalanceRandom,
		}[w[1]]
	case "zone":
		s.zone = w[1]
	case "patience":
		d, err := time.ParseDuration(w[1])
		s.wait = d
		return err
	case "seeds":
		n, err := strconv.ParseUint(w[1], 10, 32)
		s.seeds = n
		return err
	case "rates":
		s.rates = w[1:]
	case "server":
		sv, err := readServer(w[1:])
		s.steps = append(s.steps, step{server: sv})
		return err
	case "at":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			return err
		}
		if w[2] != "server" {
			s.steps = append(s.steps, step{at: d, verb: w[2], name: w[3]})
			return nil
		}
		sv, err := readServer(w[3:])
		s.steps = append(s.steps, step{at: d, server: sv})
		return err
	case "expect":
		e := expect{name: w[1], line: line, less: w[3] == "<"}
		from, to, _ := strings.Cut(w[2], "-")
		var err1, err2, err3 error
		e.from, err1 = time.ParseDuration(from)
		e.to, err2 = time.ParseDuration(to)
		e.percent, err3 = strconv.ParseFloat(strings.TrimSuffix(w[4], "%"), 64)
		s.expects = append(s.expects, e)
		for _, err := range []error{err1, err2, err3} {
			if err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unknown word %q", w[0])
	}
	return nil
}

func readServer(w []string) (*server, error) {
	sv := &server{name: w[0]}
	d, err := time.ParseDuration(w[1])
	if err != nil {
		return nil, err
	}
	sv.latency = d
	for _, o := range w[2:] {
		k, v, _ := strings.Cut(o, "=")
		if o == "gone" {
			sv.gone, sv.fail = true, 1
			continue
		}
		x, _ := strconv.ParseFloat(v, 64)
		switch k {
		case "workers":
			sv.workers = int(x)
		case "fail":
			sv.fail = x
		case "weight":
			sv.weight = uint32(x)
		case "zones":
			sv.zones = v
		default:
			return nil, fmt.Errorf("unknown option %q", k)
		}
	}
	return sv, nil
}

// addrOf gives a server its address: a is 10.0.0.1.
func addrOf(name string) netip.AddrPort {
	n := name[0] - 'a' + 1
	if len(name) > 1 {
		k, _ := strconv.Atoi(name[1:])
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, n, byte(k >> 8), byte(k)}), 80)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 80)
}

func (sv *server) row() mesh.Endpoint {
	return mesh.Endpoint{Addr: addrOf(sv.name), Weight: sv.weight, ForZones: sv.zones, Pod: sv.name}
}

// event is something that happens in virtual time.
type event struct {
	at  mono.Time
	seq int
	do  func(now mono.Time)
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any     { o := *e; x := o[len(o)-1]; *e = o[:len(o)-1]; return x }

// world is one run of a script.
type world struct {
	rng     *rand.Rand
	b       *balance.Balancer
	q       events
	seq     int
	servers map[string]*running
	log     []request
	end     mono.Time
	closed  bool
	wait    time.Duration
}

type running struct {
	server
	busy  int
	queue []func(now mono.Time)
}

type request struct {
	at     mono.Time
	to     string
	failed bool
}

const simStart = mono.Time(time.Hour)

func (s *script) play(t *testing.T, rate string, seed uint64) {
	t.Helper()
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), servers: map[string]*running{}, end: simStart.Add(s.end), wait: s.wait,
		b: balance.New(balance.Config{Kind: s.kind, Zone: s.zone}, rand.New(rand.NewPCG(seed, 2))),
	}
	for _, st := range s.steps {
		if st.at == 0 {
			w.servers[st.server.name] = &running{server: *st.server}
		} else {
			w.after(simStart, st.at, func(now mono.Time) { w.step(st, now) })
		}
	}
	var rows []mesh.Endpoint
	for _, st := range s.steps {
		if st.at == 0 {
			rows = append(rows, st.server.row())
		}
	}
	w.b.Replace(rows, simStart)
	if n, ok := strings.CutSuffix(rate, "/s"); ok {
		r, _ := strconv.ParseFloat(n, 64)
		w.arrive(r, simStart)
	} else {
		n, _ := strconv.Atoi(strings.TrimSuffix(rate, "clients"))
		w.closed = true
		for i := range n {
			w.after(simStart, time.Duration(i)*time.Millisecond, w.request)
		}
	}
	for len(w.q) > 0 && w.q[0].at < w.end {
		e := heap.Pop(&w.q).(event)
		e.do(e.at)
	}
	for _, e := range s.expects {
		if got := w.percent(e); (got < e.percent) != e.less {
			t.Errorf("line %d, seed %d: %s %s to %s is %.1f %%, want %s %g %%", e.line, seed, e.name, e.from, e.to, got,
				map[bool]string{true: "<", false: ">"}[e.less], e.percent)
		} else if testing.Verbose() {
			t.Logf("line %d, seed %d: %s %s to %s is %.1f %%", e.line, seed, e.name, e.from, e.to, got)
		}
	}
}

func (w *world) after(now mono.Time, d time.Duration, f func(now mono.Time)) {
	w.seq++
	heap.Push(&w.q, event{now.Add(d), w.seq, f})
}

func (w *world) step(st step, now mono.Time) {
	switch st.verb {
	case "remove":
		w.b.Apply(nil, []netip.AddrPort{addrOf(st.name)}, now)
		return
	case "watch":
		w.b.Each(func(e *balance.Endpoint) {
			if e.Pod == st.name {
				e.Start(now)
			}
		})
		return
	}
	r := w.servers[st.server.name]
	if r == nil {
		r = &running{}
		w.servers[st.server.name] = r
	}
	r.server = *st.server
	w.b.Apply([]mesh.Endpoint{st.server.row()}, nil, now)
}

func (w *world) arrive(rate float64, now mono.Time) {
	w.after(now, time.Duration(w.rng.ExpFloat64()/rate*float64(time.Second)), func(now mono.Time) {
		w.request(now)
		w.arrive(rate, now)
	})
}

func (w *world) request(now mono.Time) {
	e, ok := w.b.Pick(now, nil)
	if !ok {
		w.log = append(w.log, request{now, "none", true})
		if w.closed {
			w.after(now, 10*time.Millisecond, w.request)
		}
		return
	}
	r := w.servers[e.Pod]
	f := new(balance.Flight)
	*f = e.Start(now)
	if w.wait > 0 {
		w.after(now, w.wait, func(now mono.Time) { f.Done(now, balance.Outcome{Result: balance.Cancelled}) })
	}
	failed := r.fail > 0 && w.rng.Float64() < r.fail
	w.log = append(w.log, request{now, e.Pod, failed})
	d, cause := r.latency, balance.CauseStatus
	if failed {
		d = time.Millisecond
	}
	work := time.Duration(float64(d) * (0.7 + 0.3*w.rng.ExpFloat64()))
	if r.gone {
		work, cause = time.Second, balance.CauseConnect
	}
	begin := func(now mono.Time) {
		w.after(now, work, func(now mono.Time) {
			if failed {
				f.Done(now, balance.Failure(cause, 0))
			} else {
				f.FirstData(now)
				f.Done(now, balance.Outcome{})
			}
			r.finish(now)
			if w.closed {
				w.request(now)
			}
		})
	}
	r.begin(now, begin)
}

// begin serves at once, or later when all its workers are busy.
func (r *running) begin(now mono.Time, f func(now mono.Time)) {
	if r.workers > 0 && r.busy >= r.workers {
		r.queue = append(r.queue, f)
		return
	}
	r.busy++
	f(now)
}

func (r *running) finish(now mono.Time) {
	r.busy--
	if len(r.queue) > 0 && (r.workers == 0 || r.busy < r.workers) {
		f := r.queue[0]
		r.queue = r.queue[1:]
		r.busy++
		f(now)
	}
}

func (w *world) percent(e expect) float64 {
	var all, part int
	for _, r := range w.log {
		if at := r.at.Sub(simStart); at < e.from || at >= e.to {
			continue
		}
		all++
		if r.to == e.name || e.name == "failed" && r.failed {
			part++
		}
	}
	if all == 0 {
		return math.NaN()
	}
	return 100 * float64(part) / float64(all)
}
