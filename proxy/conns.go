package proxy

// connLink is a connection's place in its shard's list.
type connLink struct {
	conn       any // *inbound or *outbound
	prev, next *connLink
	in         bool
}

// connList is an intrusive list of the accepted connections of a shard.
type connList struct{ first *connLink }

func (l *connList) add(k *connLink, conn any) {
	k.conn, k.in = conn, true
	k.next = l.first
	if l.first != nil {
		l.first.prev = k
	}
	l.first = k
}

func (l *connList) remove(k *connLink) {
	if !k.in {
		return
	}
	k.in = false
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
}
