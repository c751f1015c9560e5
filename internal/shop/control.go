package shop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Control serves an endpoint on which an instance is watched and changed while it runs:
//
//	GET   /settings            the settings in force
//	PATCH /settings            {"latency": "20ms"} changes that one and leaves the others
//	GET   /stats               what stats returns
type Control struct {
	// Instance is what /settings is about. Nil: nothing is.
	Instance *Instance
	// Stats is what /stats returns. Nil: Instance's Counts.
	Stats func() any
}

// ListenControl listens on addr, which must be on the loopback: who reaches the endpoint can make the
// instance fail.
func ListenControl(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if at, err := netip.ParseAddrPort(ln.Addr().String()); err != nil || !at.Addr().IsLoopback() {
		ln.Close()
		return nil, fmt.Errorf("control endpoint on %s: want a loopback address", addr)
	}
	return ln, nil
}

// Serve serves c on ln until ctx ends.
func (c Control) Serve(ctx context.Context, ln net.Listener) error {
	s := &http.Server{Handler: c.handler(), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) || ctx.Err() == nil {
		return err
	}
	return nil
}

func (c Control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		if c.Stats != nil {
			answerJSON(w, c.Stats())
			return
		}
		answerJSON(w, c.Instance.Counts())
	})
	if c.Instance == nil {
		return mux
	}
	mux.HandleFunc("GET /settings", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, c.Instance.Settings()) })
	mux.HandleFunc("PATCH /settings", func(w http.ResponseWriter, r *http.Request) {
		s := c.Instance.Settings()
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
		d.DisallowUnknownFields()
		err := d.Decode(&s)
		if err == nil {
			err = c.Instance.Set(s)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answerJSON(w, s)
	})
	return mux
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
