package h2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// world is a client and a server Conn with a byte stream between them, driven by
// a seed. Each message is numbered; bodies follow a pattern, so that a byte lost,
// doubled or crossed into another stream is seen where it happens.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   mono.Time
	ends  [2]*end // client, server
	next  int
	total int
	stats map[string]int
}

type end struct {
	c    *Conn
	pool *slab.Pool
	wire []byte // on the way to this end
	msgs []*half
}

// half is one direction of one exchange at both ends.
type half struct {
	n         int // of the exchange
	s         *Stream
	size      int // of the body
	queued    int // given to SendData
	received  int
	unread    int // received, not consumed
	trailers  bool
	answering bool // the response has begun
	sentEnd   bool
	gotHead   bool
	gotEnd    bool
	reset     bool // by anybody
	peer      *half
}

func pattern(n, i int) byte { return byte(n*31 + i*7 + i>>8) }

func newWorld(t *testing.T, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 77))
	w := &world{t: t, rng: rng, now: 1, total: 5 + rng.IntN(60), stats: map[string]int{}}
	window := int32(1 + rng.IntN(100000))
	for i := range w.ends {
		pool := slab.NewPool(nil)
		cfg := Config{Client: i == 0, Pool: pool, Window: window, MaxWindow: window * 4, ConnWindow: 65535 + int32(rng.IntN(1<<18)),
			MaxConcurrentStreams: uint32(1 + rng.IntN(20)), Hop: rng.IntN(2) == 0,
			Flood: FloodLimits{WindowUpdates: Bucket{1 << 30, 1}}} // some windows are a few bytes
		w.ends[i] = &end{c: New(cfg, w.now), pool: pool}
	}
	return w
}

// step does one random thing.
func (w *world) step() {
	w.now += mono.Time(w.rng.IntN(1e7))
	e := w.rng.IntN(2)
	switch w.rng.IntN(8) {
	case 0:
		w.open()
	case 1, 2:
		w.send(w.ends[e])
	case 3:
		w.read(w.ends[e])
	case 4, 5:
		w.output(e)
	case 6:
		w.input(w.ends[e])
	case 7:
		w.disturb(w.ends[e])
	}
}

func (w *world) open() {
	cl := w.ends[0]
	if w.next == w.total || !cl.c.CanOpen() {
		return
	}
	w.next++
	m := &half{n: w.next, size: w.size(), trailers: w.rng.IntN(3) == 0}
	h := &head.Head{Method: []byte("POST"), Target: fmt.Appendf(nil, "/%d", w.next), Authority: []byte("a.b"), Version: 20, Length: -1}
	if m.size == 0 && !m.trailers {
		m.sentEnd = true
	}
	h.Add([]byte("x-repeated"), []byte("value"))
	h.Add([]byte("x-size"), fmt.Append(nil, m.size))
	if w.rng.IntN(3) == 0 && !m.sentEnd {
		h.Add([]byte("content-length"), fmt.Append(nil, m.size))
	}
	s, err := cl.c.Open(h, m.sentEnd, m)
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	m.s = s
	cl.msgs = append(cl.msgs, m)
}

func (w *world) size() int {
	switch w.rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return w.rng.IntN(100)
	case 2:
		return w.rng.IntN(20000)
	}
	return w.rng.IntN(300000)
}

// send queues a piece of some message of e.
func (w *world) send(e *end) {
	if len(e.msgs) == 0 {
		return
	}
	w.sendOf(e, e.msgs[w.rng.IntN(len(e.msgs))])
}

func (w *world) sendOf(e *end, m *half) {
	if m.reset || m.sentEnd {
		return
	}
	if e == w.ends[1] && !m.answering {
		m.answering = true
		e.c.SendHead(m.s, &head.Head{Status: 200, Version: 20, Length: -1, Fields: []head.Field{{Name: []byte("x-n"), Value: fmt.Append(nil, m.n)}}}, false)
	}
	k := min(m.size-m.queued, 1+w.rng.IntN(1<<w.rng.IntN(17)))
	b := make([]byte, k)
	for i := range b {
		b[i] = pattern(m.n, m.queued+i)
	}
	m.queued += k
	m.sentEnd = m.queued == m.size
	switch {
	case m.sentEnd && m.trailers:
		e.c.SendData(m.s, b, false)
		e.c.SendTrailers(m.s, []head.Field{{Name: []byte("x-trailer"), Value: fmt.Append(nil, m.n)}})
	case m.sentEnd && w.rng.IntN(2) == 0:
		e.c.SendData(m.s, b, false)
		e.c.SendData(m.s, nil, true)
	default:
		e.c.SendData(m.s, b, m.sentEnd)
	}
	w.retire(e, m)
}

