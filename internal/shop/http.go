package shop

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// stopWithin is how long an instance may take to finish what is open.
const stopWithin = 25 * time.Second

// Answer is the body of every HTTP answer of the shop.
type Answer struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	ID       string `json:"id,omitempty"`
	Error    string `json:"error,omitempty"`
	// Calls are the requests that were made in order to answer.
	Calls []Call `json:"calls,omitempty"`
	Body  any    `json:"body,omitempty"`
}

// reply is what a handler decides; status zero is 200.
type reply struct {
	status int
	err    string
	calls  []Call
	body   any
}

// endpoint makes an http.Handler of h: settings apply, the answer is written, the log is kept.
func (i *Instance) endpoint(h func(*http.Request) reply) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		var out reply
		switch fail, err := i.work(r.Context()); {
		case err != nil: // the client left
			return
		case fail:
			out = reply{status: i.Settings().status(), err: "fails on purpose"}
		default:
			out = h(r)
		}
		if out.status == 0 {
			out.status = http.StatusOK
		}
		id := r.Header.Get(RequestID)
		i.done(Record{
			Time: began.UnixMilli(), ID: id, Status: strconv.Itoa(out.status), OK: out.status < 500,
			MS: Millis(time.Since(began)), Error: out.err, Calls: out.calls,
		})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(out.status)
		_ = json.NewEncoder(w).Encode(Answer{
			Service: i.service, Instance: i.name, ID: id, Error: out.err, Calls: out.calls, Body: out.body,
		})
	})
}

// serveHTTP serves h on ln until ctx ends, and after that what is open.
func (i *Instance) serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }() // ends with Shutdown or Close below
	select {
	case err := <-ended:
		return err
	case <-i.stopping(ctx):
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err := s.Shutdown(finish)
	if err != nil {
		_ = s.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// stopping is closed when ctx has ended and the time to linger is over.
func (i *Instance) stopping(ctx context.Context) <-chan struct{} {
	if i.linger <= 0 {
		return ctx.Done()
	}
	over := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(i.linger, func() { close(over) }) })
	return over
}
