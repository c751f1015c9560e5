package admin

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// mostConns is how many connections the door holds. It is open to the network (R12.5), and what it takes,
// file descriptors above all, is missing at the data's doors.
const mostConns = 64

// crowd bounds a server's connections. When one comes too many, the one goes that has waited longest
// for a request: whoever opens many and says nothing loses them, and the kubelet's probe gets through.
type crowd struct {
	most int // immutable

	mu      sync.Mutex // guards the rest
	waiting *list.List // of net.Conn: no request is under way; the oldest first
	at      map[net.Conn]*list.Element
	active  int
}

func newCrowd(most int) *crowd {
	return &crowd{most: most, waiting: list.New(), at: map[net.Conn]*list.Element{}}
}

// note is an http.Server's ConnState.
func (c *crowd) note(conn net.Conn, s http.ConnState) {
	if over := c.moved(conn, s); over != nil {
		over.Close() // the server hears of it
	}
}

// moved keeps account of conn, and returns whom to close.
func (c *crowd) moved(conn net.Conn, s http.ConnState) (over net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, known := c.at[conn]
	switch {
	case e != nil:
		c.waiting.Remove(e)
	case known:
		c.active--
	}
	switch s {
	case http.StateNew, http.StateIdle:
		c.at[conn] = c.waiting.PushBack(conn)
	case http.StateActive:
		c.at[conn] = nil
		c.active++
	case http.StateHijacked, http.StateClosed:
		delete(c.at, conn)
	}
	if c.active+c.waiting.Len() <= c.most || c.waiting.Len() == 0 {
		return nil
	}
	return c.waiting.Front().Value.(net.Conn)
}
