package exchange

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
	"github.com/tulle-mesh/tulle/proxy/loop"
)

// keepAlive sends a PING on a hop that was quiet, and ends the connection when
// nothing answers (rule R1.1): TCP alone would keep it for as long as nobody writes.
type keepAlive struct {
	k              *h2Conn
	every, timeout time.Duration
	dead           func()
	timer          loop.Timer
	heard, pinged  mono.Time
}

const (
	timerPing uint8 = iota
	timerPong
)

func (a *keepAlive) start(k *h2Conn, every, timeout time.Duration, dead func()) {
	a.k, a.every, a.timeout, a.dead = k, every, timeout, dead
	a.heard = k.env.Wire.Now()
	if every > 0 {
		a.arm(a.heard.Add(every), timerPing)
	}
}

func (a *keepAlive) stop() { a.k.env.Wire.W.Cancel(&a.timer) }

func (a *keepAlive) arm(at mono.Time, kind uint8) { a.k.env.Wire.W.Arm(&a.timer, at, a, kind) }

// Expired implements loop.TimerHandler: a PING is due, or its answer is overdue.
func (a *keepAlive) Expired(_ *loop.Timer, kind uint8) {
	now := a.k.env.Wire.Now()
	switch {
	case a.k.gone:
	case kind == timerPing && now.Sub(a.heard) < a.every:
		a.arm(a.heard.Add(a.every), timerPing)
	case kind == timerPing:
		a.pinged = now
		a.k.e.Ping(now)
		a.k.dirty()
		a.arm(now.Add(a.timeout), timerPong)
	case a.heard >= a.pinged:
		a.arm(a.heard.Add(a.every), timerPing)
	default:
		a.dead()
	}
}
