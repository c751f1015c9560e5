package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

func payloadCases() []meshCase {
	return []meshCase{
		{"payloads/http1/length", func(t *testing.T, w *world) { httpPayloads(t, w, http1Client(t), "length") }},
		{"payloads/http1/chunked", func(t *testing.T, w *world) { httpPayloads(t, w, http1Client(t), "chunked") }},
		{"payloads/http1/close", func(t *testing.T, w *world) { httpPayloads(t, w, http1Client(t), "close") }},
		{"payloads/http2/length", func(t *testing.T, w *world) { httpPayloads(t, w, http2Client(t), "length") }},
		{"payloads/http2/unknown", func(t *testing.T, w *world) { httpPayloads(t, w, http2Client(t), "chunked") }},
		{"payloads/grpc", grpcPayloads},
		{"payloads/websocket", websocketPayloads},
		{"payloads/tcp/client first", func(t *testing.T, w *world) { tcpPayloads(t, w, "") }},
		{"payloads/tcp/server first", func(t *testing.T, w *world) { tcpPayloads(t, w, "220 ready\r\n") }},
	}
}

const seedUp, seedDown = 1, 2

// sumHandler tells in X-Sum what it received and sends as many bytes of its own.
func sumHandler(rw http.ResponseWriter, r *http.Request) {
	got, n, err := sum(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	rw.Header().Set("X-Sum", got)
	switch r.Header.Get("X-Framing") {
	case "length":
		rw.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	case "close":
		rw.Header().Set("Transfer-Encoding", "identity")
		rw.Header().Set("Connection", "close")
	default:
		rw.WriteHeader(http.StatusOK)
		rw.(http.Flusher).Flush()
	}
	_, _ = io.Copy(rw, payload(seedDown, n)) // the client sees a body cut short
}

// R3.1, R4.2: every byte arrives, whatever tells where a body ends.
func httpPayloads(t *testing.T, w *world, c *http.Client, framing string) {
	dial, l := w.listen(t)
	serveHTTP(t, l, sumHandler)
	for _, n := range sizes() {
		req := must[*http.Request](t)(http.NewRequestWithContext(limited(t), http.MethodPost, "http://"+dial+"/p", payload(seedUp, n)))
		req.Header.Set("X-Framing", framing)
		if framing == "length" {
			req.ContentLength = n
			if n == 0 {
				req.Body = http.NoBody
			}
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		got, m, err := sum(resp.Body)
		ok(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || m != n || got != wantSum(seedDown, n) || resp.Header.Get("X-Sum") != wantSum(seedUp, n) {
			t.Errorf("%d bytes: %s, %d back, sums right: %v %v, %s", n, resp.Status, m, resp.Header.Get("X-Sum") == wantSum(seedUp, n),
				got == wantSum(seedDown, n), resp.Header.Get("tulle-proxy-error"))
		}
	}
}

// grpcService is grpc-go's own interoperability service; payloads carry sums.
type grpcService struct {
	pb.UnimplementedTestServiceServer
}

func bytesOf(seed uint64, n int64) []byte {
	b, err := io.ReadAll(payload(seed, n))
	if err != nil {
		panic("BUG: a payload that fails")
	}
	return b
}

func bytesSum(b []byte) string {
	s, _, err := sum(bytes.NewReader(b))
	if err != nil {
		panic("BUG: memory that fails")
	}
	return s
}

// UnaryCall answers with the sum and as many bytes as came.
func (grpcService) UnaryCall(_ context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	b := r.GetPayload().GetBody()
	return &pb.SimpleResponse{Username: bytesSum(b), Payload: &pb.Payload{Body: bytesOf(seedDown, int64(len(b)))}}, nil
}

// StreamingInputCall adds up what came.
func (grpcService) StreamingInputCall(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	var n int32
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		if bytesSum(m.GetPayload().GetBody()) != wantSum(seedUp, int64(len(m.GetPayload().GetBody()))) {
			return fmt.Errorf("a message of %d bytes is not what was sent", len(m.GetPayload().GetBody()))
		}
		n += int32(len(m.GetPayload().GetBody()))
	}
}

// StreamingOutputCall sends what is asked for.
func (grpcService) StreamingOutputCall(r *pb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: bytesOf(seedDown, int64(p.GetSize()))}}); err != nil {
			return err
		}
	}
	return nil
}

// FullDuplexCall answers each message before the next one comes.
func (grpcService) FullDuplexCall(s grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b := m.GetPayload().GetBody()
		if bytesSum(b) != wantSum(seedUp, int64(len(b))) {
			return fmt.Errorf("a message of %d bytes is not what was sent", len(b))
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: bytesOf(seedDown, int64(len(b)))}}); err != nil {
			return err
		}
	}
}

func serveGRPC(t testing.TB, l net.Listener, opts ...grpc.ServerOption) {
	srv := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(1<<30))...)
	pb.RegisterTestServiceServer(srv, grpcService{})
	done := make(chan struct{})
	go func() { // ended by Stop
		defer close(done)
		_ = srv.Serve(l) // it says that it was stopped
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
}

// R4.7: unary and all streaming kinds.
func grpcPayloads(t *testing.T, w *world) {
	dial, l := w.listen(t)
	serveGRPC(t, l)
	c := pb.NewTestServiceClient(grpcClient(t, dial))
	for _, n := range sizes() {
		grpcPayload(t, c, n)
	}
}

