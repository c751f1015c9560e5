package sim

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
)

const h2Preface = http2.ClientPreface

// h2Wire is one end of an HTTP/2 connection: frames by x/net, flow control of
// its own. What it is for is told to its user.
type h2Wire struct {
	s    *Sim
	e    *simnet.Endpoint
	user h2User
	in   bytes.Buffer
	out  bytes.Buffer
	fr   *http2.Framer
	enc  *hpack.Encoder
	hbuf bytes.Buffer
	dec  *hpack.Decoder

	streams []*h2Stream // open ones, in order
	// Of sending: the peer's settings and credit.
	connCredit, streamCredit int64
	maxFrame                 int64
	maxStreams               int
	// Of receiving: what we granted and what came.
	window, connGranted, connGot int64
	widest                       int64   // window that was ever offered
	now                          offer   // that the peer has acknowledged
	offers                       []offer // that it has not

	block     []byte // of a head under way
	blockID   uint32
	blockEnd  bool
	sawPrefix int      // of the client's preface
	closed    []uint32 // streams that were forgotten
	dead      bool
	holding   bool // no credit for the connection
	connHeld  int64
	acked     bool // the peer knows our settings
	pumping   bool
	limit     uint32 // of streams that the peer may open
	habits    habits
}

// h2User is what a client or server does with events.
type h2User interface {
	head(st *h2Stream, id uint32, fs []field, end bool)
	data(st *h2Stream, p []byte, end bool)
	reset(st *h2Stream, code uint32)
	goAway(last uint32)
	broken(what string)
}

// h2Stream is one stream.
type h2Stream struct {
	id      uint32
	user    any
	credit  int64
	recv    int64 // bytes granted and not used
	assumed int64 // the window that it began with
	held    int64 // credit that a slow reader holds back
	holding bool

	// The body that is sent.
	fill       func(p []byte, off int64)
	off, total int64
	stopAt     int64
	stop       func()
	sending    bool
	resting    bool
	trailers   []field
	done       func()
	sent       *int64 // is told how far the body came
	body       func() // of a client that waits for 100 Continue
	chunk      int
	call       *call
	sentEnd    bool
	gotEnd     bool
}

func newH2Wire(s *Sim, e *simnet.Endpoint, user h2User, isClient bool) *h2Wire {
	w := &h2Wire{s: s, e: e, user: user, connCredit: 65535, streamCredit: 65535, maxFrame: 16384, maxStreams: 100, connGranted: 65535}
	w.fr = http2.NewFramer(&w.out, &w.in)
	w.fr.SetMaxReadFrameSize(1 << 20)
	w.enc = hpack.NewEncoder(&w.hbuf)
	w.dec = hpack.NewDecoder(4096, nil)
	w.window = int64(of(s, 65535, 65535, 16384, 2000, 1<<20))
	w.widest, w.now.table = w.window, 4096
	limit := uint32(of(s, 100, 100, 1, 3))
	w.limit = limit
	if isClient {
		w.out.WriteString(h2Preface)
		limit = 100
		w.sawPrefix = len(h2Preface)
	}
	must(w.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(w.window)},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit}))
	w.offers = []offer{{window: w.window, limit: limit, table: 4096}}
	if s.one(2) {
		w.connGranted += 1 << 20
		must(w.fr.WriteWindowUpdate(0, 1<<20))
	}
	w.drawHabits(isClient)
	w.flush()
	return w
}

func (w *h2Wire) flush() {
	if w.out.Len() > 0 && !w.dead {
		w.e.Write(w.out.Bytes())
	}
	w.out.Reset()
}

// received takes bytes and hands out events.
func (w *h2Wire) received(p []byte) {
	if w.dead {
		return
	}
	if n := min(len(h2Preface)-w.sawPrefix, len(p)); n > 0 {
		w.sawPrefix += n
		p = p[n:]
	}
	w.in.Write(p)
	for !w.dead {
		b := w.in.Bytes()
		if len(b) < 9 || len(b) < 9+int(binary.BigEndian.Uint32(b)>>8) {
			break
		}
		f, err := w.fr.ReadFrame()
		if err != nil {
			w.s.O.Reportf(0, "a peer got a bad frame: %v", err)
			w.user.broken(err.Error())
			return
		}
		w.frame(f)
	}
	w.fidget()
	w.pump()
}

