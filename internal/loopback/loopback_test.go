package loopback

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestOnlyLoopbackIsLetIn(t *testing.T) { // R12.5
	h := Only(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, c := range []struct {
		from, host string
		want       int
	}{
		{"127.0.0.1:1", "127.0.0.1:9990", 204}, {"[::1]:1", "[::1]:9990", 204}, {"[::ffff:127.0.0.1]:1", "localhost", 204},
		{"10.0.0.1:1", "127.0.0.1:9990", 403}, {"127.0.0.1:1", "evil.example:9990", 403}, {"127.0.0.1.example:1", "localhost", 403}, {"", "localhost", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug", http.NoBody)
		r.RemoteAddr, r.Host = c.from, c.host
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("from %q, host %q: %d, want %d", c.from, c.host, w.Code, c.want)
		}
	}
}
