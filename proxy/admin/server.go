package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const (
	headTime  = 10 * time.Second
	wholeTime = 2 * time.Minute // longer than a profile
	idleTime  = time.Minute
	leaveTime = time.Second
	headBytes = 16 << 10
)

// Serve serves cfg on l until ctx ends, and returns after its requests have ended or a second has
// passed. It closes l.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	s := &http.Server{
		Handler: Handler(cfg), ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: headBytes,
		ReadTimeout: wholeTime, WriteTimeout: wholeTime, ConnState: newCrowd(mostConns).note,
		ErrorLog: zap.NewStdLog(cfg.Log),
		// Requests end with ctx: a profile of 30 s must not outlive the proxy.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }() // owned by Serve, ends with the server
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	// The parent is over; what is left gets a moment of its own.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := s.Shutdown(last); err != nil {
		s.Close() // what is left is cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
