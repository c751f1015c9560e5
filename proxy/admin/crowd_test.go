package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/tulle-mesh/tulle/proxy/admin"
)

// serving serves cfg and returns the address.
func serving(t *testing.T, cfg admin.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, l, cfg) }() // ends with ctx
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dialAdmin(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// R1.5, R12.5: the door is open to the network. Whoever fills it with connections that say nothing, or
// nothing more, keeps neither the kubelet out nor the proxy's file descriptors.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	addr := serving(t, config())
	var silent []net.Conn
	for i := range 300 {
		c := dialAdmin(t, addr)
		if i%2 == 0 { // one that was used, and rests
			fmt.Fprint(c, "GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			resp.Body.Close()
		}
		silent = append(silent, c)
	}
	for _, c := range silent[:300-3*admin.MostConns] { // the order of the last ones is not certain
		_, _ = io.Copy(io.Discard, c) // returns once it is closed, or reset
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get("http://" + addr + "/live")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
