package simnet_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// relay is a small proxy on a worker: it accepts, dials a fixed address and
// copies both ways, half-closes and resets included.
type relay struct {
	w        *loop.Worker
	upstream netip.AddrPort
	token    loop.Token
	l        loop.Listener
	accepted []loop.Accepted
	open     int
}

func startRelay(h *simnet.Host, listen uint16, upstream netip.AddrPort) *relay {
	p := h.NewPoller()
	r := &relay{upstream: upstream}
	r.w = loop.NewWorker(p, loop.Config{Rand: h.World().NewRand()})
	r.token = r.w.Register(r)
	l, err := p.Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), listen), loop.ListenOptions{OriginalDst: true}, r.token)
	if err != nil {
		panic(err)
	}
	r.l = l
	h.World().Drive(p, r.w)
	return r
}

func (r *relay) Ready(loop.Ready) {
	for {
		s, a, err := r.l.Accept()
		if err != nil {
			return
		}
		r.accepted = append(r.accepted, a)
		up, err := r.w.Poller().Dial(r.upstream, loop.DialOptions{}, 0)
		if err != nil {
			s.Close(true)
			continue
		}
		down, upper := &side{r: r, s: s}, &side{r: r, s: up, connecting: true}
		down.other, upper.other = upper, down
		for _, x := range [...]*side{down, upper} {
			x.token = r.w.Register(x)
			r.w.Poller().Attach(x.s, x.token)
			r.open++
		}
		s.Want(false, false)
		up.Want(false, true)
	}
}

type side struct {
	r          *relay
	s          loop.Socket
	token      loop.Token
	other      *side
	out        []byte // to be written to s
	connecting bool
	eof        bool // read from s
	fin        bool // to be written to s
	finSent    bool
	gone       bool
}

func (x *side) Ready(ev loop.Ready) {
	if x.connecting {
		if err := x.s.(loop.Connecting).ConnectError(); errors.Is(err, loop.ErrAgain) {
			return
		} else if err != nil {
			x.abort()
			return
		}
		x.connecting = false
	}
	if ev.Err {
		x.abort()
		return
	}
	if ev.Out {
		x.flush()
	}
	if ev.In {
		x.read()
	}
	if !x.gone {
		x.settle()
		x.other.settle()
	}
}

func (x *side) read() {
	var b [4096]byte
	n, err := x.s.Read(b[:])
	x.other.out = append(x.other.out, b[:n]...)
	switch {
	case err == io.EOF:
		x.eof, x.other.fin = true, true
	case err != nil && !errors.Is(err, loop.ErrAgain):
		x.abort()
		return
	}
	x.other.flush()
}

func (x *side) flush() {
	for len(x.out) > 0 && !x.connecting && !x.gone {
		n, err := x.s.Write(x.out)
		x.out = x.out[n:]
		if errors.Is(err, loop.ErrAgain) {
			return
		} else if err != nil {
			x.abort()
			return
		}
	}
	if x.fin && !x.finSent && len(x.out) == 0 && !x.connecting && !x.gone {
		x.finSent = true
		_ = x.s.CloseWrite()
	}
}

func (x *side) settle() {
	if x.gone {
		return
	}
	if x.eof && x.finSent && x.other.eof && x.other.finSent {
		x.close(false)
		x.other.close(false)
		return
	}
	x.s.Want(!x.eof && !x.connecting && len(x.other.out) < 16<<10, x.connecting || len(x.out) > 0)
}

func (x *side) abort() {
	x.close(true)
	x.other.close(true)
}

func (x *side) close(reset bool) {
	if !x.gone {
		x.gone = true
		x.r.open--
		x.r.w.Unregister(x.token)
		x.s.Close(reset)
	}
}

// echo serves at addr: it sends back what it gets and closes after the client.
func echo(h *simnet.Host, port uint16) {
	_, err := h.Listen(netip.AddrPortFrom(h.IP(), port), func(e *simnet.Endpoint, _ loop.Accepted) simnet.Callbacks {
		return simnet.Callbacks{
			Data: func(e *simnet.Endpoint, p []byte) { e.Write(p) },
			EOF:  func(e *simnet.Endpoint) { e.CloseWrite() },
		}
	})
	if err != nil {
		panic(err)
	}
}