func grpcPayload(t *testing.T, c pb.TestServiceClient, n int64) {
	t.Helper()
	up := &pb.Payload{Body: bytesOf(seedUp, n)}
	down := wantSum(seedDown, n)
	ctx := limited(t)
	const times = 3

	r, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: up})
	ok(t, err)
	if r.GetUsername() != wantSum(seedUp, n) || bytesSum(r.GetPayload().GetBody()) != down {
		t.Errorf("unary, %d bytes: wrong sum", n)
	}

	in, err := c.StreamingInputCall(ctx)
	ok(t, err)
	for range times {
		ok(t, in.Send(&pb.StreamingInputCallRequest{Payload: up}))
	}
	sumUp, err := in.CloseAndRecv()
	ok(t, err)
	if int64(sumUp.GetAggregatedPayloadSize()) != times*n {
		t.Errorf("client streaming: %d bytes of %d", sumUp.GetAggregatedPayloadSize(), times*n)
	}

	ask := &pb.StreamingOutputCallRequest{}
	for range times {
		ask.ResponseParameters = append(ask.ResponseParameters, &pb.ResponseParameters{Size: int32(n)})
	}
	out, err := c.StreamingOutputCall(ctx, ask)
	ok(t, err)
	for range times {
		m, err := out.Recv()
		ok(t, err)
		if bytesSum(m.GetPayload().GetBody()) != down {
			t.Errorf("server streaming, %d bytes: wrong sum", n)
		}
	}
	if _, err := out.Recv(); err != io.EOF {
		t.Errorf("server streaming ends with %v", err)
	}

	both, err := c.FullDuplexCall(ctx)
	ok(t, err)
	for range times {
		ok(t, both.Send(&pb.StreamingOutputCallRequest{Payload: up}))
		m, err := both.Recv()
		ok(t, err)
		if bytesSum(m.GetPayload().GetBody()) != down {
			t.Errorf("both streaming, %d bytes: wrong sum", n)
		}
	}
	ok(t, both.CloseSend())
	if _, err := both.Recv(); err != io.EOF {
		t.Errorf("both streaming ends with %v", err)
	}
}

// serveWebSocket answers each message with its sum and as many bytes of its own.
func serveWebSocket(t testing.TB, l net.Listener) {
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"sums"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			_, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(b) == "bye" {
				c.Close(4321, "as you wish")
				return
			}
			if c.Write(r.Context(), websocket.MessageText, []byte(bytesSum(b))) != nil ||
				c.Write(r.Context(), websocket.MessageBinary, bytesOf(seedDown, int64(len(b)))) != nil {
				return
			}
		}
	})
}

// R3.3: WebSocket is a tunnel after 101.
func websocketPayloads(t *testing.T, w *world) {
	dial, l := w.listen(t)
	serveWebSocket(t, l)
	ctx := limited(t)
	c, resp, err := websocket.Dial(ctx, "ws://"+dial+"/feed", &websocket.DialOptions{Subprotocols: []string{"sums"}})
	ok(t, err)
	defer c.CloseNow()
	if resp.StatusCode != http.StatusSwitchingProtocols || c.Subprotocol() != "sums" {
		t.Errorf("%s, subprotocol %q", resp.Status, c.Subprotocol())
	}
	c.SetReadLimit(-1)
	for _, n := range sizes() {
		ok(t, c.Write(ctx, websocket.MessageBinary, bytesOf(seedUp, n)))
		_, got, err := c.Read(ctx)
		ok(t, err)
		_, back, err := c.Read(ctx)
		ok(t, err)
		if string(got) != wantSum(seedUp, n) || bytesSum(back) != wantSum(seedDown, n) {
			t.Errorf("%d bytes: wrong sum", n)
		}
	}
	ok(t, c.Write(ctx, websocket.MessageText, []byte("bye")))
	_, _, err = c.Read(ctx)
	if websocket.CloseStatus(err) != 4321 {
		t.Errorf("closed with %v", err)
	}
}

// tcpPayloads: the client sends, half-closes, and gets the sum and as many bytes; a server that
// speaks first says banner before it reads (R2.5).
func tcpPayloads(t *testing.T, w *world, banner string) {
	dial, l := w.listen(t)
	serveTCP(t, l, func(c *net.TCPConn) {
		if _, err := io.WriteString(c, banner); err != nil {
			return
		}
		got, n, err := sum(c)
		if err == nil {
			_, _ = io.Copy(c, io.MultiReader(bytes.NewReader([]byte(got)), payload(seedDown, n))) // the client compares
		}
	})
	for _, n := range sizes() {
		c := connect(t, dial)
		ok(t, c.SetDeadline(deadline(t)))
		if banner != "" {
			b := make([]byte, len(banner))
			_, err := io.ReadFull(c, b)
			ok(t, err)
			if string(b) != banner {
				t.Errorf("banner %q", b)
			}
		}
		_, err := io.Copy(c, payload(seedUp, n))
		ok(t, err)
		ok(t, c.CloseWrite())
		told := make([]byte, 64)
		_, err = io.ReadFull(c, told)
		ok(t, err)
		got, m, err := sum(c)
		ok(t, err)
		if string(told) != wantSum(seedUp, n) || m != n || got != wantSum(seedDown, n) {
			t.Errorf("%d bytes: %d back, sums right: %v %v", n, m, string(told) == wantSum(seedUp, n), got == wantSum(seedDown, n))
		}
		c.Close()
	}
}
