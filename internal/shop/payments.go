package shop

import (
	"context"
	"net"
	"net/http"
)

// ServePayments serves payments on ln: POST /charges takes a charge.
func (i *Instance) ServePayments(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("POST /charges", i.endpoint(func(*http.Request) reply {
		return reply{status: http.StatusCreated}
	}))
	return i.serveHTTP(ctx, ln, mux)
}
