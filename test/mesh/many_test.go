package mesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

func manyCases() []meshCase {
	return []meshCase{
		{"many/http1", func(t *testing.T, w *world) { manyHTTP(t, w, http1Client(t)) }},
		{"many/http2", func(t *testing.T, w *world) { manyHTTP(t, w, http2Client(t)) }},
		{"many/grpc", manyGRPC},
		{"many/tcp", manyTCP},
	}
}

// gate holds what comes until n have come.
type gate struct {
	left atomic.Int32
	open chan struct{}
}

func newGate(n int32) *gate {
	g := &gate{open: make(chan struct{})}
	g.left.Store(n)
	return g
}

func (g *gate) pass(ctx context.Context) {
	if g.left.Add(-1) == 0 {
		close(g.open)
	}
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

const many = 1000

// manyHTTP: a thousand requests are in the application's hands at one time. R4.4.
func manyHTTP(t *testing.T, w *world, c *http.Client) {
	dial, l := w.listen(t)
	g := newGate(many)
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/warm" {
			g.pass(r.Context())
		}
		fmt.Fprint(rw, r.URL.Path, " ", string(b))
	})
	// The port is known to speak HTTP from now on. Else each of the thousand connections that
	// net/http opens before it needs them would be silent for 10 ms and cost a probe (R2.5).
	resp, err := c.Get("http://" + dial + "/warm")
	ok(t, err)
	resp.Body.Close()
	var all sync.WaitGroup
	ctx := limited(t)
	for i := range many {
		all.Go(func() {
			body := fmt.Sprint("body ", i)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%s/%d", dial, i), strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if want := fmt.Sprintf("/%d %s", i, body); err != nil || string(b) != want {
				t.Errorf("%v, %s, got %q, want %q", err, resp.Status, b, want)
			}
		})
	}
	all.Wait()
}

// gatedGRPC holds unary calls.
type gatedGRPC struct {
	pb.UnimplementedTestServiceServer

	g *gate
}

// UnaryCall answers once all have come.
func (s gatedGRPC) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	s.g.pass(ctx)
	return &pb.SimpleResponse{Username: bytesSum(r.GetPayload().GetBody())}, nil
}

func manyGRPC(t *testing.T, w *world) {
	dial, l := w.listen(t)
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, gatedGRPC{g: newGate(many)})
	var all sync.WaitGroup
	all.Go(func() { _ = srv.Serve(l) }) // ended by Stop
	t.Cleanup(func() { srv.Stop(); all.Wait() })
	var clients []pb.TestServiceClient // grpc-go has one connection each, and each takes 250 streams (R4.1)
	for range 5 {
		clients = append(clients, pb.NewTestServiceClient(grpcClient(t, dial)))
	}
	ctx := limited(t)
	var calls sync.WaitGroup
	for i := range many {
		c := clients[i%len(clients)]
		calls.Go(func() {
			b := fmt.Append(nil, "body ", i)
			r, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: b}})
			if err != nil || r.GetUsername() != bytesSum(b) {
				t.Errorf("%v, %q", err, r.GetUsername())
			}
		})
	}
	calls.Wait()
}

// manyTCP: two hundred tunnels at once, each with bytes of its own.
func manyTCP(t *testing.T, w *world) {
	dial, l := w.listen(t)
	const tunnels = 200
	g := newGate(tunnels)
	ctx := limited(t)
	serveTCP(t, l, func(c *net.TCPConn) {
		g.pass(ctx)
		io.Copy(c, c)
	})
	var all sync.WaitGroup
	for i := range tunnels {
		c := connect(t, dial)
		ok(t, c.SetDeadline(deadline(t)))
		all.Go(func() {
			want := fmt.Sprintf("\x00tunnel %d\n", i)
			io.WriteString(c, want)
			c.CloseWrite()
			b, err := io.ReadAll(c)
			if err != nil || string(b) != want {
				t.Errorf("%v, %q, want %q", err, b, want)
			}
		})
	}
	all.Wait()
}
