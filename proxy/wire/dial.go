package wire

import (
	"errors"
	"net/netip"
	"time"

	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// Dial begins a connection to addr. ready is called once, from a later turn or
// from within Dial, with nil when the connection is established and with the
// error otherwise; the user hears nothing before.
func Dial(env *Env, addr netip.AddrPort, opts DialParams) *Conn {
	c := &Conn{env: env, state: stateConnecting, ready: opts.Ready, Info: Info{Remote: addr}}
	c.SetUser(opts.User)
	c.token = env.W.Register(c)
	env.conns.Add(&c.link, c)
	env.open++
	sock, err := env.W.Poller().Dial(addr, loop.DialOptions{UserTimeout: opts.UserTimeout}, c.token)
	if err != nil {
		c.sock = closedSocket{}
		env.W.Soon(&dialError{c, err})
		return c
	}
	c.sock = sock
	c.want()
	c.arm(timerConnect, opts.Timeout)
	return c
}

// DialParams are the parameters of Dial.
type DialParams struct {
	User User
	// Ready hears the outcome.
	Ready func(error)
	// Timeout bounds the connecting.
	Timeout time.Duration
	// UserTimeout is TCP_USER_TIMEOUT; 0 leaves it off (R1.1).
	UserTimeout time.Duration
}

// dialError tells of a dial that failed at once, in a turn of its own.
type dialError struct {
	c   *Conn
	err error
}

// Run implements loop.Task.
func (d *dialError) Run() { d.c.fail(d.err) }

func (c *Conn) connected() {
	if ce, ok := c.sock.(loop.Connecting); ok {
		switch err := ce.ConnectError(); {
		case errors.Is(err, loop.ErrAgain):
			return // told without cause
		case err != nil:
			c.fail(err)
			return
		}
	}
	c.state = stateOpen
	c.env.W.Cancel(&c.timer)
	c.want()
	ready := c.ready
	c.ready = nil
	ready(nil)
	if c.state == stateOpen && (c.Buffered() > 0 || c.filler != nil) {
		c.Dirty()
	}
}

// Secure runs a TLS handshake; early is what was read of the peer's bytes
// already. ready is called once with the outcome, the user hears nothing
// before. On failure the connection is closed.
func (c *Conn) Secure(sess *mtls.Session, early []byte, timeout time.Duration, ready func(error)) {
	if c.Closed() {
		return
	}
	c.sess, c.ready = sess, ready
	c.state = stateHandshake
	if c.env.shakes >= c.env.MaxHandshakes {
		c.env.shakes++ // taken back when the connection is shut
		c.env.W.Soon(&dialError{c, ErrTooManyHandshakes})
		c.stepping = false
		c.paused = true
		c.want()
		return
	}
	c.env.shakes++
	c.paused = false
	c.arm(timerHandshake, timeout)
	c.step(early)
}

// step runs one step of the handshake off the worker; reading rests meanwhile.
func (c *Conn) step(in []byte) {
	c.stepping = true
	c.want()
	s := &shake{c: c, in: append([]byte(nil), in...)}
	c.env.W.Offload(s.run, s.done)
}

// shake is one handshake step.
type shake struct {
	c        *Conn
	in, out  []byte
	finished bool
	err      error
}

func (s *shake) run() { s.out, s.finished, s.err = s.c.sess.Step(s.in) }

func (s *shake) done() {
	c := s.c
	c.stepping = false
	if c.state != stateHandshake { // closed meanwhile
		return
	}
	if len(s.out) > 0 {
		c.out.append(s.out, c.env.Pool())
		c.Dirty()
	}
	switch {
	case s.err != nil:
		c.write() // the alert, as far as the socket takes it now
		c.fail(s.err)
	case s.finished:
		c.secured()
	default:
		c.want()
	}
}

func (c *Conn) secured() {
	c.env.shakes--
	c.env.W.Cancel(&c.timer)
	c.state = stateOpen
	c.want()
	ready := c.ready
	c.ready = nil
	ready(nil)
	if c.state == stateOpen {
		c.Dirty()
		c.later() // what came with the handshake's last bytes
	}
}

// closedSocket stands in for a socket that could not be made.
type closedSocket struct{}

func (closedSocket) Read([]byte) (int, error)  { return 0, ErrTruncated }
func (closedSocket) Write([]byte) (int, error) { return 0, ErrTruncated }
func (closedSocket) Want(bool, bool)           {}
func (closedSocket) CloseWrite() error         { return nil }
func (closedSocket) Close(bool)                {}
