package cluster

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// victim, when it names an instance, makes the test binary a process that brings it up and waits to be
// killed.
const victim = "TULLE_TEST_BED_VICTIM"

func TestMain(m *testing.M) {
	if i, err := strconv.Atoi(os.Getenv(victim)); err == nil {
		ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute)
		defer stop()
		if _, err := Up(ctx, Config{Instance: i, Nodes: 1, Progress: os.Stderr}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("up")
		select {}
	}
	goleak.VerifyTestMain(m)
}
