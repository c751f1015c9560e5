package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// most is how much a proxy may have resident at any time, in bytes.
const most = 64 << 20

// TestAStoppedReaderCostsNoMemory: R4.2. For each protocol and direction a body whose reader stops in
// its middle arrives whole, five at the same time, and neither proxy grows over 64 MiB.
func TestAStoppedReaderCostsNoMemory(t *testing.T) {
	up, down := directWorld(t, 12), directWorld(t, 12)
	var all sync.WaitGroup
	for i, f := range flows() {
		f.n, f.stop = 32<<20, 2*time.Second
		w := []*world{up, down}[i%2]
		all.Go(func() { f.try(t, w) })
	}
	all.Wait()
	up.wantSmall(t, stopped{})
	down.wantSmall(t, stopped{})
}

// TestAStoppedReaderOfAGibibyte is the same with 1 GiB and a minute, by itself for each.
func TestAStoppedReaderOfAGibibyte(t *testing.T) {
	if testing.Short() {
		t.Skip("long: sends a gibibyte for each protocol and direction")
	}
	r := newResults(t, "stopped-reader", "One long body for each protocol and direction, its reader stops in the middle")
	for _, f := range flows() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // each has proxies of its own; they wait most of the time
			f.n, f.stop = 1<<30, time.Minute
			w := directWorld(t, 12)
			began := time.Now()
			f.try(t, w)
			w.wantSmall(t, stopped{what: f.name, number: 1, flow: f, took: time.Since(began), to: r})
		})
	}
}

// TestManyStoppedReaders: R4.2. What is kept for stopped readers hardly grows with their number: ten
// and a hundred of all protocols and directions at once over one pair of proxies.
func TestManyStoppedReaders(t *testing.T) {
	if testing.Short() {
		t.Skip("long: a hundred bodies with a stop in each")
	}
	r := newResults(t, "stopped-readers", "Long bodies of all protocols and directions at once, their readers stop in the middle")
	for _, each := range []int{1, 10} {
		number := each * len(flows())
		t.Run(strconv.Itoa(number), func(t *testing.T) {
			w := directWorld(t, number+1)
			began := time.Now()
			var all sync.WaitGroup
			var last flow
			for range each {
				for _, f := range flows() {
					f.n, f.stop = 32<<20, 20*time.Second
					all.Go(func() { f.try(t, w) })
					last = f
				}
			}
			all.Wait()
			w.wantSmall(t, stopped{what: "all", number: number, flow: last, took: time.Since(began), to: r})
		})
	}
}

// directWorld has processes for proxies and no recorder between them.
func directWorld(t *testing.T, slots int) *world {
	cfg := worldConfig{mode: binaries, slots: slots}
	w := bareWorld(t, cfg)
	w.announce(cfg, w.net+"4")
	w.server, w.client = w.start(w.serverSpec(false)), w.start(w.clientSpec(false))
	return w
}

// stopped is what was measured of flows whose readers stopped.
type stopped struct {
	what   string
	number int
	flow   flow
	took   time.Duration
	to     *results // nil: for nobody
}

// wantSmall looks at the most that both proxies had.
func (w *world) wantSmall(t *testing.T, s stopped) {
	t.Helper()
	const mib = 1 << 20
	client, server := resident(t, w.client.pid), resident(t, w.server.pid)
	t.Logf("resident at most: %.1f MiB outbound, %.1f MiB inbound", float64(client)/mib, float64(server)/mib)
	if client > most || server > most {
		t.Errorf("over %d MiB", most/mib)
	}
	if s.to != nil {
		s.to.rowf("| %s | %d | %d | %.0f | %v | %.0f | %.1f | %.1f |", s.what, s.number, s.flow.n/mib, s.flow.stop.Seconds(), !t.Failed(),
			s.took.Seconds(), float64(client)/mib, float64(server)/mib)
	}
}

// flow is one long body in one direction.
type flow struct {
	name string
	n    int64
	stop time.Duration
	run  func(f *flow, t *testing.T, w *world) (sum string, err error)
}

func (f *flow) try(t *testing.T, w *world) {
	got, err := f.run(f, t, w)
	if err != nil || got != wantSum(seedUp, f.n) {
		t.Errorf("%s: %v, the sum is right: %v", f.name, err, got == wantSum(seedUp, f.n))
	}
}

// source is the body, sink reads it with a stop in its middle.
func (f *flow) source() io.Reader { return payload(seedUp, f.n) }

func (f *flow) sink(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.CopyN(h, r, f.n/2); err != nil {
		return "", fmt.Errorf("first half: %w", err)
	}
	pause(f.stop)
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("second half: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func flows() []flow {
	h1 := func(t *testing.T) *http.Client { return http1Client(t) }
	h2 := func(t *testing.T) *http.Client { return http2Client(t) }
	return []flow{
		{name: "http1 up", run: httpUp(h1)}, {name: "http1 down", run: httpDown(h1)},
		{name: "http2 up", run: httpUp(h2)}, {name: "http2 down", run: httpDown(h2)},
		{name: "grpc up", run: grpcUp}, {name: "grpc down", run: grpcDown},
		{name: "websocket up", run: websocketUp}, {name: "websocket down", run: websocketDown},
		{name: "tcp up", run: tcpUp}, {name: "tcp down", run: tcpDown},
	}
}

func httpUp(client func(*testing.T) *http.Client) func(*flow, *testing.T, *world) (string, error) {
	return func(f *flow, t *testing.T, w *world) (string, error) {
		dial, l := w.listen(t)
		serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
			got, err := f.sink(r.Body)
			fmt.Fprint(rw, got)
			if err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		})
		resp, err := client(t).Post("http://"+dial, "x/y", io.NopCloser(f.source()))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
}

