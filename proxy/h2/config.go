package h2

import "github.com/tulle-mesh/tulle/proxy/slab"

// Defaults of rules R1.5 and R4.1.
const (
	defaultStreams     = 250
	defaultWindow      = 64 << 10
	defaultMaxWindow   = 1 << 20
	defaultConnWindow  = 1 << 20
	defaultFrameSize   = 64 << 10
	defaultHeaderBytes = 64 << 10
	defaultHeaderCount = 256
	defaultTargetBytes = 32 << 10

	// tightWindow is the stream window that a connection advertises which begins
	// while the slab budget is over half used (R4.2).
	tightWindow = 16 << 10
)

// Config is what a Conn is made with. It is not changed afterwards.
type Config struct {
	// Client is the role: open streams rather than accept them.
	Client bool
	// Hop is set when the peer is another tulle proxy: extended CONNECT is
	// offered and used, and a request may come without an authority.
	Hop bool
	// ExtendedConnect offers RFC 8441 to a peer that is no proxy (server role).
	ExtendedConnect bool

	// MaxConcurrentStreams is offered to the peer in the server role; 0 is 250.
	MaxConcurrentStreams uint32
	// Window is a stream's first receive window, MaxWindow what it may grow to,
	// ConnWindow the connection's, in bytes; 0 is 64 KiB, 1 MiB, 1 MiB.
	Window, MaxWindow, ConnWindow int32
	// MaxFrameSize is the largest payload accepted, in bytes; 0 is 64 KiB.
	MaxFrameSize uint32
	// HeaderBytes bounds a head as RFC 9113, section 6.5.2 counts, HeaderCount
	// its fields and TargetBytes :path; 0 is 64 KiB, 256, 32 KiB (R1.5).
	HeaderBytes, HeaderCount, TargetBytes int

	// Pool is the worker's memory; nil allocates.
	Pool *slab.Pool
	// Shared holds what the connections of one worker lend each other; nil
	// makes one for this connection.
	Shared *Shared
	// Flood bounds what costs the peer less than us (R4.5).
	Flood FloodLimits
}

// withDefaults fills in the zeros.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxConcurrentStreams, defaultStreams)
	setDefault(&c.Window, defaultWindow)
	setDefault(&c.MaxWindow, defaultMaxWindow)
	setDefault(&c.ConnWindow, defaultConnWindow)
	setDefault(&c.MaxFrameSize, defaultFrameSize)
	setDefault(&c.HeaderBytes, defaultHeaderBytes)
	setDefault(&c.HeaderCount, defaultHeaderCount)
	setDefault(&c.TargetBytes, defaultTargetBytes)
	c.Flood = c.Flood.withDefaults()
	if c.Pool.Level() >= slab.LevelHalf {
		c.Window = min(c.Window, tightWindow)
	}
	c.ConnWindow = max(c.ConnWindow, initialWindow)
	c.MaxFrameSize = min(max(c.MaxFrameSize, minFrameSize), 1<<24-1)
	c.MaxWindow = max(c.MaxWindow, c.Window)
	if c.Shared == nil {
		c.Shared = &Shared{}
	}
	return c
}

func setDefault[T uint32 | int32 | int](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}
