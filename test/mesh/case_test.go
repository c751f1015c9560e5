package mesh

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// meshCase is one thing that a mesh must do, wherever its proxies run.
type meshCase struct {
	name string
	run  func(t *testing.T, w *world)
}

func cases() []meshCase {
	all := [][]meshCase{headCases(), framingCases(), http2Cases(), payloadCases(), endCases(), manyCases()}
	var out []meshCase
	for _, c := range all {
		out = append(out, c...)
	}
	return out
}

func runCases(t *testing.T, m mode) {
	w := newWorld(t, worldConfig{mode: m})
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.run(t, w) })
	}
}

// TestMeshInOneProcess runs every case with the proxies in this process.
func TestMeshInOneProcess(t *testing.T) { runCases(t, inProcess) }

// TestMeshOfProcesses runs every case with the real binaries.
func TestMeshOfProcesses(t *testing.T) { runCases(t, binaries) }

// payload is n bytes that seed determines.
func payload(seed uint64, n int64) io.Reader {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%032d", seed))
	return io.LimitReader(rand.NewChaCha8(key), n)
}

// sum is the sha256 of what r yields, in hexadecimal, and its length.
func sum(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// wantSum is the sha256 of a payload.
func wantSum(seed uint64, n int64) string {
	s, _, err := sum(payload(seed, n))
	if err != nil {
		panic("BUG: a payload that fails")
	}
	return s
}

// sizes are those at which buffers, records and windows end; the big one is for make test-long.
func sizes() []int64 {
	s := []int64{0, 1, 16<<10 - 1, 16 << 10, 16<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 + 7}
	if !testing.Short() {
		s = append(s, 64<<20)
	}
	return s
}

// serveHTTP serves HTTP/1 and HTTP/2 with prior knowledge by net/http until the test ends.
func serveHTTP(t testing.TB, l net.Listener, h http.HandlerFunc) {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: p, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 250}}
	done := make(chan struct{})
	go func() { // ended by Close
		defer close(done)
		_ = srv.Serve(l) // it says that it was closed
	}()
	t.Cleanup(func() { srv.Close(); <-done })
}

// http1Client and http2Client are net/http's.
func http1Client(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func http2Client(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// grpcClient is grpc-go's.
func grpcClient(t testing.TB, addr string) *grpc.ClientConn {
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	ok(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// limit is how long one exchange may take. Those of make test-long carry 64 MiB, with the race detector.
func limit() time.Duration {
	if testing.Short() {
		return 2 * long
	}
	return 20 * long
}

// limited is a context that ends before the test is given up.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit())
	t.Cleanup(cancel)
	return ctx
}
