package ready_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
	"github.com/tulle-mesh/tulle/proxy/admin/ready"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestAwaitReturnsOnceTheProxyIsReady(t *testing.T) { // R13.2
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := asked.Add(1); n < 4 {
			http.Error(w, fmt.Sprintf("not ready\nmissing: %d", n/2), http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	var told []string
	err := ready.Await(t.Context(), s.URL+"/ready", func(missing string) { told = append(told, missing) })
	if err != nil || asked.Load() != 4 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	if want := []string{"not ready; missing: 0", "not ready; missing: 1"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want each once: %q", told, want)
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
	err := ready.Await(ctx, s.URL+"/ready", nil)
	if err == nil || err.Error() != "the proxy is not ready: not ready; missing: certificate: context canceled" {
		t.Error(err)
	}
}
