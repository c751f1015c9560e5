package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/internal/run"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestAwaitReturnsOnceTheProxyIsReady(t *testing.T) { // R13.2
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "not ready\nmissing: certificate", http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	if err := awaitReady(t.Context(), s.URL+"/ready", time.Minute); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
}

func TestAwaitTellsWhatWasMissing(t *testing.T) { // R13.2, R11.1
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 { // the first answer has arrived
			cancel()
		}
		http.Error(w, "not ready\nmissing: certificate", http.StatusServiceUnavailable)
	}))
	defer s.Close()
	err := awaitReady(ctx, s.URL+"/ready", time.Minute)
	if err == nil || err.Error() != "the proxy is not ready after 1m0s: not ready; missing: certificate" {
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
