package wire

import (
	"errors"
	"io"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// read takes at most ReadPerTurn bytes from the socket, less while memory is short.
func (c *Conn) read() {
	b := c.env.readRoom()
	c.readInto(b, len(b))
}

func (c *Conn) readInto(buf []byte, budget int) {
	for budget > 0 && c.readable() {
		n, err := c.sock.Read(buf)
		if n > 0 {
			budget -= n
			c.received(buf[:n])
		}
		switch {
		case err == nil && n > 0:
			if n < len(buf) {
				return
			}
		case errors.Is(err, loop.ErrAgain):
			return
		case errors.Is(err, io.EOF):
			if c.state != stateClosed {
				c.gotFIN()
			}
			return
		default:
			c.fail(err)
			return
		}
	}
}

func (c *Conn) readable() bool {
	switch c.state {
	case stateOpen:
		return !c.paused && !c.eof
	case stateHandshake:
		return !c.stepping
	case stateLinger:
		return !c.eof && c.lingered <= lingerBytes
	case stateConnecting, stateClosed:
	}
	return false
}

// readError finds out which error the poller saw on a connection whose bytes
// nobody wants now: a reset is passed on at once (R3.6).
func (c *Conn) readError() {
	for {
		n, err := c.sock.Read(c.env.read)
		if n > 0 && err == nil {
			continue
		}
		if err == nil || errors.Is(err, loop.ErrAgain) || errors.Is(err, io.EOF) {
			err = ErrTruncated
		}
		c.fail(err)
		return
	}
}

func (c *Conn) received(p []byte) {
	switch c.state {
	case stateHandshake:
		c.step(p)
	case stateLinger:
		if c.lingered += len(p); c.lingered <= lingerBytes {
			return
		}
		if c.finSent {
			c.shut(false)
			return
		}
		c.want() // the output first
	case stateOpen:
		if c.sess == nil {
			c.user.Received(p)
			return
		}
		c.sess.Feed(p)
		c.decrypt()
		if c.state == stateOpen {
			c.sess.Stash()
		}
	case stateConnecting, stateClosed:
	}
}

// decrypt hands plaintext to the user until the session runs dry or the user
// pauses.
func (c *Conn) decrypt() {
	for !c.paused && !c.eof && c.state == stateOpen {
		n, err := c.sess.Read(c.env.plain)
		if n > 0 {
			c.user.Received(c.env.plain[:n])
		}
		if c.state != stateOpen {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, mtls.ErrAgain):
			if len(c.sess.Output()) > 0 { // a key update, answered by the session itself
				c.Dirty()
			}
			return
		case errors.Is(err, io.EOF):
			c.gotEnd()
			return
		default:
			c.fail(err)
			return
		}
	}
}

// gotFIN handles the end of the socket's bytes. On TLS it is an end only after
// close_notify; otherwise the stream was cut.
func (c *Conn) gotFIN() {
	switch {
	case c.state == stateHandshake:
		c.fail(ErrTruncated)
	case c.state == stateLinger:
		c.eof = true
		if c.Buffered() == 0 && c.finSent {
			c.shut(false)
			return
		}
		c.want()
	case c.sess == nil:
		c.gotEnd()
	case c.eof:
		c.want()
	default:
		c.sess.FeedEOF()
		c.decrypt()
	}
}

func (c *Conn) gotEnd() {
	c.eof = true
	c.want()
	c.user.EOF()
}
