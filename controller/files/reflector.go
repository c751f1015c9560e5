package files

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
	"github.com/tulle-mesh/tulle/internal/logkey"
)

// Config is what a Reflector is made of. Dir and Store are needed.
type Config struct {
	Dir     string
	Store   *state.Store
	Reports *status.Set // nil keeps them to itself
	// Quiet is how long the directory must be quiet before it is read; 0 is 20 ms. It is read after
	// ten times that in any case.
	Quiet time.Duration
	// Rescan is how often every file is read whether or not the watch saw a change; 0 is 30 s.
	Rescan time.Duration
	Log    *zap.Logger // nil is silent
}

// Reflector keeps a Store equal to a directory.
type Reflector struct {
	cfg  Config
	dir  *dir
	poke chan struct{} // holds a token when somebody asked for a rescan

	dups []status.Report // of the last application
}

// New returns a Reflector that does nothing before Run.
func New(cfg Config) *Reflector {
	if cfg.Reports == nil {
		cfg.Reports = status.NewSet(nil)
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = 20 * time.Millisecond
	}
	if cfg.Rescan == 0 {
		cfg.Rescan = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Reflector{
		cfg: cfg, dir: newDir(cfg.Dir, cfg.Store.Settings().TrustDomain), poke: make(chan struct{}, 1),
	}
}

// Rescan asks for every file to be read soon. It does not block.
func (r *Reflector) Rescan() {
	select {
	case r.poke <- struct{}{}:
	default: // one is due
	}
}

// Read reads the directory once. It must not be called while Run runs.
func (r *Reflector) Read() { r.scan(nil, true, nil) }

// Run keeps the store up to date until ctx ends. Without a working watch it lives on rescans, and
// says so.
func (r *Reflector) Run(ctx context.Context) error {
	w := r.watch()
	if w != nil {
		defer w.Close()
	}
	r.scan(w, true, nil)
	rescan := time.NewTicker(r.cfg.Rescan)
	defer rescan.Stop()
	q := newQuiet(r.cfg.Quiet)
	defer q.stop()
	events, errs := channels(w)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			q.note(e.Name)
		case err := <-errs:
			r.cfg.Log.Warn("watching the directory", zap.String(logkey.File, r.cfg.Dir), zap.Error(err))
			r.Rescan() // events may be lost
		case <-q.timer.C:
			r.scan(w, false, q.take())
		case <-r.poke:
			r.scan(w, true, nil)
		case <-rescan.C:
			r.scan(w, true, nil)
		}
	}
}

func (r *Reflector) watch() *fsnotify.Watcher {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.cfg.Log.Warn("no watch on the directory, it is read every now and then",
			zap.String(logkey.File, r.cfg.Dir), zap.Duration(logkey.Duration, r.cfg.Rescan), zap.Error(err))
		return nil
	}
	return w
}

func channels(w *fsnotify.Watcher) (<-chan fsnotify.Event, <-chan error) {
	if w == nil {
		return nil, nil
	}
	return w.Events, w.Errors
}

// scan reads what may have changed, applies it, and says what there is to say.
func (r *Reflector) scan(w *fsnotify.Watcher, all bool, suspects map[string]bool) {
	if w != nil {
		r.follow(w) // before reading: what changes meanwhile is an event
	}
	l := r.dir.read(all, suspects)
	if l.changed {
		r.dups = r.dir.apply(r.cfg.Store)
	}
	if l.complete {
		r.cfg.Store.MarkSynced()
	}
	reports := slices.Concat(l.reports, r.dups)
	select {
	case <-r.cfg.Store.Synced():
	default:
		reports = append(reports, status.Report{
			Severity: status.Notice, File: r.cfg.Dir,
			Message: "nothing is served before every file was good once",
		})
	}
	r.cfg.Reports.Replace("files "+r.cfg.Dir, reports)
	r.cfg.Reports.Replace("check "+r.cfg.Dir, r.place(status.Check(r.cfg.Store.Snapshot())))
}

// place adds to reports about objects the file and line where they were read.
func (r *Reflector) place(reports []status.Report) []status.Report {
	for i := range reports {
		if o, ok := r.dir.applied[reports[i].Object]; ok {
			reports[i].File, reports[i].Line = o.file, o.line
		}
	}
	return reports
}

// follow watches every directory that there is; watching one twice is no error.
func (r *Reflector) follow(w *fsnotify.Watcher) {
	for _, d := range r.dir.list() {
		if err := w.Add(d); err != nil {
			r.cfg.Log.Debug("watch", zap.String(logkey.File, d), zap.Error(fmt.Errorf("watch %s: %w", d, err)))
		}
	}
}

// quiet waits until a burst of events has ended.
type quiet struct {
	wait     time.Duration
	timer    *time.Timer
	first    time.Time
	suspects map[string]bool
}

func newQuiet(wait time.Duration) *quiet {
	q := &quiet{wait: wait, timer: time.NewTimer(time.Hour)}
	q.timer.Stop()
	return q
}

func (q *quiet) note(path string) {
	now := time.Now()
	if q.suspects == nil {
		q.suspects, q.first = make(map[string]bool), now
	}
	q.suspects[path] = true
	q.timer.Reset(max(0, min(q.wait, q.first.Add(10*q.wait).Sub(now))))
}

func (q *quiet) take() map[string]bool {
	s := q.suspects
	q.suspects = nil
	return s
}

func (q *quiet) stop() { q.timer.Stop() }
