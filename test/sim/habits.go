package sim

import (
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// habits are what a peer of HTTP/2 may do and few do: an engine must take it.
type habits struct {
	client   bool
	pad      int  // at most so much padding
	cut      bool // header blocks come in pieces
	fidgety  bool // frames that change nothing, or settings, now and then
	left     int  // of those, so that no budget of R4.5 is spent
	changes  int  // of settings
	priority bool
	pings    []uint64 // that have no answer
	pinged   uint64
}

// offer is what SETTINGS said, until the peer acknowledges it.
type offer struct {
	window int64
	limit  uint32
	table  uint32
}

func (w *h2Wire) drawHabits(client bool) {
	h := &w.habits
	h.client = client
	if w.s.o.plain {
		return
	}
	w.s.Kinds.add(KindHabits)
	h.pad = of(w.s, 0, 0, 0, 10, 255)
	h.cut = w.s.one(3)
	h.priority = client && w.s.one(3)
	if h.fidgety = w.s.one(3); h.fidgety {
		h.left, h.changes = 12, 4
	}
}

// padding is what comes behind n bytes of DATA: its length and as many zeros, as
// far as windows allow.
func (w *h2Wire) padding(n int64, st *h2Stream) []byte {
	room := min(w.maxFrame, w.connCredit, st.credit) - n
	if st.call.padded && w.habits.client && n > 0 && room >= 256 {
		return make([]byte, 256)
	}
	if w.habits.pad == 0 || n <= 0 || room < 1 || st.call.gap > 0 {
		return nil
	}
	return make([]byte, 1+w.s.rng.Int64N(min(room, int64(w.habits.pad)+1)))
}

// sendBlock sends a header block, in as many frames as it wants to.
func (w *h2Wire) sendBlock(id uint32, b []byte, end bool) {
	h := &w.habits
	cut := func() []byte {
		n := min(len(b), 16000)
		if h.cut && n > 1 {
			n = w.s.rng.IntN(n)
		}
		p := b[:n]
		b = b[n:]
		return p
	}
	p := http2.HeadersFrameParam{StreamID: id, BlockFragment: cut(), EndStream: end}
	p.EndHeaders = len(b) == 0
	if h.pad > 0 {
		p.PadLength = uint8(w.s.rng.IntN(h.pad + 1))
	}
	if h.priority {
		p.Priority = http2.PriorityParam{StreamDep: 0, Exclusive: w.s.one(2), Weight: uint8(w.s.rng.IntN(256))}
		if p.Priority.IsZero() {
			p.Priority.Weight = 1
		}
	}
	must(w.fr.WriteHeaders(p))
	for pieces := 0; len(b) > 0; pieces++ {
		if pieces == 8 {
			h.cut = false
		}
		f := cut()
		must(w.fr.WriteContinuation(id, len(b) == 0, f))
	}
}

// fidget sends something that asks for nothing, or changes settings.
func (w *h2Wire) fidget() {
	h := &w.habits
	if !h.fidgety || h.left == 0 || w.dead || !w.acked || !w.s.one(4) {
		return
	}
	h.left--
	switch w.s.rng.IntN(6) {
	case 0:
		w.ping()
	case 1:
		must(w.fr.WritePriority(1+2*uint32(w.s.rng.IntN(500)), http2.PriorityParam{Weight: 7}))
	case 2:
		must(w.fr.WriteRawFrame(0xbe, 0xff, uint32(w.s.rng.IntN(9)), make([]byte, w.s.rng.IntN(40))))
	case 3:
		if n := len(w.closed); n > 0 { // it may have been on its way (RFC 9113, 5.1)
			must(w.fr.WriteWindowUpdate(w.closed[n-1], 1))
		}
	case 4:
		for _, st := range w.streams {
			if st.sending && st.off < st.total && st.stopAt < 0 {
				must(w.fr.WriteData(st.id, false, nil))
				break
			}
		}
	case 5:
		w.resettle()
	}
}

// ping holds that a PING is answered, with its own bytes and in order.
func (w *h2Wire) ping() {
	h := &w.habits
	h.pinged += 0x0102030405060708
	n := h.pinged
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	must(w.fr.WritePing(false, b))
	h.pings = append(h.pings, n)
	w.s.W.After(time.Second+2*w.s.grace, func() {
		if !w.dead && slices.Contains(h.pings, n) {
			w.s.O.Reportf(0, "a peer's PING was not answered")
		}
	})
}

func (w *h2Wire) ponged(data [8]byte) {
	h := &w.habits
	if n := binary.BigEndian.Uint64(data[:]); len(h.pings) == 0 || h.pings[0] != n {
		w.s.O.Reportf(0, "a peer's PING was answered with %x", data)
		return
	}
	h.pings = h.pings[1:]
}

// resettle changes the settings of a connection that is in use.
func (w *h2Wire) resettle() {
	h := &w.habits
	if h.changes == 0 {
		return
	}
	h.changes--
	last := w.latest()
	o := offer{window: of[int64](w.s, last.window, 0, 1500, 65535, 300_000), limit: last.limit, table: of[uint32](w.s, last.table, 0, 100, 4096, 65536)}
	if !h.client && last.limit > 1 {
		o.limit = of[uint32](w.s, 1, 5, 100)
	}
	w.offer(o)
	if o.window == 0 { // until later
		w.s.W.After(w.s.upTo(30*time.Millisecond), func() {
			if !w.dead {
				o.window = 65535
				w.offer(o)
				w.flush()
			}
		})
	}
}

// latest is what was offered last, acknowledged or not.
func (w *h2Wire) latest() offer {
	if n := len(w.offers); n > 0 {
		return w.offers[n-1]
	}
	return w.now
}

func (w *h2Wire) offer(o offer) {
	w.widest = max(w.widest, o.window)
	w.offers = append(w.offers, o)
	w.dec.SetAllowedMaxDynamicTableSize(w.most())
	must(w.fr.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 77}, // the last value counts
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(o.window)},
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: o.table},
		http2.Setting{ID: 0x99, Val: 1},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: o.limit}))
}

// most is the largest table that the peer may use by what it may know.
func (w *h2Wire) most() uint32 {
	n := w.now.table
	for _, o := range w.offers {
		n = max(n, o.table)
	}
	return n
}

// taken notes that the peer has applied what was offered first.
func (w *h2Wire) taken() {
	if len(w.offers) == 0 {
		w.s.O.Reportf(0, "a peer's SETTINGS were acknowledged twice")
		return
	}
	o := w.offers[0]
	w.offers = w.offers[1:]
	if o.table < w.now.table { // it has evicted what does not fit
		w.dec.SetMaxDynamicTableSize(o.table)
	}
	w.now, w.window, w.limit, w.acked = o, o.window, o.limit, true
	w.dec.SetAllowedMaxDynamicTableSize(w.most())
	for _, st := range w.streams { // the peer has resized its windows (RFC 9113, 6.9.2)
		st.recv += o.window - st.assumed
		st.assumed = o.window
	}
}