func (w *h2Wire) frame(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		w.gotSettings(f)
	case *http2.HeadersFrame:
		w.block, w.blockID, w.blockEnd = append(w.block[:0], f.HeaderBlockFragment()...), f.StreamID, f.StreamEnded()
		if f.HeadersEnded() {
			w.gotHead()
		}
	case *http2.ContinuationFrame:
		w.block = append(w.block, f.HeaderBlockFragment()...)
		if f.HeadersEnded() {
			w.gotHead()
		}
	case *http2.DataFrame:
		w.gotData(f)
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			w.connCredit += int64(f.Increment)
		} else if st := w.stream(f.StreamID); st != nil {
			st.credit += int64(f.Increment)
		}
	case *http2.RSTStreamFrame:
		if st := w.stream(f.StreamID); st != nil {
			w.forget(st)
			w.user.reset(st, uint32(f.ErrCode))
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			w.s.O.Reportf(0, "a peer was sent GOAWAY with %v: %s", f.ErrCode, f.DebugData())
		}
		w.user.goAway(f.LastStreamID)
	case *http2.PingFrame:
		if f.IsAck() {
			w.ponged(f.Data)
			return
		}
		must(w.fr.WritePing(true, f.Data))
	}
}

func (w *h2Wire) gotSettings(f *http2.SettingsFrame) {
	if f.IsAck() {
		w.taken()
		return
	}
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
		for _, st := range w.streams {
			st.credit += int64(v) - w.streamCredit
		}
		w.streamCredit = int64(v)
	}
	if v, ok := f.Value(http2.SettingMaxFrameSize); ok {
		w.maxFrame = int64(v)
	}
	if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
		w.maxStreams = int(v)
	}
	if v, ok := f.Value(http2.SettingHeaderTableSize); ok {
		w.enc.SetMaxDynamicTableSizeLimit(v)
	}
	must(w.fr.WriteSettingsAck())
}

func (w *h2Wire) gotHead() {
	hs, err := w.dec.DecodeFull(w.block)
	if err != nil {
		w.s.O.Reportf(0, "a peer got a bad header block: %v", err)
		w.user.broken(err.Error())
		return
	}
	fs := make([]field, len(hs))
	for i, h := range hs {
		fs[i] = field{h.Name, h.Value}
	}
	st := w.stream(w.blockID)
	if st != nil && w.blockEnd {
		st.gotEnd = true
	}
	w.user.head(st, w.blockID, fs, w.blockEnd)
}

func (w *h2Wire) gotData(f *http2.DataFrame) {
	n := int64(f.Length)
	if w.connGot += n; w.connGot > w.connGranted {
		w.s.O.Reportf(0, "a peer was sent %d bytes of data, %d were granted to the connection", w.connGot, w.connGranted)
	}
	w.connHeld += n
	w.grantConn()
	st := w.stream(f.StreamID)
	if st == nil {
		return
	}
	if st.recv -= n; st.recv < 0 {
		w.s.O.Reportf(st.call.r.ID, "its stream was sent more than was granted to it")
	}
	end := f.StreamEnded()
	st.gotEnd = st.gotEnd || end
	w.user.data(st, f.Data(), end)
	if n > 0 && !st.gotEnd {
		st.held += n
		w.grant(st)
	}
}

// grantConn gives the connection's credit back, unless a slow reader stops all of it.
func (w *h2Wire) grantConn() {
	if w.connHeld > 0 && !w.holding && !w.dead {
		w.connGranted += w.connHeld
		must(w.fr.WriteWindowUpdate(0, uint32(w.connHeld)))
		w.connHeld = 0
	}
}

// grant gives a stream its credit back, unless its reader is slow.
func (w *h2Wire) grant(st *h2Stream) {
	if st.holding || st.held == 0 || w.dead || w.stream(st.id) == nil {
		return
	}
	must(w.fr.WriteWindowUpdate(st.id, uint32(st.held)))
	st.recv += st.held
	st.held = 0
}

// hold stops the credit of a stream for a while.
func (w *h2Wire) hold(st *h2Stream, s *stall, n int) {
	if s.at < 0 {
		return
	}
	if s.at -= int64(n); s.at >= 0 {
		return
	}
	w.s.Kinds.add(KindStall)
	st.holding = true
	w.holding = w.s.one(2)
	w.s.W.After(s.d, func() {
		w.s.held(st.call, s, w.widest)
		st.holding, w.holding = false, false
		w.grantConn()
		w.grant(st)
		w.flush()
	})
}

