package h2

import "github.com/tulle-mesh/tulle/internal/mono"

// Stream is one stream of a Conn. The owner gets it from EventHead or Open and
// may use it until EventReset, its own Reset, or until both ends have ended and
// Drained has reported that nothing is queued. Calls on a closed stream do
// nothing as long as the turn lasts; afterwards its memory serves another.
type Stream struct {
	ID uint32
	// User is the owner's.
	User any

	// Receiving: size = recvWin + held + owed, in bytes.
	recvWin  int32 // what the peer may still send; negative after a smaller SETTINGS
	size     int32 // of the window
	held     int32 // handed to the owner, not passed on yet
	owed     int32 // passed on, not returned by WINDOW_UPDATE yet
	lent     int32 // of size: what the budget lent beyond the first window
	starved  bool  // the peer used the window up: a larger one may help
	recvEnd  bool  // END_STREAM was received
	gotHead  bool  // the final response head was received (client role)
	noBody   bool  // a response that must not have a body
	headReq  bool  // answers HEAD
	tunnel   bool  // CONNECT, extended or not: no trailers, no content-length
	extended bool  // extended CONNECT
	bodyLeft int64 // what content-length still promises, -1 without one

	// Sending.
	sendWin  int64
	queue    queue
	since    mono.Time // what leaves next waits at least as long
	ahead    int       // bytes that leave before since moves
	trailers []byte    // packed, behind the queue; nil when there are none
	sentHead bool
	sendEnd  bool // the owner has ended
	sentEnd  bool // END_STREAM is in the output
	rstLater bool // RST_STREAM NO_ERROR follows the end
	muted    bool // the owner has let go of the stream

	closed  bool
	opened  link // in Conn.open
	waiting link // in Conn.ready or Conn.blocked
	where   *streamList
	drained int // bytes written since Drained reported
	inDrain bool
	next    *Stream // in Conn.drain, or free
	dead    *Stream // in Conn.dead
}

// Closed reports whether the stream has ended; it is false again when the
// memory serves another stream.
func (s *Stream) Closed() bool { return s.closed }

// sendable reports whether s could use room in the output now.
func (s *Stream) sendable() bool {
	if s.queue.n > 0 {
		return s.sendWin > 0
	}
	return s.sendEnd && !s.sentEnd
}

type link struct{ prev, next *Stream }

// streamList is an intrusive list through one of a stream's links.
type streamList struct {
	first, last *Stream
	link        func(*Stream) *link
}

func openLink(s *Stream) *link    { return &s.opened }
func waitingLink(s *Stream) *link { return &s.waiting }

func (l *streamList) pushBack(s *Stream) {
	k := l.link(s)
	k.prev, k.next = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.link(l.last).next = s
	}
	l.last = s
}

func (l *streamList) pushFront(s *Stream) {
	k := l.link(s)
	k.prev, k.next = nil, l.first
	if l.first == nil {
		l.last = s
	} else {
		l.link(l.first).prev = s
	}
	l.first = s
}

func (l *streamList) remove(s *Stream) {
	k := l.link(s)
	if k.prev == nil {
		l.first = k.next
	} else {
		l.link(k.prev).next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		l.link(k.next).prev = k.prev
	}
	*k = link{}
}

// streamTable finds streams by id: open addressing, linear probing. Ids follow
// each other, so a probe nearly always hits at once.
type streamTable struct {
	slots []*Stream // length a power of two, at most half full
	n     int
}

func (t *streamTable) slot(id uint32) uint32 { return id >> 1 & uint32(len(t.slots)-1) }

func (t *streamTable) get(id uint32) *Stream {
	if t.n == 0 {
		return nil
	}
	for i := t.slot(id); ; i = (i + 1) & uint32(len(t.slots)-1) {
		if s := t.slots[i]; s == nil || s.ID == id {
			return s
		}
	}
}

func (t *streamTable) put(s *Stream) {
	if 2*(t.n+1) > len(t.slots) {
		old := t.slots
		t.slots = make([]*Stream, max(8, 2*len(old)))
		t.n = 0
		for _, s := range old {
			if s != nil {
				t.put(s)
			}
		}
	}
	i := t.slot(s.ID)
	for t.slots[i] != nil {
		i = (i + 1) & uint32(len(t.slots)-1)
	}
	t.slots[i] = s
	t.n++
}

func (t *streamTable) del(id uint32) {
	mask := uint32(len(t.slots) - 1)
	i := t.slot(id)
	for t.slots[i] == nil || t.slots[i].ID != id {
		i = (i + 1) & mask
	}
	// Move back what was pushed away from its place by this entry.
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		if home := t.slot(t.slots[j].ID); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = nil
	t.n--
}
