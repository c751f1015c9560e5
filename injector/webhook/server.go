package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/tulle-mesh/tulle/injector/config"
	"github.com/tulle-mesh/tulle/internal/logkey"
	"github.com/tulle-mesh/tulle/internal/loopback"
	"github.com/tulle-mesh/tulle/internal/run"
)

// Config of a Server. It is immutable once passed.
type Config struct {
	Log    *zap.Logger          // required
	Client kubernetes.Interface // required
	// Registerer takes the metrics. Required.
	Registerer prometheus.Registerer
	// Listener is where the API server asks; the Server closes it. Required.
	Listener net.Listener
	// Namespace is the control plane's. Required.
	Namespace string
	// Replica names this instance to the others: the pod's name. Required.
	Replica string
	// SweepEvery is how often pods without a proxy are looked for; 0: every minute.
	SweepEvery time.Duration
	// LameDuck is how long questions are answered after the end was asked for, until the API server has
	// heard of it; 0: 5 s.
	LameDuck time.Duration
	// LogLevel serves /debug/log-level for loopback, GET and PUT; nil: the level cannot be changed.
	LogLevel http.Handler
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Server is one replica of the injector. Make it with New, and Run it once.
type Server struct {
	cfg      Config
	keeper   *keeper
	settings *settings
	mirror   *mirror
	counts   *counts

	cluster informers.SharedInformerFactory   // Namespaces
	own     []informers.SharedInformerFactory // single objects, by name
	synced  []cache.InformerSynced
	ending  atomic.Bool
	serving atomic.Bool
}

// New returns a Server; nothing runs yet.
func New(cfg Config) (*Server, error) {
	if cfg.SweepEvery == 0 {
		cfg.SweepEvery = time.Minute
	}
	if cfg.LameDuck == 0 {
		cfg.LameDuck = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, counts: newCounts(cfg.Registerer), cluster: informers.NewSharedInformerFactory(cfg.Client, 0)}
	namespaces := s.cluster.Core().V1().Namespaces()
	s.keeper = &keeper{
		client: cfg.Client, namespace: cfg.Namespace, now: cfg.Now, counts: s.counts,
		log: cfg.Log.Named("certificate"), wake: make(chan struct{}, 1),
	}
	s.settings = &settings{
		client: cfg.Client, namespace: cfg.Namespace, counts: s.counts, log: cfg.Log.Named("config"), namespaces: namespaces.Lister(),
	}
	s.mirror = &mirror{
		client: cfg.Client, namespaces: namespaces.Lister(), counts: s.counts, log: cfg.Log.Named("mirror"), wake: make(chan struct{}, 1),
	}
	err := s.watch(namespaces.Informer())
	return s, err
}

// watch connects what is watched with those who want to know. Single objects are watched by their names: no
// more is allowed to the injector.
func (s *Server) watch(namespaces cache.SharedIndexInformer) error {
	named := func(namespace, name string) informers.SharedInformerFactory {
		f := informers.NewSharedInformerFactoryWithOptions(s.cfg.Client, 0, informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) {
				o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
			}))
		s.own = append(s.own, f)
		return f
	}
	configs := named(s.cfg.Namespace, config.ConfigMap).Core().V1().ConfigMaps().Informer()
	secrets := named(s.cfg.Namespace, Secret).Core().V1().Secrets().Informer()
	hooks := named("", WebhookConfig).Admissionregistration().V1().MutatingWebhookConfigurations().Informer()
	var errs []error
	on := func(i cache.SharedIndexInformer, f func(any)) {
		r, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: f, UpdateFunc: func(_, o any) { f(o) }, DeleteFunc: func(any) { f(nil) },
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("watch: %w", err))
			return
		}
		s.synced = append(s.synced, r.HasSynced)
	}
	on(configs, func(o any) {
		if cm, ok := o.(*corev1.ConfigMap); ok && cm.Name == config.ConfigMap {
			s.settings.read(cm)
		}
	})
	on(secrets, func(any) { s.keeper.changed() })
	on(hooks, func(any) { s.keeper.changed() })
	on(namespaces, func(any) { s.mirror.changed() })
	return errors.Join(errs...)
}

// Run serves until ctx ends and everything has been answered.
func (s *Server) Run(ctx context.Context) error {
	recorder, stop := newRecorder(ctx, s.cfg.Client, s.cfg.Log)
	defer stop()
	factories := append([]informers.SharedInformerFactory{s.cluster}, s.own...)
	for _, f := range factories {
		f.StartWithContext(ctx)
	}
	defer func() {
		for _, f := range factories {
			f.Shutdown() // waits
		}
	}()
	g := &run.Group{}
	g.Add("certificate", run.Func(s.keeper.run))
	g.Add("version", run.Func(s.learn))
	g.Add("leader", run.Func(func(ctx context.Context) error { return s.lead(ctx, recorder) }))
	g.Add("serve", run.Func(func(ctx context.Context) error { return s.serve(ctx, recorder) }))
	return g.Run(ctx)
}

// learn asks for the cluster's version until it is known, and again now and then: clusters are upgraded.
func (s *Server) learn(ctx context.Context) error {
	for {
		wait := 10 * time.Minute
		if err := s.settings.learnVersion(); err != nil {
			s.cfg.Log.Warn("the cluster does not tell its version", zap.Error(err))
			wait = 2 * time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// Missing names what this replica waits for before it can answer; nothing when it can.
func (s *Server) Missing() []string {
	var missing []string
	for _, why := range []string{s.keeper.missing(), s.settings.missing()} {
		if why != "" {
			missing = append(missing, why)
		}
	}
	for _, synced := range s.synced {
		if !synced() {
			missing = append(missing, "the cluster has not been listed yet")
			break
		}
	}
	if !s.serving.Load() {
		missing = append(missing, "the webhook does not listen yet")
	}
	if s.ending.Load() {
		missing = append(missing, "it was asked to end")
	}
	return missing
}

// serve answers until ctx ends, and then as long as the API server may not have heard of it.
func (s *Server) serve(ctx context.Context, recorder record.EventRecorder) error {
	mux := http.NewServeMux()
	mux.Handle("POST "+Path, &admission{
		settings: s.settings, recorder: recorder, counts: s.counts, log: s.cfg.Log.Named("admission"), now: s.cfg.Now,
	})
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog:  zap.NewStdLog(s.cfg.Log.Named("http")),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.keeper.certificate},
	}
	stopped := make(chan struct{})
	go func() { // ends with ctx; serve waits for it
		defer close(stopped)
		<-ctx.Done()
		s.ending.Store(true)
		t := time.NewTimer(s.cfg.LameDuck)
		defer t.Stop()
		<-t.C
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	s.serving.Store(true)
	s.cfg.Log.Info("webhook", zap.Stringer(logkey.Addr, s.cfg.Listener.Addr()))
	err := srv.ServeTLS(s.cfg.Listener, "", "")
	if ctx.Err() == nil {
		return err
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Admin is the process's own door: /live, /ready, what metrics says at /metrics, and /debug for loopback.
func (s *Server) Admin(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	text := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		w.Write([]byte(body)) //nolint:errcheck // the client left
	}
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "live\n") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if missing := s.Missing(); len(missing) > 0 {
			text(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(missing, "; ")+"\n")
			return
		}
		text(w, http.StatusOK, "ready\n")
	})
	mux.Handle("GET /metrics", metrics)
	if s.cfg.LogLevel != nil {
		mux.Handle("/debug/log-level", loopback.Only(s.cfg.LogLevel))
	}
	return mux
}
