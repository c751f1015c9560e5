package exchange

import (
	"github.com/tulle-mesh/tulle/proxy/chain"
	"github.com/tulle-mesh/tulle/proxy/h1"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// h2Conn is what the two sides of an HTTP/2 connection have in common: bytes
// into the engine, its output out.
type h2Conn struct {
	env     *Env
	c       *wire.Conn
	e       *h2.Conn
	hop     bool
	side    h2Side
	looping bool
	gone    bool
	closing bool
	fills   uint64 // how often output was fetched
	paused  bool   // our own answers queue: nothing more is read (R4.5)

	streams chain.List[*h2Stream]
	free    []*h2Stream
	dead    []*h2Stream // done with, reused from the next turn on
	buf     []byte      // a restored head, during one event
	blob    []byte      // the reserved field of a head on its way out
	extra   [1]head.Field
	got     head.Head
	// trailers on their way through the hop, during one call
	trailers []head.Field
	lim      h1.Limits
}

// h2Side is the H2Client or H2Server.
type h2Side interface {
	// vacant: the last stream has ended.
	vacant()
	// filled: output was fetched, which may have freed streams.
	filled()
	// drained: the connection was closed.
	drained()
}

// h2Stream is one stream; it implements Stream and Down.
type h2Stream struct {
	conn *h2Conn
	st   *h2.Stream // nil before the head of a request to be sent
	x    *Exchange
	up   bool // the exchange's upstream
	// open is cleared when the engine is done with the stream.
	open    bool
	sentEnd bool
	gotEnd  bool
	http1   bool   // what is sent came in over HTTP/1
	born    uint64 // fills of the connection when the stream was opened
	link    chain.Link[*h2Stream]
}

func (k *h2Conn) newStream(st *h2.Stream, up bool) *h2Stream {
	var s *h2Stream
	if n := len(k.free); n > 0 {
		s = k.free[n-1]
		k.free = k.free[:n-1]
	} else {
		s = &h2Stream{}
	}
	*s = h2Stream{conn: k, st: st, up: up, open: true}
	k.streams.Add(&s.link, s)
	return s
}

// forget ends the adapter's part of a stream.
func (k *h2Conn) forget(s *h2Stream) {
	if !s.open {
		return
	}
	s.open = false
	k.streams.Remove(&s.link)
	if s.st != nil {
		s.st.User = nil
		s.st = nil
	}
	k.recycle(s)
	if k.streams.Empty() && !k.gone {
		k.side.vacant()
	}
}

// recycle puts a stream aside that neither the engine nor an exchange knows.
func (k *h2Conn) recycle(s *h2Stream) {
	if !s.open && s.x == nil && len(k.dead) < 256 {
		k.dead = append(k.dead, s)
	}
}

// Fill implements wire.Filler.
func (k *h2Conn) Fill(dst []byte, room int) []byte {
	for _, s := range k.dead {
		if len(k.free) < 256 {
			k.free = append(k.free, s)
		}
	}
	k.dead = k.dead[:0]
	k.fills++
	k.e.At(k.env.Wire.Now())
	dst = k.e.Output(dst, room)
	for {
		st, n, ok := k.e.Drained()
		if !ok {
			break
		}
		s, _ := st.User.(*h2Stream)
		if s == nil || s.x == nil {
			continue
		}
		if s.up {
			s.x.UpDrained(n)
		} else {
			s.x.DownDrained(n)
		}
	}
	k.watch()
	k.settled()
	k.side.filled()
	return dst
}

// Wants implements wire.Filler.
func (k *h2Conn) Wants() bool { return k.e.WantsOutput() }

// dirty has output fetched at the end of the turn.
func (k *h2Conn) dirty() { k.c.Dirty() }

// watch stops reading while answers that the peer provoked queue (R4.5).
func (k *h2Conn) watch() {
	if k.gone {
		return
	}
	if c := k.e.Congested(); c != k.paused {
		k.paused = c
		if c {
			k.c.Pause()
		} else {
			k.c.Resume()
		}
	}
}

// encode prepares the reserved field of an HTTP/1 head that crosses the hop.
func (k *h2Conn) encode(h *head.Head) []head.Field {
	if !k.hop || h.Version >= 20 {
		return nil
	}
	k.blob = hop.AppendHTTP1(k.blob[:0], h)
	k.extra[0] = head.Field{Name: fieldHTTP1, Value: k.blob}
	return k.extra[:]
}

// encodeTrailers adds the reserved field to trailers that came in over HTTP/1,
// where their names need it.
func (k *h2Conn) encodeTrailers(f []head.Field, http1 bool) []head.Field {
	if !k.hop || !http1 {
		return f
	}
	k.blob = hop.AppendTrailers(k.blob[:0], f)
	if len(k.blob) == 0 {
		return f
	}
	k.trailers = append(append(k.trailers[:0], f...), head.Field{Name: fieldHTTP1, Value: k.blob})
	return k.trailers
}

// restoreTrailers rebuilds the names of trailers that crossed the hop.
func (k *h2Conn) restoreTrailers(h *head.Head) error {
	if !k.hop {
		return nil
	}
	buf, fields, err := hop.RestoreTrailers(k.buf[:0], h.Fields, k.trailers[:0])
	k.buf, k.trailers = buf, fields
	h.Fields = fields
	return err
}

// Head implements Stream.
func (s *h2Stream) Head(h *head.Head, end bool) {
	if s.up {
		s.request(h, end)
		return
	}
	s.respond(h, end)
}

func (s *h2Stream) respond(h *head.Head, end bool) {
	if !s.open {
		return
	}
	k := s.conn
	s.http1 = h.Version < 20
	extra := k.encode(h)
	status := h.Status
	if status == 101 { // a tunnel on HTTP/2 begins with 200 (RFC 8441, section 5)
		h.Status = 200
	}
	k.e.SendHeadWith(s.st, h, extra, end)
	h.Status = status
	s.end(end)
	k.dirty()
}

// request opens the stream; its connection was checked for room.
func (s *h2Stream) request(h *head.Head, end bool) {
	k := s.conn
	s.http1 = h.Version < 20
	st, err := k.e.OpenWith(h, k.encode(h), end, s)
	if err != nil {
		x := s.x
		s.x = nil
		k.forget(s)
		x.UpFailed(Failure{Code: h2.ErrCodeRefusedStream, Unprocessed: true, Reason: err.Error()})
		return
	}
	s.st, s.born = st, k.fills
	s.end(end)
	k.dirty()
}

// Info implements Down.
func (s *h2Stream) Info(h *head.Head) {
	if s.open {
		s.conn.e.SendInfoWith(s.st, h, s.conn.encode(h))
		s.conn.dirty()
	}
}

// Data implements Stream.
func (s *h2Stream) Data(p []byte, end bool) {
	if !s.open || s.st == nil || s.sentEnd {
		return
	}
	s.conn.e.At(s.conn.env.Wire.Now())
	s.conn.e.SendData(s.st, p, end)
	s.end(end)
	s.conn.dirty()
}

// Trailers implements Stream.
func (s *h2Stream) Trailers(f []head.Field) {
	if !s.open || s.st == nil || s.sentEnd {
		return
	}
	s.conn.e.SendTrailers(s.st, s.conn.encodeTrailers(f, s.http1))
	s.end(true)
	s.conn.dirty()
}

// Reset implements Stream.
func (s *h2Stream) Reset(code h2.ErrCode) {
	if s.open && s.st != nil {
		s.conn.e.Reset(s.st, code, false)
		s.conn.dirty()
	}
	had := s.x != nil
	s.x = nil
	if s.open {
		s.conn.forget(s)
	} else if had {
		s.conn.recycle(s)
	}
	s.conn.settled()
}

// Consume implements Stream.
func (s *h2Stream) Consume(n int) {
	if s.open && s.st != nil {
		s.conn.e.Consume(s.st, n)
		if s.conn.e.WantsOutput() {
			s.conn.dirty()
		}
	}
}

// Detach implements Stream.
func (s *h2Stream) Detach() {
	if s.x == nil {
		return
	}
	s.x = nil
	if !s.open {
		s.conn.recycle(s)
		return
	}
	if s.up && (!s.sentEnd || !s.gotEnd) && s.st != nil {
		// The response is whole and the rest of the request has no taker, or the
		// exchange is over before the server said all.
		s.conn.e.Reset(s.st, h2.ErrCodeCancel, false)
		s.conn.dirty()
		s.conn.forget(s)
	} else if !s.up && s.sentEnd && !s.gotEnd {
		// Nobody takes the rest of the request (RFC 9113, section 8.1).
		s.conn.e.Reset(s.st, h2.ErrCodeNo, false)
		s.conn.dirty()
		s.conn.forget(s)
	}
	s.conn.settled()
}

// end notes that our side of the stream has ended.
func (s *h2Stream) end(end bool) {
	if end {
		s.sentEnd = true
		s.bothEnded()
	}
}

// bothEnded lets go of a stream that has ended in both directions.
func (s *h2Stream) bothEnded() {
	if s.sentEnd && s.gotEnd {
		s.conn.forget(s)
		s.conn.settled()
	}
}

// fieldHTTP1 is the name of the reserved field.
var fieldHTTP1 = []byte(hop.FieldHTTP1)

// settled closes a connection that drains once its last stream is done.
func (k *h2Conn) settled() {
	if k.closing && !k.gone && k.e.ActiveStreams() == 0 {
		k.env.Wire.W.Soon((*h2Close)(k))
	}
}

// h2Close closes a drained connection outside of any event.
type h2Close h2Conn

// Run implements loop.Task.
func (k *h2Close) Run() {
	if !k.gone && k.e.ActiveStreams() == 0 {
		k.c.Close()
		k.side.drained()
	}
}
