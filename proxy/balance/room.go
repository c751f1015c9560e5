package balance

// room is one of the lists that an endpoint can be in.
type room uint8

const (
	home room = iota
	away
	ending
	out
	rooms
)

// list is one room. Each endpoint knows its place in it; in out, the list is a heap whose first
// element is the one to be probed next.
type list struct{ all []*Endpoint }

func (b *Balancer) enter(e *Endpoint, r room) {
	b.moves++
	l := &b.rooms[r]
	e.room, e.pos = r, len(l.all)
	l.all = append(l.all, e)
	if r == out {
		l.up(e.pos)
	}
}

func (b *Balancer) leave(e *Endpoint) {
	b.moves++
	l := &b.rooms[e.room]
	i, last := e.pos, len(l.all)-1
	l.swap(i, last)
	l.all[last] = nil
	l.all = l.all[:last]
	if e.room == out && i < last {
		l.fix(i)
	}
}

func (l *list) swap(i, j int) {
	l.all[i], l.all[j] = l.all[j], l.all[i]
	l.all[i].pos, l.all[j].pos = i, j
}

// fixOut restores the order of ejected endpoints after e's probe time changed.
func (b *Balancer) fixOut(e *Endpoint) {
	b.moves++
	b.rooms[out].fix(e.pos)
}

// fix restores the heap after the probe time of element i changed.
func (l *list) fix(i int) {
	l.up(i)
	l.down(i)
}

func (l *list) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if l.all[p].probeAt <= l.all[i].probeAt {
			return
		}
		l.swap(i, p)
		i = p
	}
}

func (l *list) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(l.all) {
			return
		}
		if c+1 < len(l.all) && l.all[c+1].probeAt < l.all[c].probeAt {
			c++
		}
		if l.all[i].probeAt <= l.all[c].probeAt {
			return
		}
		l.swap(i, c)
		i = c
	}
}
