package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

const (
	headTime  = 10 * time.Second
	idleTime  = time.Minute
	leaveTime = time.Second
	headBytes = 16 << 10
)

// Server is the door on its port.
type Server struct {
	cfg Config
	l   net.Listener
}

// New listens at cfg.Addr; Run serves and closes.
func New(cfg Config) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return &Server{cfg: cfg, l: l}, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.l.Addr().(*net.TCPAddr).AddrPort() }

// Run serves until ctx ends, and returns after its requests have ended or a second has passed.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{
		Handler: Handler(s.cfg), ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: headBytes,
		ErrorLog: zap.NewStdLog(s.cfg.Log),
		// Requests end with ctx: a profile of 30 s must not outlive the proxy.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(s.l) }() // owned by Run, ends with the server
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", s.l.Addr(), err)
	case <-ctx.Done():
	}
	// The parent is over; what is left gets a moment of its own.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := h.Shutdown(last); err != nil {
		h.Close() //nolint:errcheck // what is left is cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.l.Addr(), err)
	}
	return nil
}
