package metrics

import "github.com/tulle-mesh/tulle/internal/mono"

// TCP is the resolved set of one worker for connections under some labels. The gauge of open
// connections tells pods apart, the counters do not: they are in a set of their own, which outlives
// pods.
type TCP struct {
	base
	open  int64
	count *traffic
}

// traffic are the counters of connections.
type traffic struct {
	base
	open        int64 // not shown: keeps the set alive
	opened      uint64
	read, wrote uint64
	closed      []closed
}

// closed counts connections that ended in one way.
type closed struct {
	errno string
	n     uint64
}

// TCP finds or makes the set of l.
func (s *Store) TCP(l Labels, now mono.Time) *TCP {
	t := s.tcp.get(s, l, now)
	if t.count == nil {
		t.count = s.traffic.get(s, podless(t.labels), now)
	}
	return t
}

func podless(l Labels) Labels { l.Pod = ""; return l }

// live is the set to count in, with its counters.
func (t *TCP) live(now mono.Time) (*TCP, *traffic) {
	t = t.store.tcp.live(t)
	t.used = now
	if t.count == nil {
		t.count = t.store.traffic.get(t.store, podless(t.labels), now)
	}
	t.count = t.store.traffic.live(t.count)
	t.count.used = now
	return t, t.count
}

// Open counts a connection that was accepted (inbound) or made (outbound).
func (t *TCP) Open(now mono.Time) {
	t, c := t.live(now)
	t.open++
	c.open++
	c.opened++
}

// Close counts its end: the name of its errno, or empty for an orderly one.
func (t *TCP) Close(errno string, now mono.Time) {
	t, c := t.live(now)
	t.open--
	c.open--
	c.end(boundErrno(errno), 1)
}

// end counts n connections that ended with errno.
func (t *traffic) end(errno string, n uint64) {
	for i := range t.closed {
		if t.closed[i].errno == errno {
			t.closed[i].n += n
			return
		}
	}
	t.closed = append(t.closed, closed{errno, n})
}

// Read counts bytes that came from the peer. A connection that is open keeps its set.
func (t *TCP) Read(n int) { t.count.read += uint64(n) }

// Write counts bytes that went to it.
func (t *TCP) Write(n int) { t.count.wrote += uint64(n) }

// boundErrno lets through the errnos that connections end with; anything else is "other".
func boundErrno(errno string) string {
	switch errno {
	case "", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH",
		"EMFILE", "ENFILE", "EADDRNOTAVAIL", "EACCES", "TLS", "TRUNCATED", "POLICY", "TIMEOUT", "SHUTDOWN":
		return errno
	}
	return other
}
