package h2

import (
	"encoding/binary"

	"github.com/tulle-mesh/tulle/proxy/head"
)

// Open starts a stream with a request head (client role); end: no body follows.
// A head with Upgrade becomes an extended CONNECT (RFC 8441).
func (c *Conn) Open(h *head.Head, end bool, user any) (*Stream, error) {
	return c.OpenWith(h, nil, end, user)
}

// OpenWith is Open with fields that follow those of h.
func (c *Conn) OpenWith(h *head.Head, extra []head.Field, end bool, user any) (*Stream, error) {
	switch {
	case !c.CanOpen():
		return nil, ErrNoCapacity
	case h.Upgrade != nil && !c.peerExtended && !c.cfg.Hop:
		return nil, ErrNoExtendedConnect
	case c.peerHeaderList != 0 && uint64(headRoom(h, extra)) > uint64(c.peerHeaderList) && c.listSize(h, extra) > int64(c.peerHeaderList):
		return nil, ErrHeadTooLarge
	}
	s := c.newStream(c.nextID)
	c.nextID += 2
	s.User = user
	s.sentHead = true
	s.headReq = string(h.Method) == "HEAD"
	s.extended = h.Upgrade != nil
	s.tunnel = s.extended || h.IsConnect()
	s.sendEnd, s.sentEnd = end, end
	c.writeRequest(s, h, extra, end)
	return s, nil
}

// listSize is the size of a request's field section as RFC 9113, section 6.5.2
// counts it.
func (c *Conn) listSize(h *head.Head, extra []head.Field) int64 {
	n := len(":method") + len(":scheme") + len(":authority") + len(":path") + 4*32
	n += len(h.Method) + max(len(h.Scheme), 4) + len(h.Authority) + len(h.Target)
	for _, fields := range [2][]head.Field{h.Fields, extra} {
		for i := range fields {
			n += len(fields[i].Name) + len(fields[i].Value) + 32
		}
	}
	return int64(n)
}

// CanOpen reports whether Open has a stream left.
func (c *Conn) CanOpen() bool {
	return c.cfg.Client && !c.GoingAway() && c.nextID <= maxStreamID && c.table.n < int(c.peerStreams)
}

// SendHead sends the final response head (server role).
func (c *Conn) SendHead(s *Stream, h *head.Head, end bool) { c.SendHeadWith(s, h, nil, end) }

// SendHeadWith is SendHead with fields that follow those of h.
func (c *Conn) SendHeadWith(s *Stream, h *head.Head, extra []head.Field, end bool) {
	if s.closed || s.sentHead {
		return
	}
	s.sentHead = true
	c.writeResponse(s, h, extra, end)
	if end {
		s.sendEnd = true
		c.ended(s)
	}
}

// SendInfo sends an interim response (1xx, not 101).
func (c *Conn) SendInfo(s *Stream, h *head.Head) { c.SendInfoWith(s, h, nil) }

// SendInfoWith is SendInfo with fields that follow those of h.
func (c *Conn) SendInfoWith(s *Stream, h *head.Head, extra []head.Field) {
	if s.closed || s.sentHead {
		return
	}
	c.writeResponse(s, h, extra, false)
}

// SendData queues a copy of p on the stream, behind its head; the owner bounds
// the queue by the credit that it gives its source.
func (c *Conn) SendData(s *Stream, p []byte, end bool) {
	if s.closed || s.sendEnd {
		return
	}
	if !s.sentHead {
		panic("BUG: DATA before HEADERS")
	}
	if s.queue.n == 0 {
		s.since, s.ahead = c.now, len(p)
	}
	s.queue.push(p, c.pool, c.sh)
	s.sendEnd = end
	c.schedule(s)
}

// SendTrailers queues trailers, which leave after the data and end the stream.
// Without fields it ends the stream.
func (c *Conn) SendTrailers(s *Stream, f []head.Field) {
	switch {
	case s.closed || s.sendEnd:
		return
	case len(f) == 0:
		c.SendData(s, nil, true)
		return
	case !s.sentHead:
		panic("BUG: trailers before HEADERS")
	}
	s.sendEnd = true
	if s.queue.n == 0 {
		c.writeTrailers(s.ID, f)
		c.ended(s)
		return
	}
	s.trailers = c.packFields(f)
	c.schedule(s)
}

// packFields copies fields into one slab buffer: flags, both lengths, both
// strings, one after the other.
func (c *Conn) packFields(f []head.Field) []byte {
	n := 0
	for i := range f {
		n += 9 + len(f[i].Name) + len(f[i].Value)
	}
	b := c.pool.Get(n)
	for i := range f {
		flag := byte(0)
		if f[i].Sensitive {
			flag = 1
		}
		b = append(b, flag)
		b = binary.BigEndian.AppendUint32(b, uint32(len(f[i].Name)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(f[i].Value)))
		b = append(append(b, f[i].Name...), f[i].Value...)
	}
	return b
}

// unpackField takes the first field off b.
func unpackField(b []byte) (f head.Field, rest []byte) {
	n, v := binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:])
	f.Sensitive = b[0] == 1
	b = b[9:]
	f.Name, f.Value = b[:n:n], b[n:n+v:n+v]
	return f, b[n+v:]
}

// Reset ends the stream at once: what is queued is discarded, except when code
// is NO_ERROR and our side has ended: then RST_STREAM follows the queue (RFC
// 9113, section 8.1). No event and no Drained follows; the owner lets go of s.
// peersFault counts against the peer's budget (R4.5, MadeYouReset).
func (c *Conn) Reset(s *Stream, code ErrCode, peersFault bool) {
	if s.closed || s.muted || c.err != nil {
		return
	}
	if peersFault && !c.spendReset() {
		return
	}
	s.User = nil
	if code == ErrCodeNo && s.sendEnd && !s.sentEnd {
		s.muted, s.rstLater, s.drained = true, true, 0
		if c.data.s == s {
			c.data.s = nil
		}
		return
	}
	c.rst(s.ID, code)
	c.abort(s)
}

// Queued is the number of body bytes of s not yet written by Output.
func (c *Conn) Queued(s *Stream) int { return s.queue.n }

// ended notes that END_STREAM of s is in the output.
func (c *Conn) ended(s *Stream) {
	s.sentEnd = true
	c.closeIfDone(s)
}
