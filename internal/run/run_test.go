package run

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestFirstErrorEndsTheOthersAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended bool
		var g Group
		g.Add("server", Func(func(ctx context.Context) error { err := wait(ctx); ended = true; return err }))
		g.Add("watcher", Func(func(context.Context) error { time.Sleep(time.Second); return errors.New("disk full") }))
		err := g.Run(t.Context())
		if err == nil || err.Error() != "watcher: disk full" {
			t.Errorf("got %v, want the watcher's error alone", err)
		}
		if !ended {
			t.Error("Run returned before the server had ended")
		}
	})
}

func TestAPartThatIsDoneLeavesTheOthersRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		var g Group
		g.Add("once", Func(func(context.Context) error { return nil }))
		g.Add("server", Func(func(ctx context.Context) error { <-ctx.Done(); return nil }))
		if err := g.Run(ctx); err != nil {
			t.Errorf("got %v, want no error", err)
		}
		if d := time.Since(began); d != time.Minute {
			t.Errorf("the group ended after %v, want its context's minute", d)
		}
	})
}

func TestErrorsWhileEndingAreKept(t *testing.T) {
	cause := errors.New("cannot flush")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var g Group
	g.Add("store", Func(func(ctx context.Context) error { <-ctx.Done(); return cause }))
	g.Add("server", Func(wait))
	if err := g.Run(ctx); !errors.Is(err, cause) || strings.Contains(err.Error(), "server") {
		t.Errorf("got %v, want the store's error alone", err)
	}
}

func TestAnEmptyGroupReturnsAtOnce(t *testing.T) {
	if err := new(Group).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestExitCode(t *testing.T) {
	broken := errors.New("port in use")
	for _, c := range []struct {
		name string
		err  error
		code int
		out  string
	}{
		{"no error", nil, 0, ""},
		{"an error", broken, 1, "tulle: port in use\n"},
		{"a chosen code", &ExitError{Code: 3, Err: broken}, 3, "tulle: port in use\n"},
		{"a code that was explained already", &ExitError{Code: 4}, 4, ""},
	} {
		var out strings.Builder
		if code := exitCode("tulle", c.err, &out); code != c.code || out.String() != c.out {
			t.Errorf("%s: exit code %d and %q, want %d and %q", c.name, code, out.String(), c.code, c.out)
		}
	}
}
