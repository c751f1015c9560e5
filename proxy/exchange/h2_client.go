package exchange

import (
	"strings"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/h2"
	"github.com/tulle-mesh/tulle/proxy/head"
	"github.com/tulle-mesh/tulle/proxy/hop"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

// H2Owner is the pool that an HTTP/2 client connection belongs to.
type H2Owner interface {
	// Room says that the connection may have room for another stream.
	Room(c *H2Client)
	// Gone says that the connection takes no new streams.
	Gone(c *H2Client)
}

// H2Client is the client side of an HTTP/2 connection, to an application or to
// another proxy.
type H2Client struct {
	h2Conn
	p         *ClientParams
	owner     H2Owner
	alive     keepAlive
	IdleSince mono.Time
	left      bool // told the owner that no new streams are taken
}

// NewH2Client makes c an HTTP/2 client connection of owner.
func NewH2Client(p *ClientParams, cfg h2.Config, owner H2Owner, c *wire.Conn) *H2Client {
	cfg.Client, cfg.Hop, cfg.Pool = true, p.Hop, p.Env.Wire.Pool()
	now := p.Env.Wire.Now()
	k := &H2Client{p: p, owner: owner, IdleSince: now}
	k.h2Conn = h2Conn{env: p.Env, c: c, hop: p.Hop, lim: p.Limits, e: h2.New(cfg, now)}
	k.side = k
	c.SetUser(k)
	k.alive.start(&k.h2Conn, p.PingEvery, p.PingTimeout, func() {
		k.c.Abort()
		k.lost("no answer to PING")
	})
	k.dirty()
	return k
}

// CanOpen reports whether another stream may be opened now.
func (k *H2Client) CanOpen() bool { return !k.left && !k.gone && k.e.CanOpen() }

// Streams is the number of streams in use.
func (k *H2Client) Streams() int { return k.e.ActiveStreams() }

// Limit is how many streams the peer takes at once; false before it has said so.
func (k *H2Client) Limit() (n int, known bool) {
	streams, known := k.e.PeerStreams()
	return int(streams), known
}

// Assign carries x on a new stream.
func (k *H2Client) Assign(x *Exchange) {
	s := k.newStream(nil, true)
	s.x = x
	x.Opened(s)
}

// Retire ends the connection once its streams have ended.
func (k *H2Client) Retire() {
	k.leave()
	k.closing = true
	k.settled()
}

func (k *H2Client) leave() {
	if !k.left {
		k.left = true
		k.owner.Gone(k)
	}
}

// Received implements wire.User.
func (k *H2Client) Received(p []byte) {
	now := k.env.Wire.Now()
	k.alive.heard = now
	k.e.Feed(p)
	k.looping = true
	for !k.gone {
		ev, ok := k.e.Next(now)
		if !ok {
			break
		}
		k.event(&ev)
	}
	k.looping = false
	if k.gone {
		k.e.Close()
		return
	}
	k.e.Stash()
	k.settled() // also of a stream that nobody knew any more
	if k.e.WantsOutput() {
		k.dirty()
	}
	k.watch()
	k.filled()
}

// vacant implements h2Side. A PING and its answer are no use of the connection.
func (k *H2Client) vacant() { k.IdleSince = k.env.Wire.Now() }

// filled implements h2Side.
func (k *H2Client) filled() {
	if !k.left {
		k.owner.Room(k)
	}
}

func (k *H2Client) event(ev *h2.Event) {
	var s *h2Stream
	if ev.Stream != nil {
		s, _ = ev.Stream.User.(*h2Stream)
	}
	switch ev.Kind {
	case h2.EventInfo, h2.EventHead:
		k.response(s, ev)
	case h2.EventData:
		k.data(s, ev)
	case h2.EventTrailers:
		k.trailers(s, ev)
	case h2.EventReset:
		k.reset(s, ev)
	case h2.EventGoAway:
		k.Retire()
	case h2.EventError:
		k.c.Close()
		k.lost("bad response: " + ev.Err.Error())
	case h2.EventSettings, h2.EventPong:
	}
}

func (k *H2Client) response(s *h2Stream, ev *h2.Event) {
	if s == nil || s.x == nil {
		if s != nil && ev.End {
			s.gotEnd = true
			s.bothEnded()
		}
		return
	}
	h := ev.Head
	x := s.x
	if k.hop {
		if reason, ok := unprocessed(h); ok {
			s.x = nil
			k.e.Reset(ev.Stream, h2.ErrCodeCancel, false)
			k.forget(s)
			x.UpFailed(Failure{Code: h2.ErrCodeRefusedStream, Unprocessed: true, Connect: true, Reason: reason})
			return
		}
		why := h.Get(hop.FieldError)
		restored, err := k.restore(h)
		if err != nil {
			k.malformed(s, ev.Stream, err)
			return
		}
		if why != nil && restored != h { // as for HTTP/1, what is reserved was no part of it
			restored.Add([]byte(hop.FieldError), why)
		}
		h = restored
	}
	if ev.Kind == h2.EventInfo {
		x.ResponseInfo(h)
		return
	}
	s.gotEnd = ev.End
	x.ResponseHead(h, ev.End)
	s.bothEnded()
}

// unprocessed reads a peer proxy's word that it did not act on the request
// (rule R5.4), and its reason.
func unprocessed(h *head.Head) (string, bool) {
	if string(h.Get(hop.FieldUnprocessed)) != hop.Unprocessed {
		return "", false
	}
	if r := h.Get(hop.FieldError); r != nil {
		return strings.Clone(string(r)), true
	}
	return "not processed by the peer", true
}

func (k *H2Client) data(s *h2Stream, ev *h2.Event) {
	if s == nil || s.x == nil {
		k.e.Consume(ev.Stream, len(ev.Data))
		if s != nil && ev.End {
			s.gotEnd = true
			s.bothEnded()
		}
		return
	}
	x := s.x
	s.gotEnd = ev.End
	x.ResponseData(ev.Data, ev.End)
	s.bothEnded()
}

func (k *H2Client) trailers(s *h2Stream, ev *h2.Event) {
	if s == nil {
		return
	}
	s.gotEnd = true
	if err := k.restoreTrailers(ev.Head); err != nil {
		k.malformed(s, ev.Stream, err)
		return
	}
	if s.x != nil {
		s.x.ResponseTrailers(ev.Head)
	}
	s.bothEnded()
}

// malformed resets a stream because of what the server sent on it.
func (k *H2Client) malformed(s *h2Stream, es *h2.Stream, err error) {
	x := s.x
	s.x = nil
	k.e.Reset(es, h2.ErrCodeProtocol, true)
	k.forget(s)
	if x != nil {
		x.UpFailed(Failure{Code: h2.ErrCodeProtocol, Reason: "bad response: " + err.Error()})
	}
}

func (k *H2Client) reset(s *h2Stream, ev *h2.Event) {
	if s == nil {
		return
	}
	x := s.x
	s.x = nil
	k.forget(s)
	if x != nil {
		x.UpFailed(Failure{
			Code:        ev.Code,
			Unprocessed: ev.Unprocessed || ev.Code == h2.ErrCodeRefusedStream,
			Refused:     ev.Code == h2.ErrCodeRefusedStream && !k.e.GoingAway(),
			Reset:       true,
			Reason:      "stream reset: " + ev.Code.String(),
		})
	}
	k.settled()
}

// EOF implements wire.User.
func (k *H2Client) EOF() {
	k.lost("connection closed by the peer") // first: what was not sent must not leave now
	k.c.Close()
}

// Failed implements wire.User.
func (k *H2Client) Failed(err error) { k.lost(err.Error()) }

// drained implements h2Side: it forgets a connection that was closed after its last stream.
func (k *H2Client) drained() { k.lost("drained") }

// lost forgets a connection that is closed. Requests that were never given to
// the socket are known not to have been processed.
func (k *H2Client) lost(reason string) {
	if k.gone {
		return
	}
	k.gone = true
	k.leave()
	k.alive.stop()
	for s, ok := k.streams.First(); ok; s, ok = k.streams.First() {
		x := s.x
		s.x = nil
		fresh := s.st == nil || s.born == k.fills // not yet in the output
		k.forget(s)
		if x != nil {
			x.UpFailed(Failure{Code: h2.ErrCodeInternal, Unprocessed: fresh, Reason: reason})
		}
	}
	if !k.looping {
		k.e.Close()
	}
}

// Flushed implements wire.User.
func (k *h2Conn) Flushed(int) {}
