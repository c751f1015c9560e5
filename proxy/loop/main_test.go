package loop_test

import (
	"os"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) {
	if load := os.Getenv("LOOP_TEST_LOAD"); load != "" {
		runLoad(load) // a child of BenchmarkEcho
		return
	}
	if addrs := os.Getenv("LOOP_TEST_PROBE"); addrs != "" {
		runProbe(addrs) // a child of TestABusyWorker…
		return
	}
	leak.Main(m)
}
