package sim

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

// hog is the number of requests that are no calls: their clients stand still, and do not take
// their responses.
const hog = "hog"

// Of a seed with hogs: what proxies may keep, in bytes, what hogs have them keep,
// when the others begin, and when hogs leave.
const (
	hogBudget = 2 << 20
	hogBody   = 12 << 10
	hogs      = 6  // clients, of 28 responses each that take 16 KiB with what keeps them
	hogBlocks = 42 // heads without an end, of 64 KiB
	hogAsks   = 28
	hogBefore = 2 * time.Second
	hogAfter  = 5 * time.Second
)

// drawHogs decides whether some clients stand still, and keep the memory of a
// proxy, before the others begin: nothing may befall those (R4.2, R4.5,
// docs/decisions/0010).
func (s *Sim) drawHogs() {
	const fine = 1<<KindRetry | 1<<KindAbort | 1<<KindBreak
	rng := rand.New(rand.NewPCG(s.Seed, 0x686f67)) // its own: other seeds stay what they are
	if !s.o.plain || s.o.script&^fine != 0 || rng.IntN(4) == 0 {
		return
	}
	s.o.budget, s.o.shift = hogBudget, hogBefore
	s.o.blocks, s.o.outside, s.o.modest = rng.IntN(3) == 0, rng.IntN(3) == 0, rng.IntN(2) == 0
}

// hogTraffic has clients stand still.
func (s *Sim) hogTraffic() {
	if s.o.budget == 0 {
		return
	}
	c, full := s.clients[0], &s.clients[0].half
	k := s.plainCall(c, s.services[0])
	if s.o.outside {
		c, k.c, k.direct, full = s.outsider, s.outsider, s.services[0].servers[0], &s.services[0].servers[0].half
	}
	n := hogs
	if s.o.blocks {
		n = hogBlocks
	}
	if s.o.modest { // not so much that memory is short before others come
		n = n * 2 / 3
	}
	for range n {
		s.W.After(5*time.Millisecond, func() { s.hog(c, k.to()) })
	}
	s.W.After(hogBefore/2, func() { s.tight = inUse(full) > s.o.budget })
	// One at least comes where they are, and wants memory.
	s.W.After(hogBefore, func() {
		s.tight = s.tight || inUse(full) > s.o.budget/4*3
		(&h1Client{s: s, c: c, calls: []*call{k}, pipeline: 1}).start()
		s.W.After(s.o.span, func() {
			if n := inUse(full); s.tight && n < s.o.budget/2 {
				s.O.Reportf(0, "the proxy of %s keeps %d bytes of %d: hogs gave up more than others wanted", full.name, n, s.o.budget)
			}
		})
	})
}

// inUse is how much memory a proxy keeps.
func inUse(h *half) (n int64) {
	for _, w := range h.p.Workers() {
		n += w.Pool().InUse()
	}
	return n
}

// gaveWay holds that hogs gave up what others wanted.
func (s *Sim) gaveWay() {
	if s.o.budget == 0 {
		return
	}
	evicted := 0.0
	for _, h := range s.halves() {
		evicted += s.read(h)["proxy_evicted_total"]
	}
	switch {
	case evicted > 0:
		s.Kinds.add(KindHog)
	case s.tight:
		s.O.Reportf(0, "the memory of a proxy was nearly used up, and nobody gave way")
	}
}

// hog is a client that stands still: its windows are shut, or its head has no end.
func (s *Sim) hog(c *client, to netip.AddrPort) {
	e := c.host.Dial(to, simnet.Callbacks{
		Connected: func(e *simnet.Endpoint) { e.Write(s.standStill()) },
		Data:      func(*simnet.Endpoint, []byte) {},
		EOF:       func(e *simnet.Endpoint) { e.Close(false) },
		Failed:    func(*simnet.Endpoint, error) {},
	})
	s.W.After(hogBefore+s.o.span+hogAfter, func() { e.Close(true) })
}

func (s *Sim) standStill() []byte {
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, nil)
	must(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	if s.o.blocks {
		must(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}))
		for range 3 {
			must(fr.WriteContinuation(1, false, []byte(strings.Repeat("\x82", 16<<10))))
		}
		return out.Bytes()
	}
	enc := hpack.NewEncoder(&block)
	for i := range hogAsks {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "sim"}, {":path", "/hog"}, {"x-oracle-id", hog}} {
			must(enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		must(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	}
	return out.Bytes()
}

// feed answers a hog, as far as credit allows: nobody waits for more.
func (k *h2Server) feed(id uint32) {
	n := min(hogBody, k.w.connCredit, k.w.streamCredit)
	k.w.sendHead(id, []field{{":status", "200"}}, n <= 0)
	if n > 0 {
		k.w.connCredit -= n
		must(k.w.fr.WriteData(id, true, make([]byte, n)))
	}
	k.w.flush()
}
