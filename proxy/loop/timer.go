package loop

import (
	"math/bits"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// The wheel: levels of 64 slots, a tick of 1 ms. A timer lives at the level of
// the highest group of six bits in which its tick differs from the wheel's, so
// every timer of a level expires before every timer of the next one, and the
// first occupied slot of the lowest occupied level holds the earliest.
const (
	tick       = time.Millisecond
	slotBits   = 6
	slotCount  = 1 << slotBits
	levelCount = 7 // 2^42 ms: more than a century of uptime
	lastTick   = 1<<(slotBits*levelCount) - 1
)

// Places of a timer outside the slots.
const (
	placeNone = 0
	placeDue  = 1 // in the list of a tick that is expiring
	placeSlot = 2 // + level*slotCount + slot
)

// TimerHandler is called when a timer expires; t is disarmed then and may be
// armed again at once.
type TimerHandler interface {
	Expired(t *Timer, kind uint8)
}

// Timer is embedded in what it belongs to. The zero Timer is disarmed. An armed
// Timer must not be copied or freed.
type Timer struct {
	next, prev *Timer // circular list of its slot
	tick       int64
	handler    TimerHandler
	place      uint16
	kind       uint8
}

// Armed says whether t will expire.
func (t *Timer) Armed() bool { return t.place != placeNone }

// At is when an armed t will expire.
func (t *Timer) At() mono.Time { return mono.Time(t.tick * int64(tick)) }

// wheel holds armed timers. Arming and cancelling take constant time.
type wheel struct {
	cur    int64 // the tick that slots are relative to
	target int64 // the tick of the last advance: what is armed expires after it
	due    *Timer

	occupied [levelCount]uint64
	// min is the earliest tick of a slot; where unknown has a bit, a lower bound.
	unknown [levelCount]uint64
	min     [levelCount][slotCount]int64
	slots   [levelCount][slotCount]*Timer
}

func (w *wheel) start(now mono.Time) {
	w.cur = int64(now) / int64(tick)
	w.target = w.cur
}

func (w *wheel) arm(t *Timer, at mono.Time) {
	// Round up: a timer never expires early.
	n := (int64(at) + int64(tick) - 1) / int64(tick)
	n = min(max(n, w.target+1), lastTick)
	if t.place >= placeSlot && t.tick == n {
		return
	}
	w.unlink(t)
	t.tick = n
	w.insert(t)
}

func (w *wheel) cancel(t *Timer) {
	w.unlink(t)
	t.handler = nil
}

func (w *wheel) insert(t *Timer) {
	level, i := 0, int(t.tick&(slotCount-1))
	if d := uint64(t.tick ^ w.cur); d != 0 {
		level = (bits.Len64(d) - 1) / slotBits
		i = int(t.tick>>(level*slotBits)) & (slotCount - 1)
	}
	bit := uint64(1) << i
	if w.occupied[level]&bit == 0 {
		w.occupied[level] |= bit
		w.unknown[level] &^= bit
		w.min[level][i] = t.tick
	} else {
		w.min[level][i] = min(w.min[level][i], t.tick)
	}
	t.place = uint16(placeSlot + level*slotCount + i)
	push(&w.slots[level][i], t)
}

func (w *wheel) unlink(t *Timer) {
	switch t.place {
	case placeNone:
		return
	case placeDue:
		pop(&w.due, t)
	default:
		level, i := int(t.place-placeSlot)/slotCount, int(t.place-placeSlot)%slotCount
		pop(&w.slots[level][i], t)
		switch {
		case w.slots[level][i] == nil:
			w.occupied[level] &^= 1 << i
		case t.tick == w.min[level][i] && level > 0:
			w.unknown[level] |= 1 << i
		}
	}
	t.place = placeNone
}

// first finds the slot of the earliest timer.
func (w *wheel) first() (level, i int, ok bool) {
	for level := range w.occupied {
		if w.occupied[level] != 0 {
			return level, bits.TrailingZeros64(w.occupied[level]), true
		}
	}
	return 0, 0, false
}

// next is when the earliest timer expires; zero when none is armed. Where that
// timer was cancelled it may be too early, once: when that time has come, and
// not before (a busy worker would search all the time), the rest is searched.
func (w *wheel) next() mono.Time {
	level, i, ok := w.first()
	if !ok {
		return 0
	}
	if w.unknown[level]&(1<<i) != 0 && w.min[level][i] <= w.target {
		w.unknown[level] &^= 1 << i
		head := w.slots[level][i]
		earliest := head.tick
		for t := head.next; t != head; t = t.next {
			earliest = min(earliest, t.tick)
		}
		w.min[level][i] = earliest
	}
	return mono.Time(w.min[level][i] * int64(tick))
}

// advance calls the handlers of all timers that are due at now, tick by tick,
// and returns how many. Timers armed meanwhile wait for the next advance.
func (w *wheel) advance(now mono.Time) (expired uint64) {
	w.target = max(w.target, int64(now)/int64(tick))
	for {
		level, i, ok := w.first()
		if !ok {
			break
		}
		shift := level * slotBits
		from := w.cur>>(shift+slotBits)<<(shift+slotBits) | int64(i)<<shift
		if from > w.target {
			break
		}
		w.cur = from
		w.due, w.slots[level][i] = w.slots[level][i], nil
		w.occupied[level] &^= 1 << i
		if level > 0 {
			w.spread()
			continue
		}
		expired += w.expire()
	}
	w.cur = w.target
	return expired
}

// spread moves the timers of a slot that begins now to lower levels.
func (w *wheel) spread() {
	for w.due != nil {
		t := w.due
		pop(&w.due, t)
		w.insert(t)
	}
}

// expire calls handlers one at a time from a list that they may change.
func (w *wheel) expire() (expired uint64) {
	for t := w.due; ; t = t.next {
		t.place = placeDue
		if t.next == w.due {
			break
		}
	}
	for w.due != nil {
		t := w.due
		pop(&w.due, t)
		t.place = placeNone
		h := t.handler
		t.handler = nil
		h.Expired(t, t.kind)
		expired++
	}
	return expired
}

func push(head **Timer, t *Timer) {
	h := *head
	if h == nil {
		t.next, t.prev = t, t
		*head = t
		return
	}
	t.next, t.prev = h, h.prev
	h.prev.next, h.prev = t, t
}

func pop(head **Timer, t *Timer) {
	if t.next == t {
		*head = nil
	} else {
		t.prev.next, t.next.prev = t.next, t.prev
		if *head == t {
			*head = t.next
		}
	}
	t.next, t.prev = nil, nil
}