func (w *h2Wire) stream(id uint32) *h2Stream {
	for _, st := range w.streams {
		if st.id == id {
			return st
		}
	}
	return nil
}

func (w *h2Wire) open(id uint32, c *call) *h2Stream {
	st := &h2Stream{id: id, credit: w.streamCredit, recv: w.window, call: c, stopAt: -1, chunk: c.chunk}
	if !w.acked { // the window that it knows (RFC 9113, 6.9.3)
		st.recv = 65535
	}
	st.assumed = st.recv
	w.streams = append(w.streams, st)
	return st
}

func (w *h2Wire) forget(st *h2Stream) {
	st.sending = false
	w.closed = append(w.closed, st.id)
	w.streams = slices.DeleteFunc(w.streams, func(o *h2Stream) bool { return o == st })
}

// settled forgets a stream that has ended both ways.
func (w *h2Wire) settled(st *h2Stream) {
	if st.sentEnd && st.gotEnd {
		w.forget(st)
	}
}

// sendHead writes a head or trailers.
func (w *h2Wire) sendHead(id uint32, fs []field, end bool) {
	w.hbuf.Reset()
	for _, f := range fs {
		must(w.enc.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}))
	}
	w.sendBlock(id, w.hbuf.Bytes(), end)
}

// sendBody starts the body of a stream.
func (w *h2Wire) sendBody(st *h2Stream, total int64, trailers []field, done func()) {
	st.total, st.trailers, st.done, st.sending = total, trailers, done, true
	w.pump()
}

// pump sends what credit allows, a piece per stream and round.
func (w *h2Wire) pump() {
	if w.pumping || w.dead {
		return
	}
	w.pumping = true
	for again := true; again && !w.dead; {
		again = false
		for _, st := range slices.Clone(w.streams) {
			if st.sending && !st.resting && w.e.Buffered()+w.out.Len() < 64<<10 && w.piece(st) {
				again = true
			}
		}
	}
	w.pumping = false
	w.flush()
}

// piece sends one DATA frame of a stream; it reports whether more may follow at once.
func (w *h2Wire) piece(st *h2Stream) bool {
	end := st.total
	if st.stopAt >= 0 {
		end = min(end, st.stopAt)
	}
	n := min(end-st.off, int64(st.chunk), w.maxFrame, w.connCredit, st.credit)
	pad := w.padding(n, st)
	if n <= 0 && st.off < end {
		return false
	}
	last := st.off+max(n, 0) == end
	if n > 0 {
		p := make([]byte, n)
		st.fill(p, st.off)
		st.off += n
		if st.sent != nil {
			*st.sent = st.off
		}
		st.credit -= n + int64(len(pad))
		w.connCredit -= n + int64(len(pad))
		over := last && st.stopAt < 0 && len(st.trailers) == 0 && w.s.even(st)
		if len(pad) > 0 { // its length takes a byte
			must(w.fr.WriteDataPadded(st.id, over, p, pad[1:]))
		} else {
			must(w.fr.WriteData(st.id, over, p))
		}
	}
	if !last {
		if st.call.gap > 0 {
			st.resting = true
			w.s.W.After(w.s.upTo(st.call.gap), func() { st.resting = false; w.pump() })
			return false
		}
		return true
	}
	st.sending = false
	switch {
	case st.stopAt >= 0:
		st.stop()
		return false
	case len(st.trailers) > 0:
		w.sendHead(st.id, st.trailers, true)
	case n <= 0 || !w.s.even(st):
		must(w.fr.WriteData(st.id, true, nil))
	}
	st.sentEnd = true
	st.done()
	w.settled(st)
	return false
}

// even decides whether END_STREAM comes with the last byte or after it.
func (s *Sim) even(st *h2Stream) bool { return st.total%2 == 0 }

// rst resets a stream.
func (w *h2Wire) rst(st *h2Stream, code uint32) {
	must(w.fr.WriteRSTStream(st.id, http2.ErrCode(code)))
	w.forget(st)
	w.flush()
}

func (w *h2Wire) drained() { w.pump() }
