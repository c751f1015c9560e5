package exchange

import (
	"errors"

	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/metrics"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// H2Server is the server side of an HTTP/2 connection, from an application or
// from another proxy.
type H2Server struct {
	h2Conn
	p     *ServerParams
	timer loop.Timer
	alive keepAlive
	phase uint8
	idle  bool
	// ending: the client was told to open no more streams. The connection closes
	// (closing) only after the last stream's number was told too: until then the
	// client may have opened one that is still on its way (R4.3, R11.2).
	ending bool
}

const (
	h2TimerIdle uint8 = iota
	h2TimerAge
	h2TimerGoAway
)

// goAwayGrace is the time between the announcement of a GOAWAY and its last
// stream id: a round trip and more.
const goAwayGrace = 1_000_000_000

// ServeH2 makes c an HTTP/2 server connection; early is what was read already.
func ServeH2(p *ServerParams, cfg h2.Config, c *wire.Conn, early []byte) *H2Server {
	cfg.Client, cfg.Hop, cfg.Pool = false, p.Hop, p.Env.Wire.Pool()
	s := &H2Server{p: p}
	s.h2Conn = h2Conn{env: p.Env, c: c, hop: p.Hop, lim: p.Limits, e: h2.New(cfg, p.Env.Wire.Now())}
	s.side = s
	c.SetUser(s)
	s.rest()
	if p.MaxAge > 0 {
		s.env.Wire.W.Arm(&s.timer, s.env.Wire.Now().Add(p.MaxAge), s, h2TimerAge)
		s.phase = h2TimerAge
	}
	s.alive.start(&s.h2Conn, p.PingEvery, p.PingEvery, func() {
		s.c.Abort()
		s.lost(h2.ErrCodeCancel)
	})
	s.dirty()
	if len(early) > 0 {
		s.Received(early)
	}
	return s
}

// Received implements wire.User.
func (s *H2Server) Received(p []byte) {
	now := s.env.Wire.Now()
	s.alive.heard = now
	s.e.Feed(p)
	s.looping = true
	for !s.gone {
		ev, ok := s.e.Next(now)
		if !ok {
			break
		}
		s.event(&ev)
	}
	s.looping = false
	if s.gone {
		s.e.Close()
		return
	}
	s.e.Stash()
	s.settled() // also of a stream that nobody knew any more
	s.rest()
	if s.e.WantsOutput() {
		s.dirty()
	}
	s.watch()
}

func (s *H2Server) event(ev *h2.Event) {
	st, _ := (*h2Stream)(nil), 0
	if ev.Stream != nil {
		st, _ = ev.Stream.User.(*h2Stream)
	}
	switch ev.Kind {
	case h2.EventHead:
		s.request(ev)
	case h2.EventData:
		s.data(st, ev)
	case h2.EventTrailers:
		s.trailers(st, ev)
	case h2.EventReset:
		s.reset(st, ev)
	case h2.EventError:
		s.p.Front.Refused(brokenBy(ev.Err.Code), ev.Err.Error())
		s.fail(ev.Err.Code)
	case h2.EventRefused:
		s.p.Front.Refused(refusedStream(ev))
	case h2.EventInfo, h2.EventGoAway, h2.EventSettings, h2.EventPong:
	}
}

func (s *H2Server) request(ev *h2.Event) {
	st := s.newStream(ev.Stream, false)
	ev.Stream.User = st
	st.gotEnd = ev.End
	h := ev.Head
	if s.hop {
		restored, err := s.restore(h)
		if err != nil {
			s.p.Front.Refused(metrics.RefusedMalformed, err.Error())
			s.malformed(st, ev.Stream)
			return
		}
		h = restored
	}
	dir, local := s.p.Front.Request(h)
	x := s.env.Begin(st, dir, h, ev.End)
	x.Local, x.Peer = local, s.hop
	st.x = x
	x.Go()
}

// restore rebuilds a head that crossed the hop as HTTP/1 (rule R5.3).
func (k *h2Conn) restore(h *head.Head) (*head.Head, error) {
	buf, err := hop.Restore(k.buf[:0], h, k.lim, &k.got)
	k.buf = buf
	switch {
	case errors.Is(err, hop.ErrPlain):
		return h, nil
	case err != nil:
		return nil, err
	}
	return &k.got, nil
}

func (s *H2Server) data(st *h2Stream, ev *h2.Event) {
	if st == nil || st.x == nil {
		s.e.Consume(ev.Stream, len(ev.Data))
		if st != nil && ev.End {
			st.gotEnd = true
			st.bothEnded()
		}
		return
	}
	x := st.x
	st.gotEnd = ev.End
	x.RequestData(ev.Data, ev.End)
	st.bothEnded()
}

func (s *H2Server) trailers(st *h2Stream, ev *h2.Event) {
	if st == nil {
		return
	}
	st.gotEnd = true
	if err := s.restoreTrailers(ev.Head); err != nil {
		s.p.Front.Refused(metrics.RefusedMalformed, err.Error())
		s.malformed(st, ev.Stream)
		return
	}
	if st.x != nil {
		st.x.RequestTrailers(ev.Head)
	}
	st.bothEnded()
}

// malformed resets a stream because of what the peer sent on it.
func (s *H2Server) malformed(st *h2Stream, es *h2.Stream) {
	x := st.x
	st.x = nil
	s.e.Reset(es, h2.ErrCodeProtocol, true)
	s.forget(st)
	if x != nil {
		x.DownReset(h2.ErrCodeProtocol)
	}
}

func (s *H2Server) reset(st *h2Stream, ev *h2.Event) {
	if st == nil {
		return
	}
	if ev.Local {
		s.p.Front.Refused(metrics.RefusedMalformed, ev.Reason)
	}
	x := st.x
	st.x = nil
	s.forget(st)
	if x != nil {
		x.DownReset(ev.Code)
	}
	s.settled()
}

// EOF implements wire.User.
func (s *H2Server) EOF() {
	s.fail(h2.ErrCodeCancel)
}

// Failed implements wire.User.
func (s *H2Server) Failed(error) { s.lost(h2.ErrCodeCancel) }

// fail closes the connection after a breach of protocol; GOAWAY leaves first.
func (s *H2Server) fail(code h2.ErrCode) {
	if s.gone {
		return
	}
	s.c.Close()
	s.lost(code)
}

// vacant implements h2Side.
func (s *H2Server) vacant() { s.rest() }

// filled implements h2Side.
func (s *H2Server) filled() {}

// drained implements h2Side: it forgets a connection that was closed after its last stream.
func (s *H2Server) drained() { s.lost(h2.ErrCodeNo) }

// lost forgets a connection that is closed.
func (s *H2Server) lost(code h2.ErrCode) {
	if s.gone {
		return
	}
	s.gone = true
	s.env.Wire.W.Cancel(&s.timer)
	s.alive.stop()
	for st, ok := s.streams.First(); ok; st, ok = s.streams.First() {
		x := st.x
		st.x = nil
		s.forget(st)
		if x != nil {
			x.DownReset(code)
		}
	}
	if !s.looping {
		s.e.Close()
	}
	s.p.Front.Closed()
}

// rest starts or stops the idle timer with the number of streams.
func (s *H2Server) rest() {
	idle := s.streams.Empty()
	if idle == s.idle || s.phase != h2TimerIdle {
		return
	}
	s.idle = idle
	w := s.env.Wire.W
	if idle && s.p.IdleTimeout > 0 {
		w.Arm(&s.timer, w.Now().Add(s.p.IdleTimeout), s, h2TimerIdle)
	} else {
		w.Cancel(&s.timer)
	}
}

// Drain ends the connection gracefully: no new requests, those in flight finish.
func (s *H2Server) Drain() {
	if s.ending || s.gone {
		return
	}
	s.ending = true
	now := s.env.Wire.Now()
	s.e.GoAway(h2.ErrCodeNo, true, now)
	s.phase = h2TimerGoAway
	s.env.Wire.W.Arm(&s.timer, now.Add(goAwayGrace), s, h2TimerGoAway)
	s.dirty()
}

// Expired implements loop.TimerHandler.
func (s *H2Server) Expired(_ *loop.Timer, kind uint8) {
	if s.gone {
		return
	}
	switch kind {
	case h2TimerIdle:
		if !s.streams.Empty() {
			s.idle = false
			return
		}
		s.Drain()
	case h2TimerAge:
		s.Drain()
	case h2TimerGoAway:
		s.closing = true
		s.e.GoAway(h2.ErrCodeNo, true, s.env.Wire.Now())
		s.dirty()
		s.settled()
	}
}
