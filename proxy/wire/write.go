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
	c.target().append(p, c.env.Pool())
	c.Dirty()
}

// Begin returns the output buffer for appending with n bytes of room; End takes
// it back. In between nothing else may touch the connection.
func (c *Conn) Begin(n int) []byte {
	if c.Closed() {
		return nil
	}
	return c.target().begin(n, c.env.Pool())
}

// End takes back what Begin lent.
func (c *Conn) End(b []byte) {
	if c.Closed() {
		return
	}
	c.target().end(b, c.env.Pool())
	c.Dirty()
}

func (c *Conn) target() *buffer {
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
	if c.out.n == 0 {
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
	if b := c.target(); len(fill) > 0 && b.n > 0 { // both: in as few records as can be
		b.append(fill, c.env.Pool())
		fill = nil
	}
	if c.sess == nil {
		return c.direct(fill)
	}
	if c.plain.n+len(fill) == 0 {
		c.takeCipher()
		return c.write()
	}
	out, err := c.seal(fill)
	if err != nil {
		c.fail(err)
		return false
	}
	return c.direct(out)
}

// seal encrypts fill, or what waits for encryption, in scratch memory.
func (c *Conn) seal(fill []byte) (out []byte, err error) {
	b := &c.plain
	out = c.env.cipherRoom(len(c.sess.Output())+b.n+len(fill), 2+len(b.more))
	if len(fill) > 0 {
		return c.sess.Seal(out, fill)
	}
	for b.n > 0 && err == nil {
		p := b.head()
		out, err = c.sess.Seal(out, p)
		b.drop(len(p), c.env.Pool())
	}
	return out, err
}

// direct writes p, behind what waits for the socket, and keeps what is left.
func (c *Conn) direct(p []byte) bool {
	if len(p) > 0 && c.out.n == 0 && c.broken == nil {
		n, err := c.sock.Write(p)
		c.wrote += uint64(n)
		if err != nil && !errors.Is(err, loop.ErrAgain) {
			c.cannotWrite(err)
			return false
		}
		p = p[n:]
	}
	c.out.append(p, c.env.Pool())
	return c.write()
}

func (c *Conn) flushed(before int) {
	c.waits()
	if c.Buffered() == 0 {
		c.finish()
		if c.state == stateClosed {
			return
		}
	}
	if c.Buffered() < before {
		c.user.Flushed(c.Buffered())
	}
	if c.filler != nil && c.out.n == 0 && c.filler.Wants() {
		c.env.W.Soon((*again)(c))
	}
}

// again flushes once more in the next turn.
type again Conn

// Run implements loop.Task.
func (a *again) Run() { (*Conn)(a).Dirty() }

// fillNow queues the user's last output: nothing is pulled once the connection closes.
func (c *Conn) fillNow() {
	c.target().append(c.pull(), c.env.Pool())
}

// takeCipher moves what the session wants to send by itself behind out.
func (c *Conn) takeCipher() {
	if n := len(c.sess.Output()); n > 0 {
		c.out.end(c.sess.Take(c.out.begin(n, c.env.Pool())), c.env.Pool())
	}
}

// write moves out into the socket; it reports whether the connection stands.
func (c *Conn) write() bool {
	if c.broken != nil {
		return false
	}
	for c.out.n > 0 {
		p := c.out.head()
		n, err := c.sock.Write(p)
		c.wrote += uint64(n)
		c.out.drop(n, c.env.Pool())
		if n == len(p) || err == nil {
			continue
		}
		if errors.Is(err, loop.ErrAgain) {
			break
		}
		c.cannotWrite(err)
		return false
	}
	if full := c.out.n > 0; full != c.wantOut {
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
		if !c.write() || c.out.n > 0 {
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
