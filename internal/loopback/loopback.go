// Package loopback keeps doors for those on the same host: heap dumps hold keys, and lists of workloads
// are nobody else's (rule R12.5).
package loopback

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Only refuses whoever is not on this host's loopback, and requests whose Host is a foreign name: a page in
// a browser of this host can have its own name resolve to 127.0.0.1.
func Only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isAddr(r.RemoteAddr) || !isName(r.Host) {
			h := w.Header()
			h.Set("Content-Type", "text/plain; charset=utf-8")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte("from loopback only\n")) //nolint:errcheck // the client left
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isAddr(s string) bool {
	a, err := netip.ParseAddrPort(s)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func isName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
