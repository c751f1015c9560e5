package h2

import (
	"time"

	"github.com/tulle-mesh/tulle/internal/mono"
)

// Bucket is a budget of events: Burst at once, PerSecond over time, and what
// honest work earns back.
type Bucket struct{ Burst, PerSecond int }

// FloodLimits are the budgets of rule R4.5. A peer that exceeds one gets GOAWAY
// with ENHANCE_YOUR_CALM. The zero value of each Bucket is its default.
type FloodLimits struct {
	// Cancels counts streams that the peer reset before they were complete (rapid
	// reset); every stream that completes earns one back. 200, 50/s.
	Cancels Bucket
	// Resets counts streams that we reset or refused by the peer's fault
	// (MadeYouReset); they are earned back as Cancels. 200, 50/s.
	Resets Bucket
	// Pings counts PING; every DATA or HEADERS frame sent earns one back, as
	// bandwidth estimators ping once per burst that they receive. 200, 50/s.
	Pings Bucket
	// Settings counts SETTINGS. 100, 10/s.
	Settings Bucket
	// Empty counts DATA without bytes or END_STREAM and fragments of a head
	// without bytes. 100, 10/s.
	Empty Bucket
	// WindowUpdates counts WINDOW_UPDATE; DATA that we sent earns back. 1000, 1000/s.
	WindowUpdates Bucket
	// Ignored counts PRIORITY, frames of unknown types and frames for streams
	// that are gone; a stream that opens earns one back. 1000, 200/s.
	Ignored Bucket
}

// ManyClients are the limits of a hop between proxies, a connection that carries the streams of many
// clients, each of which has a budget of its own where it comes in: what they
// cancel together must not end the connection for the others.
func ManyClients() FloodLimits { return FloodLimits{Cancels: Bucket{2000, 500}} }

func (l FloodLimits) withDefaults() FloodLimits {
	def := func(b *Bucket, burst, perSecond int) {
		if *b == (Bucket{}) {
			*b = Bucket{burst, perSecond}
		}
	}
	def(&l.Cancels, 200, 50)
	def(&l.Resets, 200, 50)
	def(&l.Pings, 200, 50)
	def(&l.Settings, 100, 10)
	def(&l.Empty, 100, 10)
	def(&l.WindowUpdates, 1000, 1000)
	def(&l.Ignored, 1000, 200)
	return l
}

// meter is the state of one Bucket: a leaky count.
type meter struct {
	level int64 // thousandths of an event
	last  mono.Time
}

const milli = 1000

// take counts an event at now and reports whether the budget allows them.
func (m *meter) take(b Bucket, now mono.Time) bool {
	if now > m.last {
		leak := min(int64(now.Sub(m.last)), int64(time.Hour)) / int64(time.Microsecond) * int64(b.PerSecond) / milli
		if leak > 0 {
			m.level, m.last = max(min(m.level, 0), m.level-leak), now
		}
	}
	m.level += milli
	return m.level <= int64(b.Burst)*milli
}

// earn gives an event back.
func (m *meter) earn() { m.level = max(0, m.level-milli) }

// advance gives n events back before they come: a reader that has paused returns
// credit for all that it was sent in one go.
func (m *meter) advance(n int) { m.level = max(-maxAdvance, m.level-int64(n)*milli) }

// maxAdvance bounds what advance collects.
const maxAdvance = (64 << 10) * milli

// meters are the budgets of one connection.
type meters struct {
	cancels, resets, pings, settings, empty, windows, ignored meter
}
