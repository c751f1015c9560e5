package mesh

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func endCases() []meshCase {
	return []meshCase{
		{"ends/tcp half-close, client first", func(t *testing.T, w *world) { tcpHalfClose(t, w, true) }},
		{"ends/tcp half-close, server first", func(t *testing.T, w *world) { tcpHalfClose(t, w, false) }},
		{"ends/tcp reset by client", func(t *testing.T, w *world) { tcpReset(t, w, true) }},
		{"ends/tcp reset by server", func(t *testing.T, w *world) { tcpReset(t, w, false) }},
		{"ends/tcp silent", tcpSilent},
		{"ends/http1 response cut", responseCut},
		{"ends/http1 request cut", requestCut},
		{"ends/no response", noResponse},
		{"ends/grpc call cut", callCut},
		{"ends/http1 client gone", clientGone},
		{"ends/upgrade reset", upgradeReset},
		{"ends/websocket broken off", websocketBroken},
		{"ends/early answer", earlyAnswer},
	}
}

// opaque is a beginning that is no protocol that anybody knows.
const opaque = "\x00\x17raw\n"

func tcpPair(t *testing.T, w *world) (c, a *raw) {
	t.Helper()
	x := newWire(t, w)
	c = x.client()
	c.send(opaque)
	a = x.app()
	a.want(opaque)
	a.send("220 hello\r\n")
	c.want("220 hello\r\n")
	return c, a
}

// R5.4: each direction ends alone, whoever is first.
func tcpHalfClose(t *testing.T, w *world, clientFirst bool) {
	c, a := tcpPair(t, w)
	first, second := c, a
	if !clientFirst {
		first, second = a, c
	}
	first.send("last words")
	ok(t, first.CloseWrite())
	second.want("last words")
	second.wantEOF()
	big := strings.Repeat("the other direction lives on ", 40_000)
	go func() { // ends with the connection
		io.WriteString(second.TCPConn, big)
		second.CloseWrite()
	}()
	first.want(big)
	first.wantEOF()
}

// R5.4: a reset is passed on as a reset, never as an end.
func tcpReset(t *testing.T, w *world, byClient bool) {
	c, a := tcpPair(t, w)
	if byClient {
		c.reset()
		a.wantReset()
		return
	}
	a.reset()
	c.wantReset()
}

// R2.5: while neither speaks a connection stays undecided, and ends when one of them ends it.
func tcpSilent(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	a := x.bare() // connected after 10 ms of silence
	ok(t, c.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errTimeout(err)) {
		t.Fatalf("a silent connection got %v", err)
	}
	ok(t, c.SetReadDeadline(deadline(t)))
	c.send(opaque)
	a.want(opaque)
	a.send("late")
	c.want("late")
}

// errTimeout returns err when it is a time-out.
func errTimeout(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return err
	}
	return errors.New("no time-out")
}

// R3.6: a body cut short by the application is never a clean end.
// R8.2: the proxy beside an application that gives no answer says so, in every version of HTTP, and why.
func noResponse(t *testing.T, w *world) {
	for _, client := range []*http.Client{http1Client(t), http2Client(t)} {
		addr, l := w.listen(t)
		go func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 1)) // it has come so far
				_ = c.Close()
			}
		}()
		resp, err := client.Post("http://"+addr+"/", "text/plain", strings.NewReader("x"))
		ok(t, err)
		resp.Body.Close()
		why := resp.Header.Values("tulle-proxy-error")
		if resp.StatusCode != http.StatusBadGateway || len(why) != 1 || !strings.Contains(why[0], "inbound application") {
			t.Errorf("%s, %s, because of %q", resp.Proto, resp.Status, why)
		}
	}
}

