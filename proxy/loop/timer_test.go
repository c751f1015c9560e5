package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// model is the slow truth about timers: a list.
type model struct {
	t     *testing.T
	w     wheel
	now   mono.Time
	armed map[*probe]int64 // the tick it must expire at
	fired []*probe
	act   func(p *probe) // what a handler does
}

type probe struct {
	Timer
	m *model
}

func (p *probe) Expired(t *Timer, kind uint8) {
	if t != &p.Timer || kind != 9 {
		p.m.t.Fatal("a handler was called for another timer")
	}
	want, ok := p.m.armed[p]
	if !ok {
		p.m.t.Fatal("a timer expired that is not armed")
	}
	if now := int64(p.m.now) / int64(tick); want > now {
		p.m.t.Fatalf("a timer of tick %d expired at %d", want, now)
	}
	if p.Armed() {
		p.m.t.Fatal("armed while its handler runs")
	}
	delete(p.m.armed, p)
	p.m.fired = append(p.m.fired, p)
	if p.m.act != nil {
		p.m.act(p)
	}
}

func (m *model) arm(p *probe, at mono.Time) {
	p.m = m
	p.handler, p.kind = p, 9
	m.w.arm(&p.Timer, at)
	m.armed[p] = max((int64(at)+int64(tick)-1)/int64(tick), m.w.target+1)
}

func (m *model) cancel(p *probe) {
	m.w.cancel(&p.Timer)
	delete(m.armed, p)
}

func (m *model) next() mono.Time {
	if len(m.armed) == 0 {
		return 0
	}
	first := int64(1<<63 - 1)
	for _, n := range m.armed {
		first = min(first, n)
	}
	return mono.Time(first * int64(tick))
}

func (m *model) advance(now mono.Time) {
	m.now, m.fired = now, m.fired[:0]
	due := 0
	for _, n := range m.armed {
		if n <= int64(now)/int64(tick) {
			due++
		}
	}
	if n := m.w.advance(now); int(n) != len(m.fired) {
		m.t.Fatalf("advance counted %d of %d", n, len(m.fired))
	}
	if m.act == nil && len(m.fired) != due {
		m.t.Fatalf("%d timers expired, %d were due", len(m.fired), due)
	}
	for p, n := range m.armed {
		if n <= int64(now)/int64(tick) {
			m.t.Fatalf("at %d a timer of tick %d is still armed (%v)", int64(now)/int64(tick), n, p.Armed())
		}
	}
	if !slices.IsSortedFunc(m.fired, func(a, b *probe) int { return int(a.tick - b.tick) }) && m.act == nil {
		m.t.Fatal("timers of one advance expired out of order")
	}
}

// checkNext wants next to be no later than the earliest timer and ahead of the
// clock; and exact, when sleeping until it has woken nobody.
func (m *model) checkNext(sleep bool) {
	m.t.Helper()
	got, want := m.w.next(), m.next()
	if want == 0 && got == 0 {
		return
	}
	if got > want || int64(got)/int64(tick) <= m.w.target {
		m.t.Fatalf("next = %d, want at most %d and after tick %d", got, want, m.w.target)
	}
	if !sleep || got == want {
		return
	}
	if m.advance(got); len(m.fired) > 0 {
		m.t.Fatal("a timer expired before its time")
	}
	if got := m.w.next(); got != want {
		m.t.Fatalf("next = %d after one sleep in vain, want %d", got, want)
	}
}

func newModel(t *testing.T, now mono.Time) *model {
	m := &model{t: t, now: now, armed: map[*probe]int64{}}
	m.w.start(now)
	return m
}

// distance draws how far away a timer is: from the past to years.
func distance(rng *rand.Rand) time.Duration {
	scale := [...]time.Duration{
		2 * time.Millisecond, 64 * time.Millisecond, 5 * time.Second, 5 * time.Minute, 5 * time.Hour, 24 * time.Hour * 30,
	}[rng.IntN(6)]
	return time.Duration(rng.Int64N(int64(scale))) - scale/20
}

func TestTheWheelAgreesWithAList(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newModel(t, mono.Time(rng.Int64N(int64(100*time.Hour))))
		probes := make([]probe, 60)
		for range 1500 {
			p := &probes[rng.IntN(len(probes))]
			switch k := rng.IntN(10); {
			case k < 5:
				m.arm(p, max(1, m.now.Add(distance(rng))))
			case k < 7:
				m.cancel(p)
			case k < 8:
				if next := m.next(); next != 0 {
					m.advance(next)
				}
			default:
				m.advance(m.now.Add(max(0, distance(rng))))
			}
			m.checkNext(rng.IntN(4) == 0)
			for i := range probes {
				if _, ok := m.armed[&probes[i]]; ok != probes[i].Armed() {
					t.Fatalf("seed %d: Armed = %v, want %v", seed, !ok, ok)
				}
			}
		}
	}
}

func TestHandlersMayArmAndCancelAnything(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := newModel(t, mono.Time(time.Second))
		probes := make([]probe, 40)
		m.act = func(p *probe) {
			for range rng.IntN(4) {
				q := &probes[rng.IntN(len(probes))]
				if rng.IntN(2) == 0 {
					m.cancel(q)
				} else {
					m.arm(q, m.now.Add(time.Duration(rng.IntN(10)-3)*time.Millisecond))
				}
			}
			if rng.IntN(2) == 0 {
				m.arm(p, m.now)
			}
		}
		for range 300 {
			m.arm(&probes[rng.IntN(len(probes))], m.now.Add(distance(rng)))
			m.advance(m.now.Add(time.Duration(rng.IntN(20)) * time.Millisecond))
			m.checkNext(rng.IntN(4) == 0)
		}
	}
}

func TestATimerExpiresNeverEarlyAndWithinAMillisecond(t *testing.T) {
	m := newModel(t, 1)
	var p probe
	at := mono.Time(1234567890)
	m.arm(&p, at)
	next := m.w.next()
	if next < at || next.Sub(at) >= tick {
		t.Fatalf("next is %s after the time", next.Sub(at))
	}
	m.advance(next - 1)
	if len(m.fired) > 0 {
		t.Fatal("expired early")
	}
	m.advance(next)
	if len(m.fired) != 1 {
		t.Fatal("did not expire when next said")
	}
}

func TestATimerBeyondTheWheelIsKept(t *testing.T) {
	m := newModel(t, 1)
	var p probe
	m.w.arm(&p.Timer, mono.Time(1<<62))
	if !p.Armed() || m.w.next() != mono.Time(lastTick*int64(tick)) {
		t.Fatalf("next = %d", m.w.next())
	}
	m.w.cancel(&p.Timer)
	if m.w.next() != 0 {
		t.Error("still there after cancelling")
	}
}

func BenchmarkRearm(b *testing.B) {
	var w wheel
	w.start(mono.Time(time.Hour))
	timers := make([]probe, 5000)
	now := mono.Time(time.Hour)
	for i := range timers {
		w.arm(&timers[i].Timer, now.Add(90*time.Second+time.Duration(i)*time.Millisecond))
	}
	for i := 0; b.Loop(); i++ {
		now += mono.Time(10 * time.Microsecond)
		w.arm(&timers[i%len(timers)].Timer, now.Add(90*time.Second))
		w.next()
		w.advance(now)
	}
}
