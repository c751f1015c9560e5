package shop

import (
	"context"
	"net"
	"net/http"
	"time"
)

// ServeCart serves the cart on ln: POST /carts/USER/items adds one item, GET /carts/USER tells
// their number. storeAddr is where the store is dialled.
func (i *Instance) ServeCart(ctx context.Context, ln net.Listener, storeAddr string) error {
	store := NewStoreClient(storeAddr)
	defer store.Close()
	ask := func(verb string) http.Handler {
		return i.endpoint(func(r *http.Request) reply {
			ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
			defer cancel()
			began := time.Now()
			result, err := store.Do(ctx, verb, r.Header.Get(RequestID), r.PathValue("user"))
			call := Call{Service: Store, Instance: result.Instance, Status: "OK", OK: true, MS: Millis(time.Since(began))}
			if err != nil {
				call.Status, call.OK = "ERR", false
				return reply{status: http.StatusBadGateway, err: "store: " + err.Error(), calls: []Call{call}}
			}
			return reply{calls: []Call{call}, body: map[string]int{"items": result.Count}}
		})
	}
	mux := http.NewServeMux()
	mux.Handle("POST /carts/{user}/items", ask("ADD"))
	mux.Handle("GET /carts/{user}", ask("GET"))
	return i.serveHTTP(ctx, ln, mux)
}