// read consumes what a message of e has received.
func (w *world) read(e *end) {
	if len(e.msgs) == 0 {
		return
	}
	m := e.msgs[w.rng.IntN(len(e.msgs))]
	if m.reset || m.unread == 0 {
		return
	}
	k := 1 + w.rng.IntN(m.unread)
	m.unread -= k
	e.c.Consume(m.s, k)
	w.retire(e, m)
}

func (w *world) output(i int) {
	e, other := w.ends[i], w.ends[1-i]
	other.wire = e.c.Output(other.wire, w.rng.IntN(1<<w.rng.IntN(18)))
	for {
		s, n, ok := e.c.Drained()
		if !ok {
			break
		}
		m, _ := s.User.(*half)
		if m == nil || m.s != s {
			w.t.Fatalf("drained %d bytes of a stream without an owner", n)
		}
		w.stats["drained"] += n
	}
	for _, m := range append([]*half(nil), e.msgs...) {
		w.retire(e, m)
	}
}

func (w *world) input(e *end) {
	n := min(len(e.wire), 1+w.rng.IntN(1<<w.rng.IntN(17)))
	read := bytes.Clone(e.wire[:n])
	e.wire = e.wire[n:]
	e.c.Feed(read)
	for {
		ev, ok := e.c.Next(w.now)
		if !ok {
			break
		}
		w.event(e, ev)
	}
	e.c.Stash()
	for i := range read {
		read[i] = 0xdb
	}
}

func (w *world) event(e *end, ev Event) {
	w.stats[fmt.Sprint("kind ", ev.Kind)]++
	if ev.Kind == EventError {
		w.t.Fatalf("connection error: %v", ev.Err)
	}
	if ev.Stream == nil {
		return
	}
	if ev.Kind == EventHead && e == w.ends[1] {
		w.request(e, ev)
	}
	m, _ := ev.Stream.User.(*half)
	if m == nil || m.s != ev.Stream || m.reset {
		w.t.Fatalf("event %d of stream %d belongs to nobody", ev.Kind, ev.Stream.ID)
	}
	switch ev.Kind {
	case EventHead:
		m.gotHead = true
		if e == w.ends[0] && string(ev.Head.Get("x-n")) != fmt.Sprint(m.n) {
			w.t.Fatalf("response %s for request %d", ev.Head.Get("x-n"), m.n)
		}
	case EventData:
		for i, b := range ev.Data {
			if b != pattern(m.n, m.received+i) {
				w.t.Fatalf("exchange %d: byte %d is wrong", m.n, m.received+i)
			}
		}
		m.received += len(ev.Data)
		m.unread += len(ev.Data)
	case EventTrailers:
		if string(ev.Head.Get("x-trailer")) != fmt.Sprint(m.n) {
			w.t.Fatalf("trailers %s for exchange %d", ev.Head.Get("x-trailer"), m.n)
		}
	case EventReset:
		if ev.Local {
			w.t.Fatalf("reset for %s", ev.Reason)
		}
		w.drop(e, m)
		return
	}
	if ev.End {
		m.gotEnd = true
		if m.peer != nil && m.received != m.peer.size {
			w.t.Fatalf("exchange %d: %d bytes of %d", m.n, m.received, m.peer.size)
		}
	}
	w.retire(e, m)
}

func (w *world) request(e *end, ev Event) {
	var n int
	if _, err := fmt.Sscanf(string(ev.Head.Target), "/%d", &n); err != nil {
		w.t.Fatal(err)
	}
	m := &half{n: n, s: ev.Stream, size: w.size(), trailers: w.rng.IntN(3) == 0}
	for _, q := range w.ends[0].msgs {
		if q.n == n {
			m.peer, q.peer = q, m
		}
	}
	ev.Stream.User = m
	e.msgs = append(e.msgs, m)
}

