package wire

import (
	"iter"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// Keeper is a User that keeps bytes beside its connection's output.
type Keeper interface {
	// Oldest is since when it has kept what it has kept longest and could do
	// without; 0 when there is nothing.
	Oldest() mono.Time
	// Evict gives that up; false: only the connection's end would.
	Evict() bool
	// Forget gives up what only another attempt would need of requests that began
	// before t.
	Forget(t mono.Time)
}

// Conns are the connections that are open. The one that was yielded may be closed
// meanwhile, others may not.
func (e *Env) Conns() iter.Seq[*Conn] { return e.conns.All() }

// waits notes since when what leaves next has waited. Only when all has left that
// waited then is it younger: a peer that takes a byte now and then does not make
// it so.
func (c *Conn) waits() {
	switch n := c.Buffered(); {
	case n == 0:
		c.since = 0
	case c.since == 0 || c.wrote >= c.mark:
		c.since, c.mark = c.env.Now(), c.wrote+uint64(n)
	}
}

// Oldest is since when, at least, c or its user has kept what nobody takes; 0
// when there is nothing.
func (c *Conn) Oldest() mono.Time {
	k, ok := c.user.(Keeper)
	if !ok {
		return c.since
	}
	if t := k.Oldest(); t != 0 && (c.since == 0 || t < c.since) {
		return t
	}
	return c.since
}

// Forget has the user give up what only another attempt would need.
func (c *Conn) Forget(t mono.Time) {
	if k, ok := c.user.(Keeper); ok {
		k.Forget(t)
	}
}

// Evict gives up what c has kept longest: one stream of its user, or all of it
// where the peer does not even read. Reports whether c stands.
func (c *Conn) Evict() bool {
	k, ok := c.user.(Keeper)
	if ok {
		if t := k.Oldest(); t != 0 && (c.since == 0 || t < c.since) && k.Evict() {
			return true
		}
	}
	c.fail(ErrEvicted)
	return false
}