func httpDown(client func(*testing.T) *http.Client) func(*flow, *testing.T, *world) (string, error) {
	return func(f *flow, t *testing.T, w *world) (string, error) {
		dial, l := w.listen(t)
		serveHTTP(t, l, func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(rw, f.source()) // the client sees a body cut short
		})
		resp, err := client(t).Get("http://" + dial)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		return f.sink(resp.Body)
	}
}

// pieces yields the body in messages.
func (f *flow) pieces(send func([]byte) error) error {
	src, buf := f.source(), make([]byte, 64<<10)
	for more := true; more; {
		n, err := io.ReadFull(src, buf)
		more = err == nil // a body ends with a piece that is not full, or with none
		if n == 0 {
			break
		}
		if err := send(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// joined makes one stream of messages.
type joined struct {
	next func() ([]byte, error)
	rest []byte
}

// Read implements io.Reader.
func (j *joined) Read(p []byte) (int, error) {
	for len(j.rest) == 0 {
		var err error
		if j.rest, err = j.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, j.rest)
	j.rest = j.rest[n:]
	return n, nil
}

// flowGRPC is the server of a flow.
type flowGRPC struct {
	pb.UnimplementedTestServiceServer

	f *flow
}

// FullDuplexCall takes the body and sends its sum.
func (s flowGRPC) FullDuplexCall(c grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	got, err := s.f.sink(&joined{next: func() ([]byte, error) {
		m, err := c.Recv()
		return m.GetPayload().GetBody(), err
	}})
	if err != nil {
		return err
	}
	return c.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: []byte(got)}})
}

// StreamingOutputCall sends the body.
func (s flowGRPC) StreamingOutputCall(_ *pb.StreamingOutputCallRequest, c grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	return s.f.pieces(func(b []byte) error {
		return c.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: b}})
	})
}

func (f *flow) grpc(t *testing.T, w *world) pb.TestServiceClient {
	dial, l := w.listen(t)
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, flowGRPC{f: f})
	done := make(chan struct{})
	go func() { // ended by Stop
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return pb.NewTestServiceClient(grpcClient(t, dial))
}

func grpcUp(f *flow, t *testing.T, w *world) (string, error) {
	s, err := f.grpc(t, w).FullDuplexCall(t.Context())
	if err != nil {
		return "", err
	}
	err = f.pieces(func(b []byte) error {
		return s.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: b}})
	})
	if err != nil {
		return "", err
	}
	if err := s.CloseSend(); err != nil {
		return "", err
	}
	m, err := s.Recv()
	return string(m.GetPayload().GetBody()), err
}

func grpcDown(f *flow, t *testing.T, w *world) (string, error) {
	s, err := f.grpc(t, w).StreamingOutputCall(t.Context(), &pb.StreamingOutputCallRequest{})
	if err != nil {
		return "", err
	}
	return f.sink(&joined{next: func() ([]byte, error) {
		m, err := s.Recv()
		return m.GetPayload().GetBody(), err
	}})
}

// feed serves one WebSocket and dials it.
func (f *flow) feed(t *testing.T, w *world, server func(ctx context.Context, c *websocket.Conn)) (*websocket.Conn, error) {
	dial, l := w.listen(t)
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		server(r.Context(), c)
	})
	c, _, err := websocket.Dial(t.Context(), "ws://"+dial, nil)
	if err == nil {
		t.Cleanup(func() { c.CloseNow() })
		c.SetReadLimit(-1)
	}
	return c, err
}

// messages reads a WebSocket until its normal end.
func messages(ctx context.Context, c *websocket.Conn) io.Reader {
	return &joined{next: func() ([]byte, error) {
		_, b, err := c.Read(ctx)
		if string(b) == "end" {
			return nil, io.EOF
		}
		return b, err
	}}
}

func (f *flow) intoWebSocket(ctx context.Context, c *websocket.Conn) error {
	err := f.pieces(func(b []byte) error { return c.Write(ctx, websocket.MessageBinary, b) })
	if err != nil {
		return err
	}
	return c.Write(ctx, websocket.MessageText, []byte("end"))
}

func websocketUp(f *flow, t *testing.T, w *world) (string, error) {
	c, err := f.feed(t, w, func(ctx context.Context, c *websocket.Conn) {
		got, err := f.sink(messages(ctx, c))
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		_ = c.Write(ctx, websocket.MessageText, []byte(got)) // the client misses it
		_, _, _ = c.Read(ctx)                                // until the client has ended
	})
	if err != nil {
		return "", err
	}
	if err := f.intoWebSocket(t.Context(), c); err != nil {
		return "", err
	}
	_, b, err := c.Read(t.Context())
	return string(b), err
}

func websocketDown(f *flow, t *testing.T, w *world) (string, error) {
	c, err := f.feed(t, w, func(ctx context.Context, c *websocket.Conn) {
		_ = f.intoWebSocket(ctx, c) // the client sees a body cut short
		_, _, _ = c.Read(ctx)       // until the client has ended
	})
	if err != nil {
		return "", err
	}
	return f.sink(messages(t.Context(), c))
}

func tcpUp(f *flow, t *testing.T, w *world) (string, error) {
	dial, l := w.listen(t)
	serveTCP(t, l, func(c *net.TCPConn) {
		got, err := f.sink(c)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		io.WriteString(c, got)
	})
	c := connect(t, dial)
	if _, err := io.Copy(c, f.source()); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(bytes.TrimSpace(b)), err
}

func tcpDown(f *flow, t *testing.T, w *world) (string, error) {
	dial, l := w.listen(t)
	serveTCP(t, l, func(c *net.TCPConn) { _, _ = io.Copy(c, f.source()) })
	return f.sink(connect(t, dial))
}
