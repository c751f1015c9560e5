package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// TestTheNetworkSeesNothing: R5.1. Random markers are put into paths, fields and bodies, in both
// directions and for every protocol; between the proxies not one of them passes. Without mutual TLS
// the same recorder sees those that the protocols themselves do not disguise.
func TestTheNetworkSeesNothing(t *testing.T) {
	for _, m := range []mode{inProcess, binaries} {
		t.Run(m.String(), func(t *testing.T) {
			w := newWorld(t, worldConfig{mode: m, slots: 8})
			k := whisperAll(t, w)
			for _, s := range k.secrets {
				if n := w.rec.saw(s.text); n != 0 {
					t.Errorf("%s passed the network %d times in the clear", s.where, n)
				}
			}
			if up, down := w.rec.bytes[0].Load(), w.rec.bytes[1].Load(); up < 5000 || down < 5000 {
				t.Errorf("the recorder saw %d and %d bytes: it stood aside", up, down)
			}
		})
	}
}

func TestWithoutMutualTLSTheNetworkSeesAll(t *testing.T) {
	w := newWorld(t, worldConfig{mode: inProcess, slots: 8, noTLS: true})
	k := whisperAll(t, w)
	for _, s := range k.secrets {
		if !s.disguised && w.rec.saw(s.text) == 0 {
			t.Errorf("the recorder missed %s", s.where)
		}
	}
}

// secret is a marker and where it was put.
type secret struct {
	where, text string
	disguised   bool // by the protocol: masked by WebSocket, or part of a string in Huffman's code
}

type secrets struct {
	w       *world
	secrets []secret
}

// mark makes a marker and has the recorder look for it, as it is and in HPACK's Huffman code.
func (k *secrets) mark(where string, disguised bool) string {
	s := "mk" + strings.ToLower(rand.Text())
	k.watch(secret{where, s, disguised})
	return s
}

// field makes a marker that HTTP/2 writes in Huffman's code.
func (k *secrets) field(where string) string {
	s := k.mark(where, true)
	k.watch(secret{where + " in Huffman's code", string(hpack.AppendHuffmanString(nil, s)), true})
	return s
}

func (k *secrets) watch(s secret) {
	k.secrets = append(k.secrets, s)
	k.w.rec.watch(s.text)
}

// whisperAll speaks every protocol once.
func whisperAll(t *testing.T, w *world) *secrets {
	k := &secrets{w: w}
	whisperHTTP(t, k, "HTTP/1", http1Client(t))
	whisperHTTP(t, k, "HTTP/2", http2Client(t))
	whisperGRPC(t, k)
	whisperWebSocket(t, k)
	whisperTCP(t, k, "TCP, client first", false)
	whisperTCP(t, k, "TCP, server first", true)
	return k
}

func whisperHTTP(t *testing.T, k *secrets, name string, c *http.Client) {
	field := k.field
	if name == "HTTP/1" {
		field = func(where string) string { return k.mark(where, false) }
	}
	path, up, down := field(name+" path"), field(name+" request field"), field(name+" response field")
	reqBody, respBody := k.mark(name+" request body", false), k.mark(name+" response body", false)
	trailer := field(name + " response trailer")
	dial, l := k.w.listen(t)
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/"+path || r.Header.Get("X-Up") != up || string(b) != reqBody {
			t.Errorf("%s: the application got %s %q %q", name, r.URL.Path, r.Header.Get("X-Up"), b)
		}
		rw.Header().Set("Trailer", "X-End")
		rw.Header().Set("X-Down", down)
		io.WriteString(rw, respBody)
		rw.Header().Set("X-End", trailer)
	})
	req := must[*http.Request](t)(http.NewRequestWithContext(limited(t), http.MethodPost, "http://"+dial+"/"+path, strings.NewReader(reqBody)))
	req.Header.Set("X-Up", up)
	resp, err := c.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ok(t, err)
	if string(b) != respBody || resp.Header.Get("X-Down") != down || resp.Trailer.Get("X-End") != trailer {
		t.Errorf("%s: the client got %q %q %q", name, b, resp.Header.Get("X-Down"), resp.Trailer)
	}
}

// secretGRPC answers with markers.
type secretGRPC struct {
	pb.UnimplementedTestServiceServer

	field, trailer, body string
}

// UnaryCall answers whatever it is asked.
func (s secretGRPC) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-down", s.field)) // the client misses it if not
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-end", s.trailer))
	return &pb.SimpleResponse{Username: s.body}, nil
}

func whisperGRPC(t *testing.T, k *secrets) {
	s := secretGRPC{field: k.field("gRPC response field"), trailer: k.field("gRPC trailer"), body: k.mark("gRPC response", false)}
	up, body := k.field("gRPC request field"), k.mark("gRPC request", false)
	dial, l := k.w.listen(t)
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, s)
	done := make(chan struct{})
	go func() { // ended by Stop
		defer close(done)
		_ = srv.Serve(l)
	}()
	defer func() { srv.Stop(); <-done }()
	var head, end metadata.MD
	ctx := metadata.AppendToOutgoingContext(limited(t), "x-up", up)
	r, err := pb.NewTestServiceClient(grpcClient(t, dial)).UnaryCall(ctx,
		&pb.SimpleRequest{Payload: &pb.Payload{Body: []byte(body)}}, grpc.Header(&head), grpc.Trailer(&end))
	ok(t, err)
	if r.GetUsername() != s.body || strings.Join(head.Get("x-down"), "") != s.field || strings.Join(end.Get("x-end"), "") != s.trailer {
		t.Errorf("gRPC: got %v, %v, %v", r, head, end)
	}
}

func whisperWebSocket(t *testing.T, k *secrets) {
	path, up, down := k.mark("WebSocket path", false), k.mark("WebSocket client", true), k.mark("WebSocket server", false)
	dial, l := k.w.listen(t)
	serveHTTP(t, l, func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		if _, b, err := c.Read(r.Context()); err != nil || string(b) != up || r.URL.Path != "/"+path {
			t.Errorf("WebSocket: the application got %q, %v", b, err)
		}
		_ = c.Write(r.Context(), websocket.MessageText, []byte(down))
		c.Close(websocket.StatusNormalClosure, "")
	})
	ctx := limited(t)
	c, _, err := websocket.Dial(ctx, "ws://"+dial+"/"+path, nil)
	ok(t, err)
	defer c.CloseNow()
	ok(t, c.Write(ctx, websocket.MessageText, []byte(up)))
	if _, b, err := c.Read(ctx); err != nil || string(b) != down {
		t.Errorf("WebSocket: the client got %q, %v", b, err)
	}
}

func whisperTCP(t *testing.T, k *secrets, name string, serverFirst bool) {
	up, down := k.mark(name+", client", false), k.mark(name+", server", false)
	dial, l := k.w.listen(t)
	serveTCP(t, l, func(c *net.TCPConn) {
		if serverFirst {
			io.WriteString(c, down)
		}
		got, _ := io.ReadAll(c)
		if len(got) > 0 && !bytes.Equal(got, []byte(opaque+up)) {
			t.Errorf("%s: the application got %q", name, got)
		}
		if !serverFirst {
			io.WriteString(c, down)
		}
	})
	c := newRaw(t, connect(t, dial))
	if serverFirst {
		c.want(down)
	}
	c.send(opaque + up)
	ok(t, c.CloseWrite())
	if !serverFirst {
		c.want(down)
	}
	c.wantEOF()
}
