package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/loopback"
)

// serveAdmin serves the handler until ctx ends.
func (p *Plane) serveAdmin(ctx context.Context) error {
	p.log.Info("admin", zap.Stringer(logkey.Addr, p.cfg.Admin.Addr()))
	s := &http.Server{Handler: p.admin(), ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan struct{})
	go func() { // ends with ctx; serveAdmin waits for it
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(grace) != nil {
			s.Close()
		}
	}()
	err := s.Serve(p.cfg.Admin)
	if ctx.Err() == nil {
		return err
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// admin is the process's own door. /debug is for loopback: it names every workload.
func (p *Plane) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "live\n") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if missing := p.missing(); len(missing) > 0 {
			text(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(missing, "; ")+"\n")
			return
		}
		text(w, http.StatusOK, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/reports", loopback.Only(p.reports))
	if p.store != nil {
		mux.Handle("GET /debug/state", loopback.Only(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			snapshot := p.store.Snapshot()
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "version %d\n", snapshot.Version)
			snapshot.Dump(w)
		})))
	}
	if p.cfg.LogLevel != nil {
		mux.Handle("/debug/log-level", loopback.Only(p.cfg.LogLevel))
	}
	if p.destination != nil {
		mux.Handle("GET /debug/streams", loopback.Only(p.destination))
	}
	return mux
}

// missing names what this process waits for before it can serve.
func (p *Plane) missing() []string {
	var missing []string
	if p.store != nil {
		select {
		case <-p.store.Synced():
		default:
			what := p.cfg.Source + " has not been read without a mistake yet; /debug/reports has the reasons"
			if waiting := p.source.Waiting(); waiting != "" {
				what = p.cfg.Source + " has not been read yet: " + waiting
			}
			missing = append(missing, what)
		}
	}
	if p.leaf != nil {
		if st := p.leaf.State(); !st.Valid(time.Now()) {
			why := "no certificate yet"
			if err := st.Degraded(); err != nil {
				why += ": " + err.Error()
			}
			missing = append(missing, why)
		}
	}
	return missing
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write([]byte(body)) //nolint:errcheck // the client left
}
