package mesh

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tulle-mesh/tulle/internal/leak"
)

// TestMain also is the application of those tests that end one by a signal (instance_test.go), and
// grpc-go's client for interoperability (interop_test.go).
func TestMain(m *testing.M) {
	if addr := os.Getenv(instanceEnv); addr != "" {
		os.Exit(serveInstance(addr, os.Getenv(instanceLogEnv)))
	}
	if what := os.Getenv(interopEnv); what != "" {
		os.Exit(interopMain(what))
	}
	leak.Main(m, goleak.Cleanup(func(code int) {
		if asked.Load() {
			dir, _ := built()
			_ = os.RemoveAll(dir) // it is below the system's temporary directory
		}
		os.Exit(code)
	}))
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// long is how long anything may take before it counts as stuck.
const long = 15 * time.Second

// until waits for something that no event tells of.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(long)
	for !cond() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after %v there is still no %s", long, what)
		}
	}
}

// pause lets d pass: a reader that stops, a load that goes on.
func pause(d time.Duration) { <-time.After(d) }
