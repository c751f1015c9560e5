package wire

import (
	"errors"
	"io"

	"github.com/tulle-mesh/tulle/proxy/loop"
)

// Append queues p for the end of this turn.
func (c *Conn) Append(p []byte) {
	if c.Closed() || len(p) == 0 {
		return
	}
	b := c.target()
	*b = c.env.Pool().Append(*b, p...)
	c.Dirty()
}

// Begin returns the output buffer for appending with n bytes of room; End takes
// it back. In between nothing else may touch the connection.
func (c *Conn) Begin(n int) []byte {
	if c.Closed() {
		return nil
	}
	b := c.target()
	if cap(*b)-len(*b) < n {
		g := c.env.Pool().Get(len(*b) + n)
		g = append(g, *b...)
		c.env.Pool().Put(*b)
		*b = g
	}
	return *b
}

// End takes back what Begin lent. A buffer that outgrew its room is moved into
// one that the pool knows.
func (c *Conn) End(b []byte) {
	t := c.target()
	if c.Closed() {
		return
	}
	if cap(b) == cap(*t) {
		*t = b
	} else {
		g := append(c.env.Pool().Get(len(b)), b...)
		c.env.Pool().Put(*t)
		*t = g
	}
	c.Dirty()
}

func (c *Conn) target() *[]byte {
	if c.sess != nil {
		return &c.plain
	}
	return &c.out
}

// Send writes p at once when nothing is queued before it, and queues the rest:
// the way of a tunnel's bytes.
func (c *Conn) Send(p []byte) {
	if c.Buffered() > 0 || c.state != stateOpen || c.sess != nil {
		c.Append(p)
		return
	}
	n, err := c.sock.Write(p)
	if err != nil && !errors.Is(err, loop.ErrAgain) {
		// The error is told from the flush, never from within a call of the user.
		n = 0
	}
	c.wrote += uint64(n)
	if n < len(p) {
		c.Append(p[n:])
	}
}

// CloseWrite half-closes after the output has left.
func (c *Conn) CloseWrite() {
	if !c.finWanted {
		c.finWanted = true
		c.Dirty()
	}
}

// Flush implements loop.Flusher: one write per turn.
func (c *Conn) Flush() {
	c.dirty = false
	if c.state == stateClosed || c.state == stateConnecting {
		return
	}
	before := c.Buffered()
	if !c.write() || c.state == stateHandshake {
		return
	}
	if len(c.out) == 0 {
		fill := c.pull()
		before += len(fill)
		if !c.leave(fill) {
			return
		}
	}
	c.flushed(before)
}

// pull has the user's output in the worker's scratch memory.
func (c *Conn) pull() []byte {
	room := High - c.Buffered()
	if c.filler == nil || room <= 0 {
		return nil
	}
	e := c.env
	e.fill = c.filler.Fill(e.fill[:0], room)
	return e.fill
}

// leave sends what waits, and fill after it, from where it lies: only what the
// socket does not take is copied. It reports whether the connection stands.
func (c *Conn) leave(fill []byte) bool {
	if b := c.target(); len(fill) > 0 && len(*b) > 0 { // both: in as few records as can be
		*b = c.env.Pool().Append(*b, fill...)
		fill = nil
	}
	if c.sess == nil {
		return c.direct(fill)
	}
	p := fill
	if len(c.plain) > 0 {
		p = c.plain
	}
	if len(p) == 0 {
		c.takeCipher()
		return c.write()
	}
	out, err := c.sess.Seal(c.env.cipherRoom(len(c.sess.Output())+len(p)), p)
	if err != nil {
		c.fail(err)
		return false
	}
	c.env.Pool().Put(c.plain)
	c.plain = nil
	return c.direct(out)
}