// R4.7: a call whose server dies ends with UNAVAILABLE and the reason, as it would without a mesh; grpc-go calls a reset
// of the stream INTERNAL.
func callCut(t *testing.T, w *world) {
	addr, l := w.listen(t)
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, oneMessage{})
	var all sync.WaitGroup
	all.Go(func() { _ = srv.Serve(l) }) // ended by Stop
	t.Cleanup(func() { srv.Stop(); all.Wait() })
	call, err := pb.NewTestServiceClient(grpcClient(t, addr)).FullDuplexCall(t.Context())
	ok(t, err)
	_, err = call.Recv()
	ok(t, err)
	srv.Stop()
	_, err = call.Recv()
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.HasPrefix(s.Message(), "inbound application ") {
		t.Errorf("the call ended with %v", err)
	}
}

// oneMessage answers with one, and then does nothing more.
type oneMessage struct {
	pb.UnimplementedTestServiceServer
}

func (oneMessage) FullDuplexCall(call pb.TestService_FullDuplexCallServer) error {
	err := call.Send(&pb.StreamingOutputCallResponse{})
	<-call.Context().Done()
	return err
}

func responseCut(t *testing.T, w *world) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, reset := range []bool{false, true} {
		for name, head := range map[string]string{
			"length":  "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart",
			"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
			"close":   "HTTP/1.1 200 OK\r\n\r\npart",
		} {
			if name == "close" && !reset {
				continue // that is how such a body ends
			}
			x := newWire(t, w)
			c := x.client()
			c.send(request)
			a := x.app()
			a.head()
			a.send(head)
			c.head()
			if name == "chunked" {
				c.want("4\r\npart\r\n")
			} else {
				c.want("part")
			}
			if reset {
				a.reset()
			} else {
				a.Close()
			}
			b, err := io.ReadAll(c.r)
			switch {
			case len(b) != 0:
				t.Errorf("%s: %q came after the cut", name, b)
			case name == "close" && (err == nil || !isReset(err)):
				t.Errorf("%s: got %v, want a reset", name, err)
			}
		}
	}
}

// R3.6: a body cut short by the client is never a clean end at the application.
func requestCut(t *testing.T, w *world) {
	for _, reset := range []bool{false, true} {
		for name, head := range map[string]string{
			"length":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\npart",
			"chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
		} {
			x := newWire(t, w)
			c := x.client()
			c.send(head)
			a := x.app()
			a.head()
			if name == "chunked" {
				a.want("4\r\npart\r\n")
			} else {
				a.want("part")
			}
			if reset {
				c.reset()
			} else {
				c.Close()
			}
			if b, err := io.ReadAll(a.r); len(b) != 0 {
				t.Errorf("%s, reset %v: %q came after the cut (%v)", name, reset, b, err)
			}
		}
	}
}

// A client that goes while its response is under way ends the work of the application.
func clientGone(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	a := x.app()
	a.head()
	c.reset()
	a.wantEOFOrReset()
}

// R3.6, R3.3: a tunnel that is broken off breaks off at the other end too.
func upgradeReset(t *testing.T, w *world) {
	for _, byClient := range []bool{true, false} {
		x := newWire(t, w)
		c := x.client()
		c.send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: t\r\nConnection: Upgrade\r\n\r\n")
		a := x.app()
		a.head()
		a.send("HTTP/1.1 101 S\r\nUpgrade: t\r\nConnection: Upgrade\r\n\r\n")
		c.head()
		if byClient {
			c.reset()
			a.wantReset()
		} else {
			a.reset()
			c.wantReset()
		}
	}
}

func websocketBroken(t *testing.T, w *world) {
	dial, l := w.listen(t)
	serveWebSocket(t, l)
	ctx := limited(t)
	c, _, err := websocket.Dial(ctx, "ws://"+dial, nil)
	ok(t, err)
	c.CloseNow()
	c, _, err = websocket.Dial(ctx, "ws://"+dial, nil)
	ok(t, err)
	defer c.CloseNow()
	ok(t, c.Ping(c.CloseRead(ctx)))
}

// An answer that comes before the request's body has ended arrives (RFC 9112, section 9.3).
func earlyAnswer(t *testing.T, w *world) {
	x := newWire(t, w)
	c := x.client()
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\npart")
	a := x.app()
	a.head()
	a.want("part")
	a.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
	a.Close()
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 413 Too Much\r\n") {
		t.Errorf("the client got %q", got)
	}
	c.want("no")
}
