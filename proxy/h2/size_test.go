package h2

import (
	"runtime"
	"testing"

	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/proxy/slab"
)

// idleCeiling is what a connection may own while it has no streams, in bytes:
// the struct, both HPACK tables as far as they were used, the stream table.
const idleCeiling = 8 << 10

func TestMemoryOfIdleConnections(t *testing.T) {
	if race.Enabled {
		t.Skip("sizes do not hold under the race detector")
	}
	const pairs = 200
	pool, sh := slab.NewPool(nil), &Shared{}
	keep := make([]*shuttle, pairs)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range keep {
		s := newShuttleOn(pool, sh)
		for range 3 {
			st, err := s.a.Open(grpcRequest(), false, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.a.SendData(st, []byte("x"), true)
			s.run()
		}
		s.buf, s.onA, s.onB = nil, nil, nil
		keep[i] = s
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapAlloc-before.HeapAlloc) / (2 * pairs)
	t.Logf("%d bytes per idle connection", each)
	if each > idleCeiling {
		t.Errorf("%d bytes per idle connection, want at most %d", each, idleCeiling)
	}
	runtime.KeepAlive(keep)
}