type client struct {
	got  []byte
	eof  bool
	err  error
	conn bool
}

func (c *client) dial(h *simnet.Host, to netip.AddrPort, data []byte) *simnet.Endpoint {
	e := h.Dial(to, simnet.Callbacks{
		Connected: func(*simnet.Endpoint) { c.conn = true },
		Data:      func(_ *simnet.Endpoint, p []byte) { c.got = append(c.got, p...) },
		EOF:       func(*simnet.Endpoint) { c.eof = true },
		Failed:    func(_ *simnet.Endpoint, err error) { c.err = err },
	})
	e.Write(data)
	e.CloseWrite()
	return e
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func at(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr(ip), port) }

func pattern(n int, salt byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) ^ byte(i>>8) ^ salt
	}
	return b
}

// run relays data through a worker in the weather of seed.
func run(seed uint64, clients, size int) (w *simnet.World, r *relay, cs []*client) {
	w = simnet.New(simnet.Rough(seed))
	app := w.Host(addr("10.0.0.1"))
	proxy := w.Host(addr("10.0.0.2"))
	server := w.Host(addr("10.0.0.3"))
	echo(server, 80)
	r = startRelay(proxy, 4140, at("10.0.0.3", 80))
	for i := range clients {
		c := &client{}
		cs = append(cs, c)
		w.After(time.Duration(w.Rand().IntN(5000))*time.Microsecond, func() {
			c.dial(app, at("10.0.0.2", 4140), pattern(size, byte(i)))
		})
	}
	w.Run(w.Now().Add(time.Minute))
	return w, r, cs
}

func TestEveryByteArrivesInEveryWeather(t *testing.T) {
	var total simnet.Stats
	for seed := range uint64(200) {
		w, r, cs := run(seed, 5, 20000)
		for i, c := range cs {
			if !bytes.Equal(c.got, pattern(20000, byte(i))) || !c.eof || c.err != nil {
				t.Fatalf("seed %d: client %d: %d bytes, eof %v, %v", seed, i, len(c.got), c.eof, c.err)
			}
		}
		if r.open != 0 {
			t.Fatalf("seed %d: %d sockets left open", seed, r.open)
		}
		if !w.Idle() {
			t.Fatalf("seed %d: not idle after everything", seed)
		}
		s := w.Stats()
		total.PartialReads += s.PartialReads
		total.PartialWrites += s.PartialWrites
		total.SpuriousReady += s.SpuriousReady
		total.WithheldReady += s.WithheldReady
		total.WindowStalls += s.WindowStalls
		total.LatePackets += s.LatePackets
		total.HalfCloses += s.HalfCloses
	}
	for name, n := range map[string]uint64{
		"partial reads": total.PartialReads, "partial writes": total.PartialWrites, "spurious readiness": total.SpuriousReady,
		"withheld readiness": total.WithheldReady, "window stalls": total.WindowStalls, "late packets": total.LatePackets,
		"half-closes": total.HalfCloses,
	} {
		if n == 0 {
			t.Errorf("no %s in 200 seeds", name)
		}
	}
}

func TestTheSameSeedGivesTheSameEvents(t *testing.T) {
	seen := map[uint64]uint64{}
	for seed := range uint64(20) {
		a, _, _ := run(seed, 5, 5000)
		b, _, _ := run(seed, 5, 5000)
		if a.Hash() != b.Hash() || a.Stats() != b.Stats() || a.Now() != b.Now() {
			t.Fatalf("seed %d ran differently twice", seed)
		}
		if other, ok := seen[a.Hash()]; ok {
			t.Fatalf("seeds %d and %d ran alike", seed, other)
		}
		seen[a.Hash()] = seed
	}
}

func BenchmarkRelay(b *testing.B) {
	var events uint64
	for i := range b.N {
		w, _, _ := run(uint64(i), 10, 20000)
		events += w.Stats().Events
	}
	b.ReportMetric(float64(events)/float64(b.N), "events/op")
}
