package proxy

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"go.uber.org/zap"
)

// Shares of the memory limit at which the proxy begins and ends to shed new
// work (rule R1.6), in percent, and how often it looks.
const (
	shedFrom  = 85
	shedUntil = 80
	shedEvery = 100 * time.Millisecond
)

// memory is the process's own reading: the heap that was live after the last
// collection, and the stacks. What workers account for is part of the heap.
func memory() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	var sum uint64
	for i := range s {
		if s[i].Value.Kind() == metrics.KindUint64 {
			sum += s[i].Value.Uint64()
		}
	}
	return int64(min(sum, math.MaxInt64))
}

// mostBuffered is the budget of rule R4.2 where the memory limit does not make it less.
const mostBuffered = 64 << 20

// bufferBytes is the budget of rule R4.2.
func (c Config) bufferBytes() int64 {
	if c.BufferBytes > 0 {
		return c.BufferBytes
	}
	if l := c.memoryLimit(); l > 0 {
		return min(mostBuffered, l/4)
	}
	return mostBuffered
}

// memoryLimit is the limit that shedding is measured by; 0 is none.
func (c Config) memoryLimit() int64 {
	if c.MemoryLimit > 0 {
		return c.MemoryLimit
	}
	if l := debug.SetMemoryLimit(-1); l < math.MaxInt64 {
		return l
	}
	return 0
}

// watchMemory sheds new work while memory is short; what is in flight finishes.
func (p *Proxy) watchMemory(ctx context.Context) {
	limit := p.cfg.memoryLimit()
	if limit == 0 {
		return
	}
	tick := time.NewTicker(shedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.weigh(p.deps.Memory(), limit)
		}
	}
}

// weigh decides whether used bytes of limit are too many. The gap between the
// two shares keeps it from changing its mind at each collection.
func (p *Proxy) weigh(used, limit int64) {
	share := used * 100 / limit
	was := p.shedding.Load()
	is := share >= shedFrom || was && share >= shedUntil
	if is != was {
		p.shedding.Store(is)
		p.log.Warn("shedding new work", zap.Bool("on", is), zap.Int64("used", used), zap.Int64("limit", limit))
	}
}
