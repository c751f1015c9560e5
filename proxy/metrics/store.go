package metrics

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

const (
	// idleAfter is how long a label set lives without being used (rule R12.2).
	idleAfter = 10 * time.Minute
	// setsMost is how many label sets there may be of a kind.
	setsMost = 1000
	// responsesMost is how many {status, gRPC status, classification} one label set tells apart.
	responsesMost = 48
)

// Store is one worker's counts. Not safe for concurrent use.
type Store struct {
	// Proxy is what is counted for the proxy as a whole; its owner writes the fields.
	Proxy Proxy

	most     int
	http     table[HTTP, *HTTP]
	times    table[timing, *timing]
	traffic  table[traffic, *traffic]
	tcp      table[TCP, *TCP]
	authz    table[Authz, *Authz]
	detected []Detected
	overflow uint64
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{most: setsMost} }

// set is what a table holds: something with labels that can be unused.
type set[T any] interface {
	*T
	common() *base
}

// base is common to all sets.
type base struct {
	store  *Store
	labels Labels
	used   mono.Time
	gone   bool // not in its table any more
}

func (b *base) common() *base { return b }

// table finds sets by their labels.
type table[T any, P set[T]] struct {
	index map[Labels]P
	all   []P
}

// get finds or makes the set of l; over the limit it is the one for everything that does not fit.
func (t *table[T, P]) get(s *Store, l Labels, now mono.Time) P {
	p := t.index[l]
	if p == nil && len(t.all) >= s.most {
		s.overflow++
		l = l.overflow()
		p = t.index[l]
	}
	if p == nil {
		p = new(T)
		p.common().store, p.common().labels = s, l
		t.put(p)
	}
	p.common().used = now
	return p
}

func (t *table[T, P]) put(p P) {
	if t.index == nil {
		t.index = map[Labels]P{}
	}
	t.index[p.common().labels] = p
	t.all = append(t.all, p)
	p.common().gone = false
}

// live is the set to count in for a holder of p: p itself, unless it was forgotten and another one
// was made for its labels since.
func (t *table[T, P]) live(p P) P {
	if !p.common().gone {
		return p
	}
	if q := t.index[p.common().labels]; q != nil {
		return q
	}
	b := *p.common()
	*p = *new(T)
	*p.common() = b
	t.put(p)
	return p
}

// expire forgets sets that were not used since then, but those that keep holds.
func (t *table[T, P]) expire(since mono.Time, keep func(P) bool) {
	n := 0
	for _, p := range t.all {
		if b := p.common(); b.used < since && !keep(p) {
			b.gone = true
			delete(t.index, b.labels)
			continue
		}
		t.all[n] = p
		n++
	}
	clear(t.all[n:])
	t.all = t.all[:n]
}

// Expire forgets what was not used for 10 minutes. To be called now and then.
func (s *Store) Expire(now mono.Time) {
	since := now.Add(-idleAfter)
	s.tcp.expire(since, func(t *TCP) bool { return t.open > 0 })
	s.http.expire(since, func(*HTTP) bool { return false })
	s.times.expire(since, func(*timing) bool { return false })
	s.authz.expire(since, func(*Authz) bool { return false })
	s.traffic.expire(since, func(t *traffic) bool { return t.open > 0 })
}
