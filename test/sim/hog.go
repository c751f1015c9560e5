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

// hog is the number of requests whose clients do not take their responses.
const hog = "hog"

// Of a seed with hogs: what proxies may keep, in bytes, what hogs have them keep,
// when the others begin, and when hogs leave.
const (
	hogBudget = 2 << 20
	hogBody   = 12 << 10
	hogs      = 160 // responses, of 16 KiB with what keeps them
	hogBlocks = 40  // heads without an end, of 64 KiB
	hogBefore = 2 * time.Second
	hogAfter  = 5 * time.Second
)

// drawHogs decides whether some clients stand still, and keep the memory of a
// proxy, before the others begin: nothing may befall those (R4.2, R4.5).
func (s *Sim) drawHogs() {
	const fine = 1<<KindRetry | 1<<KindAbort | 1<<KindBreak | 1<<KindRefuse
	rng := rand.New(rand.NewPCG(s.Seed, 0x686f67)) // its own: other seeds stay what they are
	if !s.o.plain || s.o.script&^fine != 0 || rng.IntN(4) == 0 {
		return
	}
	s.Kinds.add(KindHog)
	s.o.budget, s.o.shift = hogBudget, hogBefore
	s.o.blocks, s.o.outside = rng.IntN(3) == 0, rng.IntN(3) == 0
}

// hogTraffic has clients stand still.
func (s *Sim) hogTraffic() {
	if s.o.budget == 0 {
		return
	}
	c, to := s.clients[0], s.dialled(s.services[0], portHTTP)
	if s.o.outside {
		c, to = s.outsider, s.rowAddr(s.services[0].servers[0], portHTTP)
	}
	each := hogBlocks
	if !s.o.blocks {
		each = 2
	}
	for range each {
		s.W.After(5*time.Millisecond, func() { s.hog(c, to) })
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
	for i := range hogs / 2 {
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
