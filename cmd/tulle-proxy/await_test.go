package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestAwaitGivesUp(t *testing.T) { // R13.2
	t.Setenv("TULLE_ADMIN_LISTEN", "127.0.0.1:1") // nobody listens
	err := command(t.Context(), []string{"await", "--timeout", "1ms"}, run.Streams{})
	if err == nil || !strings.Contains(err.Error(), "after 1ms: the proxy is not ready") {
		t.Error(err)
	}
}

func TestAwaitAsksWhereTheProxyListens(t *testing.T) {
	for in, want := range map[string]string{
		"": "http://127.0.0.1:4191/ready", "[::]:4191": "http://127.0.0.1:4191/ready", "0.0.0.0:5": "http://127.0.0.1:5/ready",
		"[::1]:6": "http://[::1]:6/ready", "10.0.0.1:7": "http://10.0.0.1:7/ready",
	} {
		if got, err := readyURL(in); got != want || err != nil {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	if _, err := readyURL("x"); err == nil || !strings.Contains(err.Error(), `TULLE_ADMIN_LISTEN="x"`) {
		t.Error(err)
	}
	for _, args := range [][]string{{"await", "now"}, {"await", "--timeout", "soon"}} {
		var errs bytes.Buffer
		exit, ok := errors.AsType[*run.ExitError](command(t.Context(), args, run.Streams{Err: &errs}))
		if !ok || exit.Code != 2 {
			t.Errorf("%v: %v", args, exit)
		}
	}
}
