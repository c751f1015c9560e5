package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// R11.2: a destination that ends together with what it has to tell of tells it first.
func TestAServiceThatLingersEndsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, tell := context.WithCancel(t.Context())
		later := lingering(told, 5*time.Second)
		begun := time.Now()
		tell()
		<-later.Done()
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("it ended %s after it was told to", took)
		}
		if lingering(told, 0).Err() == nil {
			t.Error("without lingering it goes on")
		}
	})
}
