package sim_test

import (
	"flag"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"go.uber.org/goleak"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/race"
	"github.com/tulle-mesh/tulle/test/sim"
)

var (
	seeds = flag.Int("seeds", 0, "how many seeds to run; 0 is 2,000, and 50 with the race detector")
	from  = flag.Uint64("from", 1, "the first seed")
	first = flag.Bool("first", false, "stop at the first seed that finds something")
	one   = flag.Uint64("seed", 0, "replay this seed alone; with -v every event is told")
)

// TestMain: of a proxy that is killed in a handshake the coroutine stays; Run
// holds that of no other does.
func TestMain(m *testing.M) {
	leak.Main(m, goleak.IgnoreAnyFunction("github.com/tulle-mesh/tulle/proxy/mtls.(*Session).run"))
}

// certs are made once per process, from a fixed seed, so that their sizes are
// the same in every process.
func certs(t *testing.T) (c *sim.Certs) {
	t.Helper()
	t.Run("certificates", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, 1)
		c = shared()
	})
	return c
}

var shared = sync.OnceValue(sim.NewCerts)

// run runs a seed with crypto's randomness made of it: the sizes of signatures
// depend on that.
func run(t *testing.T, seed uint64, c *sim.Certs, log func(string, ...any)) (r sim.Result) {
	t.Helper()
	t.Run("seed", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("seed %d panicked: %v\n%s", seed, p, debug.Stack())
			}
		}()
		r = sim.Run(seed, c, log)
	})
	return r
}

// TestSeeds runs the fixed seeds, or those that flags name.
func TestSeeds(t *testing.T) {
	c := certs(t)
	if *one != 0 {
		var log func(string, ...any)
		if testing.Verbose() {
			log = t.Logf
		}
		report(t, run(t, *one, c, log))
		return
	}
	n := *seeds
	if n == 0 {
		n = 2000
		if race.Enabled {
			n = 50
		}
	}
	var had [sim.NumKinds]int
	requests, began, slowest, worst := 0, time.Now(), time.Duration(0), uint64(0)
	for i := range n {
		at := time.Now()
		r := run(t, *from+uint64(i), c, nil)
		report(t, r)
		if *first && t.Failed() {
			return
		}
		if d := time.Since(at); d > slowest {
			slowest, worst = d, r.Seed
		}
		requests += r.Requests
		for k := range sim.NumKinds {
			if r.Kinds.Has(k) {
				had[k]++
			}
		}
	}
	t.Logf("%d seeds, %d requests, %v a seed, at most %v (seed %d)", n, requests, time.Since(began)/time.Duration(n), slowest, worst)
	for k, count := range had {
		share := 100 * float64(count) / float64(n)
		t.Logf("%5.1f %% of seeds: %s", share, sim.Kind(k))
		if n >= 1000 && share < 5 {
			t.Errorf("%s occurs in %.1f %% of seeds, want 5", sim.Kind(k), share)
		}
	}
}

// report fails t with what a seed has found.
func report(t *testing.T, r sim.Result) {
	t.Helper()
	if len(r.Findings) == 0 {
		return
	}
	var b strings.Builder
	for i, f := range r.Findings {
		if i == 8 {
			b.WriteString("\n    ...")
			break
		}
		b.WriteString("\n    " + f.String())
	}
	dir, _ := os.Getwd()
	t.Errorf("seed %d (%s): replay with go test ./%s -run TestSeeds -seed=%d -v%s", r.Seed, r.Setup,
		filepath.Join("test", filepath.Base(dir)), r.Seed, b.String())
}

// TestTheSameSeedIsTheSameRun: else no finding could be replayed.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	c := certs(t)
	for seed := uint64(1); seed <= 40; seed++ {
		a, b := run(t, seed, c, nil), run(t, seed, c, nil)
		if a.Hash != b.Hash {
			t.Errorf("seed %d (%s): hash %x, then %x", seed, a.Setup, a.Hash, b.Hash)
		}
	}
}