// disturb resets a stream, changes settings or pings.
func (w *world) disturb(e *end) {
	switch w.rng.IntN(20) {
	case 0:
		if len(e.msgs) > 0 {
			m := e.msgs[w.rng.IntN(len(e.msgs))]
			e.c.Reset(m.s, ErrCodeCancel, false)
			w.drop(e, m)
			w.stats["resets"]++
		}
	case 1:
		e.c.Ping(w.now)
	case 2:
		// The engine never changes its settings: that is done for it.
		b := appendFrameHeader(nil, frameHeader{length: 12, typ: frameSettings})
		b = appendSetting(b, settingTableSize, uint32(w.rng.IntN(4097)))
		b = appendSetting(b, settingTableSize, uint32(w.rng.IntN(4097)))
		e.c.ctrl = e.pool.Append(e.c.ctrl, b...)
	}
}

func (w *world) drop(e *end, m *half) {
	m.reset = true
	for i, q := range e.msgs {
		if q == m {
			e.msgs = append(e.msgs[:i], e.msgs[i+1:]...)
		}
	}
}

// retire forgets a message whose stream is complete at this end.
func (w *world) retire(e *end, m *half) {
	if m.gotEnd && m.sentEnd && e.c.Queued(m.s) == 0 && m.s.Closed() && !m.reset {
		w.stats["complete"]++
		w.drop(e, m)
	}
}

// finish lets everything run to its end without new disturbance.
func (w *world) finish() {
	for i := range 100000 {
		busy := w.next < w.total
		w.open()
		for k, e := range w.ends {
			for _, m := range append([]*half(nil), e.msgs...) {
				w.sendRest(e, m)
			}
			w.output(k)
			for len(e.wire) > 0 {
				w.input(e)
			}
			busy = busy || len(e.msgs) > 0 || len(e.wire) > 0 || e.c.WantsOutput()
		}
		if !busy {
			return
		}
		if i == 99999 {
			for k, e := range w.ends {
				for _, m := range e.msgs {
					w.t.Logf("end %d: %+v stream %+v", k, *m, *m.s)
				}
			}
			w.t.Fatal("does not come to an end")
		}
	}
}

func (w *world) sendRest(e *end, m *half) {
	if !m.reset && m.unread > 0 {
		e.c.Consume(m.s, m.unread)
		m.unread = 0
	}
	for !m.sentEnd && !m.reset && e.c.Queued(m.s) < 1<<16 {
		w.sendOf(e, m)
	}
}

// R4.2, R4.3, R3.6: what goes in at one end comes out at the other, whatever the
// splits, windows, resets and interleavings.
func TestPairsOfConns(t *testing.T) {
	seeds := uint64(120)
	if race.Enabled || testing.Short() {
		seeds = 25
	}
	stats := map[string]int{}
	for seed := range seeds {
		w := newWorld(t, seed)
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			for range 400 {
				w.step()
			}
			w.finish()
		}()
		for _, e := range w.ends {
			if n := e.c.ActiveStreams(); n != 0 {
				t.Errorf("seed %d: %d streams left", seed, n)
			}
			if n := e.pool.InUse(); n != 0 {
				t.Errorf("seed %d: %d bytes in use at rest", seed, n)
			}
			if got := e.c.connRecv + e.c.connOwed; got != int64(e.c.cfg.ConnWindow) {
				t.Errorf("seed %d: connection window leaks: %d of %d", seed, got, e.c.cfg.ConnWindow)
			}
			e.c.Close()
		}
		for k, v := range w.stats {
			stats[k] += v
		}
	}
	t.Log(stats)
}

// shuttle moves everything between two Conns until both are quiet.
type shuttle struct {
	a, b     *Conn
	buf      []byte
	onA, onB func(ev Event)
}

