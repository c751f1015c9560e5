package discover

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestAServerThatTurnsAwayIsToldOnce: whoever waits for a proxy that does not get ready reads its log.
func TestAServerThatTurnsAwayIsToldOnce(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	c := New(Config{Log: zap.New(core)}, nil)
	away := status.Error(codes.Unauthenticated, "no client certificate")
	for _, err := range []error{away, away, status.Error(codes.Unavailable, "connection refused"), away} {
		c.log(false, err, time.Second)
	}
	if got := logs.FilterLevelExact(zap.WarnLevel).Len(); got != 3 {
		t.Errorf("%d warnings, want one per change: 3", got)
	}
	c.log(true, errors.New("it ended"), time.Second)
	c.log(false, away, time.Second)
	if got := logs.FilterLevelExact(zap.WarnLevel).Len(); got != 4 {
		t.Errorf("%d warnings, want one more after the stream was up", got)
	}
}