// direct writes p, behind what waits for the socket, and keeps what is left.
func (c *Conn) direct(p []byte) bool {
	if len(p) > 0 && len(c.out) == 0 && c.broken == nil {
		n, err := c.sock.Write(p)
		c.wrote += uint64(n)
		if err != nil && !errors.Is(err, loop.ErrAgain) {
			c.cannotWrite(err)
			return false
		}
		p = p[n:]
	}
	if len(p) > 0 {
		c.out = c.env.Pool().Append(c.out, p...)
	}
	return c.write()
}

func (c *Conn) flushed(before int) {
	if len(c.out) == 0 && len(c.plain) == 0 {
		c.finish()
		if c.state == stateClosed {
			return
		}
	}
	if c.Buffered() < before {
		c.user.Flushed(c.Buffered())
	}
	if c.filler != nil && len(c.out) == 0 && c.filler.Wants() {
		c.env.W.Soon((*again)(c))
	}
}

// again flushes once more in the next turn.
type again Conn

// Run implements loop.Task.
func (a *again) Run() { (*Conn)(a).Dirty() }

// fillNow queues the user's last output: nothing is pulled once the connection closes.
func (c *Conn) fillNow() {
	if fill := c.pull(); len(fill) > 0 {
		b := c.target()
		*b = c.env.Pool().Append(*b, fill...)
	}
}

// takeCipher moves what the session wants to send by itself behind out.
func (c *Conn) takeCipher() {
	if n := len(c.sess.Output()); n > 0 {
		b := c.env.Pool().Get(len(c.out) + n)
		b = append(b, c.out...)
		b = c.sess.Take(b)
		c.env.Pool().Put(c.out)
		c.out = b
	}
}

// write moves out into the socket; it reports whether the connection stands.
func (c *Conn) write() bool {
	if c.broken != nil {
		return false
	}
	for len(c.out) > 0 {
		n, err := c.sock.Write(c.out)
		c.wrote += uint64(n)
		if n == len(c.out) {
			c.env.Pool().Put(c.out)
			c.out = nil
			break
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
		if errors.Is(err, loop.ErrAgain) {
			break
		}
		if err != nil {
			c.cannotWrite(err)
			return false
		}
	}
	if full := len(c.out) > 0; full != c.wantOut {
		c.wantOut = full
		c.want()
	}
	return true
}

// cannotWrite tells of a write error after what the peer sent before it went
// away: an answer to a request that it did not want to read to its end (RFC 9112,
// section 9.5).
func (c *Conn) cannotWrite(err error) {
	if c.state != stateOpen || !c.readable() {
		c.fail(err)
		return
	}
	c.broken = err
	c.env.W.Soon((*lastRead)(c))
}

// lastRead reads what is left on a connection that cannot be written to.
type lastRead Conn

// Run implements loop.Task.
func (l *lastRead) Run() {
	c := (*Conn)(l)
	for range lastReads {
		if c.state != stateOpen || !c.readable() {
			break
		}
		n, err := c.sock.Read(c.env.read)
		if n > 0 {
			c.received(c.env.read[:n])
		}
		if errors.Is(err, io.EOF) && c.state == stateOpen {
			c.gotFIN()
		}
		if err != nil {
			break
		}
	}
	c.fail(c.broken)
}

// finish half-closes when that is wanted and nothing is left to send. Under TLS
// close_notify is the half-close; the socket's own FIN follows when the
// connection closes.
func (c *Conn) finish() {
	if !c.finWanted || c.finSent || c.state == stateHandshake {
		return
	}
	if c.sess != nil && !c.notified {
		c.notified = true
		c.sess.CloseNotify()
		c.takeCipher()
		if !c.write() || len(c.out) > 0 {
			return
		}
	}
	if c.sess != nil && c.state != stateLinger {
		return
	}
	c.finSent = true
	if err := c.sock.CloseWrite(); err != nil && c.state != stateLinger {
		c.fail(err)
		return
	}
	if c.state != stateLinger {
		return
	}
	if c.eof {
		c.shut(false)
		return
	}
	c.lingered = 0
	c.want()
	c.arm(timerLinger, lingerTime)
}