func (s *shuttle) run() {
	for {
		quiet := true
		for range 2 {
			s.buf = s.a.Output(s.buf[:0], 1<<20)
			for {
				if _, _, ok := s.a.Drained(); !ok {
					break
				}
			}
			quiet = quiet && len(s.buf) == 0
			s.b.Feed(s.buf)
			for {
				ev, ok := s.b.Next(1)
				if !ok {
					break
				}
				s.onB(ev)
			}
			s.b.Stash()
			s.a, s.b, s.onA, s.onB = s.b, s.a, s.onB, s.onA
		}
		if quiet {
			return
		}
	}
}

func newShuttle() *shuttle { return newShuttleOn(slab.NewPool(nil), &Shared{}) }

func newShuttleOn(pool *slab.Pool, sh *Shared) *shuttle {
	s := &shuttle{a: New(Config{Client: true, Pool: pool, Shared: sh}, 1), b: New(Config{Pool: pool, Shared: sh}, 1), buf: make([]byte, 0, 1<<17)}
	cl, sv := s.a, s.b
	res := &head.Head{Status: 200, Version: 20, Length: -1}
	res.Add([]byte("content-type"), []byte("application/grpc"))
	res.Add([]byte("date"), []byte("Mon, 21 Oct 2013 20:13:22 GMT"))
	body := make([]byte, 256)
	trailers := []head.Field{{Name: []byte("grpc-status"), Value: []byte("0")}, {Name: []byte("grpc-message"), Value: nil}}
	s.onA = func(ev Event) {
		if ev.Kind == EventData {
			cl.Consume(ev.Stream, len(ev.Data))
		}
	}
	s.onB = func(ev Event) {
		if ev.Kind == EventData {
			sv.Consume(ev.Stream, len(ev.Data))
		}
		if ev.End {
			sv.SendHead(ev.Stream, res, false)
			sv.SendData(ev.Stream, body, false)
			sv.SendTrailers(ev.Stream, trailers)
		}
	}
	s.run()
	return s
}

func grpcRequest() *head.Head {
	h := &head.Head{Method: []byte("POST"), Target: []byte("/shop.Catalog/List"), Scheme: []byte("http"), Authority: []byte("catalog.shop:80"), Version: 20, Length: -1}
	h.Add([]byte("content-type"), []byte("application/grpc"))
	h.Add([]byte("user-agent"), []byte("grpc-go/1.85.0"))
	h.Add([]byte("te"), []byte("trailers"))
	h.Add([]byte("traceparent"), []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	return h
}

// A warm connection allocates nothing for a request.
func TestRoundTripsDoNotAllocate(t *testing.T) {
	if race.Enabled {
		t.Skip("allocation counts do not hold under the race detector")
	}
	s, req, body := newShuttle(), grpcRequest(), make([]byte, 256)
	for _, streams := range []int{1, 10, 100} {
		n := testing.AllocsPerRun(200, func() {
			for range streams {
				st, err := s.a.Open(req, false, nil)
				if err != nil {
					t.Fatal(err)
				}
				s.a.SendData(st, body, true)
			}
			s.run()
		})
		if n != 0 {
			t.Errorf("%d streams at once: %v allocations, want 0", streams, n)
		}
	}
	if s.a.ActiveStreams() != 0 || s.b.ActiveStreams() != 0 {
		t.Error("streams are left")
	}
}

// BenchmarkRoundTrip is a gRPC-shaped request and response through both engines.
func BenchmarkRoundTrip(b *testing.B) {
	for _, streams := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			s, req, body := newShuttle(), grpcRequest(), make([]byte, 256)
			b.ReportAllocs()
			for b.Loop() {
				for range streams {
					st, err := s.a.Open(req, false, nil)
					if err != nil {
						b.Fatal(err)
					}
					s.a.SendData(st, body, true)
				}
				s.run()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams), "ns/request")
		})
	}
}

// BenchmarkBody is 1 MiB of request body through both engines.
func BenchmarkBody(b *testing.B) {
	s, req, piece := newShuttle(), grpcRequest(), make([]byte, 16<<10)
	b.SetBytes(1 << 20)
	for b.Loop() {
		st, err := s.a.Open(req, false, nil)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 64 {
			s.a.SendData(st, piece, i == 63)
			s.run()
		}
	}
}
