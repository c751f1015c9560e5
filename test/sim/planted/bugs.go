package main

// bug is a change to today's code that the simulation must notice.
type bug struct {
	name string
	file string
	// old must occur exactly once in file; new takes its place.
	old, new string
}

// rare is within how many seeds a bug must be found whose circumstances are rare.
var rare = map[string]int{
	"a draining connection closed before its last stream was told": 6000,
	"a policy change does not end tunnels":                         8000,
}

// bugs are the ten that are promised, and those that were found worth keeping.
var bugs = []bug{
	{
		"half-close dropped", "proxy/tunnel/tunnel.go",
		"	e.other.c.CloseWrite()\n", "",
	},
	{
		"a retry after bytes were delivered", "proxy/direct.go",
		"	if f.Unprocessed {\n		return true\n	}\n", "	if f.Unprocessed || f.Status == 0 {\n		return true\n	}\n",
	},
	{
		"connection window never returned", "proxy/h2/recv_data.go",
		"	c.connOwed += int64(n)\n", "	c.connOwed += 0 * int64(n)\n",
	},
	{
		"two streams crossed", "proxy/exchange/h2_client.go",
		"	case h2.EventData:\n		k.data(s, ev)\n", "	case h2.EventData:\n		if first, ok := k.streams.First(); ok && first.x != nil {\n			s = first\n		}\n		k.data(s, ev)\n",
	},
	{
		"a body cut at a buffer's edge ends cleanly", "proxy/h1/parser.go",
		"	p.state = stateFailed\n	return Event{Kind: EventError, Err: &Error{Reason: \"message cut short\", Truncated: true}}, true\n",
		"	if p.state == stateChunkSize && p.unread() == 0 {\n		p.state = stateDone\n		return Event{Kind: EventEnd}, true\n	}\n" +
			"	p.state = stateFailed\n	return Event{Kind: EventError, Err: &Error{Reason: \"message cut short\", Truncated: true}}, true\n",
	},
	{
		"a pooled connection reused before its response ended", "proxy/exchange/h1_client.go",
		"	if k.respDone { // the reset of another request would overtake what still leaves\n		k.respClose = true\n		k.done()\n	}\n", "	k.done()\n",
	},
	{
		"trailers lost", "proxy/exchange/response.go",
		"	x.down.Trailers(h.Fields)\n", "	x.down.Trailers(nil)\n",
	},
	{
		"an ejected last endpoint", "proxy/balance/eject.go",
		"return max(1, (n*b.cfg.FloorPercent+99)/100)", "return 0",
	},
	{
		"a reset swallowed", "proxy/tunnel/tunnel.go",
		"	e.t.over = true\n	e.other.c.Abort()\n", "	e.t.over = true\n	e.other.c.Close()\n",
	},
	{
		"a renewal that drops a request in flight", "proxy/exchange/h2_client.go",
		"	k.leave()\n	k.closing = true\n	k.settled()\n", "	k.leave()\n	k.closing = true\n	k.c.Close()\n	k.lost(\"retired\")\n",
	},
	// Bugs that the simulation has found.
	{
		"a tunnel's end that resets what still leaves", "proxy/exchange/h1_tunnel.go",
		"		s.x = nil // it ends by itself: a reset here would overtake what still leaves upstream\n", "",
	},
	{
		"a reset into a half-closed tunnel swallowed", "proxy/exchange/request.go",
		"x.flags.respEnd && !x.flags.tunnel", "x.flags.respEnd",
	},
	{
		"a drained connection that is never forgotten", "proxy/exchange/h2_stream.go",
		"		k.side.drained()\n", "",
	},
	{
		"a draining connection closed before its last stream was told", "proxy/exchange/h2_server.go",
		"	s.ending = true\n", "	s.ending, s.closing = true, true\n",
	},
}
