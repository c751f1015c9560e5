package mesh

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
)

// TestClientsOfOtherMakers runs test/mesh/clients/run against a mesh of real binaries: R3.1, R3.3,
// R4.7 with curl, nghttp, h2load, grpcurl and Python's websockets.
func TestClientsOfOtherMakers(t *testing.T) {
	if testing.Short() {
		t.Skip("long: installs and runs curl, nghttp, h2load, grpcurl and python3-websockets")
	}
	w := newWorld(t, worldConfig{mode: binaries, slots: 3})
	httpAddr, httpListener := w.listen(t)
	serveHTTP(t, httpListener, answerAnything)

	grpcAddr, grpcListener := w.listen(t)
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, grpcService{})
	reflection.Register(srv)
	var all sync.WaitGroup
	all.Go(func() { _ = srv.Serve(grpcListener) }) // ended by Stop
	t.Cleanup(func() { srv.Stop(); all.Wait() })

	wsAddr, wsListener := w.listen(t)
	serveHTTP(t, wsListener, func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	})

	cmd := exec.CommandContext(t.Context(), "clients/run")
	cmd.Env = append(os.Environ(), "HTTP="+httpAddr, "GRPC="+grpcAddr, "WS="+wsAddr)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("clients/run: %v", err)
	}
}

// answerAnything answers what clients/run asks.
func answerAnything(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/sum":
		got, _, err := sum(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(rw, got)
		return
	case r.URL.Path == "/trailers":
		rw.Header().Set("Trailer", "X-End")
		defer rw.Header().Set("X-End", "here")
	case strings.HasPrefix(r.URL.Path, "/status/"):
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/status/"))
		if err == nil {
			rw.WriteHeader(code)
		}
	}
	fmt.Fprintln(rw, r.Method, r.URL.Path, r.Proto)
}
