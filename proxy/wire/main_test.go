package wire_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/loop/simnet"
	"github.com/tulle-mesh/tulle/proxy/slab"
	"github.com/tulle-mesh/tulle/proxy/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

var (
	hereIP  = netip.MustParseAddr("10.0.0.1")
	thereIP = netip.MustParseAddr("10.0.0.2")
	here    = netip.AddrPortFrom(hereIP, 80)
	there   = netip.AddrPortFrom(thereIP, 80)
)

// rig is a worker with connections on one host of a simulated net, and plain
// endpoints on the other.
type rig struct {
	t    *testing.T
	w    *simnet.World
	env  *wire.Env
	far  *simnet.Host
	conn *wire.Conn // the last that was accepted
	user *user
	sock func(loop.Socket) loop.Socket
	l    loop.Listener
}

func newRig(t *testing.T, cfg simnet.Config) *rig {
	w := simnet.New(cfg)
	r := &rig{t: t, w: w, far: w.Host(thereIP)}
	p := w.Host(hereIP).NewPoller()
	worker := loop.NewWorker(unwrapping{p}, loop.Config{Rand: w.NewRand(), Pool: slab.NewPool(nil)})
	r.env = wire.NewEnv(worker, 0)
	l, err := p.Listen(here, loop.ListenOptions{}, worker.Register(r))
	if err != nil {
		t.Fatal(err)
	}
	r.l = l
	w.Drive(p, worker)
	return r
}

// unwrapping attaches what is inside a failing socket.
type unwrapping struct{ *simnet.Poller }

func (u unwrapping) Attach(s loop.Socket, t loop.Token) {
	if f, ok := s.(*failing); ok {
		s = f.Socket
	}
	u.Poller.Attach(s, t)
}

// Ready implements loop.Handler.
func (r *rig) Ready(loop.Ready) {
	for {
		s, a, err := r.l.Accept()
		if err != nil {
			return
		}
		if r.sock != nil {
			s = r.sock(s)
		}
		r.user = &user{}
		r.conn = wire.Accept(r.env, s, wire.Info{Remote: a.Remote, Local: a.Local}, r.user)
	}
}

// do runs f in a turn of the worker.
func (r *rig) do(f func()) {
	r.env.W.Post(f)
	r.run(10 * time.Microsecond)
}

func (r *rig) run(d time.Duration) { r.w.Run(r.w.Now().Add(d)) }

// peer dials the worker.
func (r *rig) peer() *peer {
	p := &peer{}
	p.e = r.far.Dial(here, p.callbacks())
	r.run(time.Millisecond)
	return p
}

// nothingHeld checks that all connections are gone and all memory is back.
func (r *rig) nothingHeld() {
	r.t.Helper()
	if n, held := r.env.Open(), r.env.Pool().InUse(); n != 0 || held != 0 {
		r.t.Errorf("%d connections open, %d bytes held", n, held)
	}
}

// user notes what a connection tells.
type user struct {
	got      []byte
	eof      bool
	err      error
	received func(p []byte)
}

func (u *user) Received(p []byte) {
	u.got = append(u.got, p...)
	if u.received != nil {
		u.received(p)
	}
}
func (u *user) EOF()             { u.eof = true }
func (u *user) Failed(err error) { u.err = err }
func (u *user) Flushed(int)      {}

// peer notes what an endpoint sees.
type peer struct {
	e   *simnet.Endpoint
	got []byte
	eof bool
	err error
}

func (p *peer) callbacks() simnet.Callbacks {
	return simnet.Callbacks{
		Data:   func(_ *simnet.Endpoint, b []byte) { p.got = append(p.got, b...) },
		EOF:    func(*simnet.Endpoint) { p.eof = true },
		Failed: func(_ *simnet.Endpoint, err error) { p.err = err },
	}
}
