// Package shop is Tulle's sample application: a small shop whose services speak different
// protocols and can be slowed down or made to fail while they run. It is an application and
// nothing else: it uses net/http, grpc-go and plain sockets, dials the addresses that it is
// given, and does not know that there may be a mesh.
//
//	traffic --HTTP/1--> web ------gRPC-----> catalog
//	        --HTTP/1--> cart -----TCP------> store (speaks first)
//	        --HTTP/1--> payments
//	        --WebSocket--> feed
//
// Every request carries an id in X-Request-Id; a service that has a Log writes one line per
// request that it answered, so that requests can be counted at both ends.
package shop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// The names of the shop's services.
const (
	Web      = "web"
	Catalog  = "catalog"
	Cart     = "cart"
	Store    = "store"
	Payments = "payments"
	Feed     = "feed"
)

// Fields and metadata of the shop's own protocol over HTTP and gRPC.
const (
	RequestID    = "X-Request-Id"
	instanceMeta = "shop-instance"
)

// ErrStopped ends the sessions of an instance that was told to stop.
var ErrStopped = errors.New("the instance stops")

// Settings are what can be changed while an instance runs.
type Settings struct {
	// Latency is how long an answer takes, ± 20 %. Zero answers at once.
	Latency Duration `json:"latency"`
	// Fail is the share of requests, 0 to 1, that fail with Status.
	Fail float64 `json:"fail"`
	// Status is the HTTP status of failures; zero is 500. The catalogue fails with INTERNAL and the
	// store with ERR.
	Status int `json:"status,omitempty"`
}

func (s Settings) validate() error {
	switch {
	case s.Latency < 0:
		return fmt.Errorf("latency %s: must not be negative", time.Duration(s.Latency))
	case !(s.Fail >= 0 && s.Fail <= 1):
		return fmt.Errorf("fail %g: want a share between 0 and 1", s.Fail)
	case s.Status != 0 && (s.Status < 400 || s.Status > 599):
		return fmt.Errorf("status %d: want one between 400 and 599", s.Status)
	}
	return nil
}

func (s Settings) status() int {
	if s.Status == 0 {
		return 500
	}
	return s.Status
}

// Duration is a time.Duration that JSON spells as Go does: "1.5s".
type Duration time.Duration

// MarshalText spells d.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Instance is what all services share: a name, settings, a log. Its methods are safe for use by
// several goroutines.
type Instance struct {
	service, name string
	linger        time.Duration
	log           *Log
	settings      atomic.Pointer[Settings]
	open          atomic.Int64 // requests that work has begun and done has not seen
	handled       atomic.Int64

	mu   sync.Mutex
	owed float64 // guarded by mu: failures due but not yet made
}

// Config makes an Instance.
type Config struct {
	// Service is one of the names above.
	Service string
	// Name tells instances of a service apart. Empty: the service's name.
	Name string
	// Settings are those at the start.
	Settings Settings
	// Linger is how long the instance serves on after it was told to stop, so that clients can learn
	// of it first. Zero: it stops taking work at once and finishes what is open.
	Linger time.Duration
	// Log gets a line per request. Nil: none.
	Log io.Writer
}

// New checks cfg and returns an Instance.
func New(cfg Config) (*Instance, error) {
	if err := cfg.Settings.validate(); err != nil {
		return nil, err
	}
	i := &Instance{service: cfg.Service, name: cfg.Name, linger: cfg.Linger, log: NewLog(cfg.Log)}
	if i.name == "" {
		i.name = cfg.Service
	}
	i.settings.Store(&cfg.Settings)
	return i, nil
}

// Name returns the instance's name.
func (i *Instance) Name() string { return i.name }

// Settings returns those in force.
func (i *Instance) Settings() Settings { return *i.settings.Load() }

// Set replaces the settings.
func (i *Instance) Set(s Settings) error {
	if err := s.validate(); err != nil {
		return err
	}
	i.settings.Store(&s)
	return nil
}

// Counts are how many requests an instance works on and has answered.
type Counts struct {
	Open    int64 `json:"open"`
	Handled int64 `json:"handled"`
}

// Counts returns i's.
func (i *Instance) Counts() Counts { return Counts{Open: i.open.Load(), Handled: i.handled.Load()} }

// work takes the time that an answer takes and says whether it is one that shall fail. It returns
// an error, and done is not to be called, when the client left meanwhile.
func (i *Instance) work(ctx context.Context) (fail bool, err error) {
	i.open.Add(1)
	defer func() {
		if err != nil {
			i.open.Add(-1)
		}
	}()
	s := i.Settings()
	if s.Latency > 0 {
		t := time.NewTimer(time.Duration(float64(s.Latency) * (0.8 + 0.4*rand.Float64())))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return i.failNow(s.Fail), nil
}

// failNow spreads failures evenly, so that a share of 0.2 is every fifth request and not a guess.
func (i *Instance) failNow(share float64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.owed += share
	if i.owed < 1-1e-9 {
		return false
	}
	i.owed--
	return true
}

// done counts a request and logs it.
func (i *Instance) done(r Record) {
	i.open.Add(-1)
	i.handled.Add(1)
	r.Service, r.Instance = i.service, i.name
	i.log.Write(r)
}

// Record is a line of a log: a request as a service answered it, or as the generator saw it.
type Record struct {
	// Time is when the request began, in Unix milliseconds.
	Time int64 `json:"time"`
	// Service is who answered, and Instance which of them, where that is known.
	Service  string `json:"service"`
	Instance string `json:"instance,omitempty"`
	ID       string `json:"id,omitempty"`
	// Status is the HTTP status, the gRPC code's name, or OK and ERR of the store.
	Status string `json:"status,omitempty"`
	OK     bool   `json:"ok"`
	// MS is how long it took, in milliseconds.
	MS    float64 `json:"ms"`
	Error string  `json:"error,omitempty"`
	// Calls are the requests that were made in order to answer.
	Calls []Call `json:"calls,omitempty"`
}

// Call is a request that one service made to another.
type Call struct {
	Service  string  `json:"service"`
	Instance string  `json:"instance,omitempty"`
	Status   string  `json:"status"`
	OK       bool    `json:"ok"`
	MS       float64 `json:"ms"`
}

// Log writes records as JSON lines. A nil Log writes nothing.
type Log struct {
	mu  sync.Mutex
	enc *json.Encoder // guarded by mu
}

// NewLog returns a Log on w, or nil for a nil w.
func NewLog(w io.Writer) *Log {
	if w == nil {
		return nil
	}
	return &Log{enc: json.NewEncoder(w)}
}

// Write adds r. The log is a test's or a demo's, and a disk that is full shows at its end.
func (l *Log) Write(r Record) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.enc.Encode(r)
}

// Millis is d in milliseconds.
func Millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
