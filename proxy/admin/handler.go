package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/loopback"
	"github.com/tulle-mesh/tulle/proxy/admin/probe"
)

// ShutdownHeader must be on POST /shutdown, so that no page that a browser shows can send it.
const ShutdownHeader = "Tulle-Shutdown"

// Debug is what /debug shows, as values that encoding/json can write. Each asks the workers and must
// end with ctx.
type Debug interface {
	Targets(ctx context.Context) (any, error)
	Endpoints(ctx context.Context) (any, error)
	Policies(ctx context.Context) (any, error)
}

// Config of the door.
type Config struct {
	Log    *zap.Logger // required
	Health *Health     // required
	// Look brings Health up to date before it is told; nil: it always is.
	Look     func()
	Gatherer prometheus.Gatherer // required
	// Identity is what /debug/identity shows: the certificate, never a key; nil: it is not there.
	Identity func(context.Context) (any, error)
	// LogLevel serves /debug/log-level, GET and PUT; nil: the level cannot be changed.
	LogLevel http.Handler
	// Debug is what /debug/targets, /debug/endpoints and /debug/policies show; nil: they are not there.
	Debug Debug
	// Probes are the application's, performed for the kubelet (rule R9.3); nil: there are none.
	Probes *probe.Prober
	// Shutdown begins the end of the proxy (rule R11.3: for Jobs without native sidecars); nil, the
	// default: there is no /shutdown.
	Shutdown func()
}

// Handler serves what cfg says.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "live\n") })
	mux.HandleFunc("GET /ready", cfg.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{
		ErrorLog: promLog{cfg.Log}, ErrorHandling: promhttp.ContinueOnError,
	}))
	if cfg.Probes != nil {
		mux.HandleFunc("GET /probe/{container}/{kind}", cfg.probe)
	}
	mux.Handle("/", loopback.Only(cfg.private()))
	return mux
}

// private is what loopback alone may have.
func (cfg Config) private() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if cfg.Identity != nil {
		mux.HandleFunc("GET /debug/identity", cfg.show(cfg.Identity))
	}
	if cfg.LogLevel != nil {
		mux.Handle("/debug/log-level", cfg.LogLevel)
	}
	if cfg.Debug != nil {
		mux.HandleFunc("GET /debug/targets", cfg.show(cfg.Debug.Targets))
		mux.HandleFunc("GET /debug/endpoints", cfg.show(cfg.Debug.Endpoints))
		mux.HandleFunc("GET /debug/policies", cfg.show(cfg.Debug.Policies))
	}
	if cfg.Shutdown != nil {
		mux.HandleFunc("POST /shutdown", cfg.shutdown)
	}
	return mux
}

func (cfg Config) ready(w http.ResponseWriter, _ *http.Request) {
	if cfg.Look != nil {
		cfg.Look()
	}
	ok, body := cfg.Health.Report()
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	text(w, status, body)
}

// probe performs one probe of the application's.
func (cfg Config) probe(w http.ResponseWriter, r *http.Request) {
	result, ok := cfg.Probes.Perform(r.Context(), r.PathValue("container")+"/"+r.PathValue("kind"), r.UserAgent())
	if !ok {
		text(w, http.StatusNotFound, "the pod was injected without this probe\n")
		return
	}
	text(w, result.Status, result.Body)
}

func (cfg Config) show(what func(context.Context) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := what(r.Context())
		if err == nil {
			var b []byte
			if b, err = json.MarshalIndent(v, "", "  "); err == nil {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("X-Content-Type-Options", "nosniff")
				w.Write(append(b, '\n')) //nolint:errcheck // the client left
				return
			}
		}
		text(w, http.StatusInternalServerError, err.Error()+"\n")
	}
}

func (cfg Config) shutdown(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(ShutdownHeader) == "" {
		text(w, http.StatusForbidden, "the header "+ShutdownHeader+" is missing\n")
		return
	}
	cfg.Log.Info("asked to end by its own workload", zap.String(logkey.Client, r.RemoteAddr))
	text(w, http.StatusAccepted, "ending\n")
	cfg.Shutdown()
}

func text(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write([]byte(body)) //nolint:errcheck // the client left
}

// promLog writes what promhttp complains of.
type promLog struct{ log *zap.Logger }

func (l promLog) Println(v ...any) { l.log.Sugar().Warnw("metrics cannot be shown", logkey.Error, v) }
