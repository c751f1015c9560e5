package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/tulle-mesh/tulle/cli/exit"
	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// Done when 10: each gives the message that an operator needs.
func TestErrorsSayWhereWhatAndWhatNext(t *testing.T) {
	k := &Cluster{Server: "https://k8s.test:6443"}
	dial := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://k8s.test:6443/api", Err: &net.OpError{Op: "dial", Err: err}}
	}
	pods := schema.GroupResource{Resource: "pods"}
	for _, c := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"refused", dial(errors.New("connection refused")), exit.Unreachable, "list pods: the API server at https://k8s.test:6443 cannot be reached"},
		{"no such name", &url.Error{Err: &net.DNSError{Name: "k8s.test"}}, exit.Unreachable, "has a name that cannot be resolved"},
		{"another's certificate", &url.Error{Err: x509.UnknownAuthorityError{}}, exit.Unreachable, "has a certificate that the kubeconfig does not trust"},
		{"silence", &url.Error{Err: context.DeadlineExceeded}, exit.Unreachable, "did not answer in time"},
		{"expired token", apierrors.NewUnauthorized("Unauthorized"), exit.Unreachable, "does not accept the credentials (expired token, or of another cluster)"},
		{"not allowed", apierrors.NewForbidden(pods, "", errors.New("no")), exit.Unreachable, "list pods: not allowed"},
		{"not there", apierrors.NewNotFound(pods, "x"), exit.Failed, `list pods: pods "x" not found`},
		{"anything else", errors.New("odd"), exit.Failed, "list pods: odd"},
	} {
		err := k.Explain("list pods", c.err)
		if exit.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%d), want %s (%d)", c.name, err, exit.Code(err), c.want, c.code)
		}
		if again := k.Explain("again", err); c.code == exit.Unreachable && again.Error() != err.Error() {
			t.Errorf("%s: explained twice: %v", c.name, again)
		}
	}
	if err := k.Explain("x", nil); err != nil {
		t.Errorf("nil became %v", err)
	}
}

// tunnel is what a port-forward is made of: streams over one connection.
type tunnel struct {
	httpstream.Connection
	data   net.Conn
	errs   string
	closed chan struct{}
	broken error
}

func (c *tunnel) CreateStream(h http.Header) (httpstream.Stream, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	if h.Get("streamType") == "error" {
		return &stream{Reader: strings.NewReader(c.errs)}, nil
	}
	return &stream{Reader: c.data, Writer: c.data}, nil
}

func (c *tunnel) Close() error { close(c.closed); return nil }

type stream struct {
	io.Reader
	io.Writer
}

func (s *stream) Close() error         { return nil }
func (s *stream) Reset() error         { return nil }
func (s *stream) Headers() http.Header { return nil }
func (s *stream) Identifier() uint32   { return 1 }

type dialer func() (httpstream.Connection, error)

func (d dialer) Dial(...string) (httpstream.Connection, string, error) {
	c, err := d()
	return c, "", err
}

func TestAForwardedConnectionSaysWhyItEnded(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c := &tunnel{data: near, errs: "error forwarding port 4191: connection refused\n", closed: make(chan struct{})}
	conn, err := dialStreams(t.Context(), dialer(func() (httpstream.Connection, error) { return c, nil }), 4191)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || err.Error() != "error forwarding port 4191: connection refused" {
		t.Errorf("got %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-c.closed
}

func TestALateConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := &tunnel{closed: make(chan struct{})}
		_, err := dialStreams(ctx, dialer(func() (httpstream.Connection, error) {
			time.Sleep(time.Minute)
			return c, nil
		}), 4191)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-c.closed
	})
}

func TestABrokenConnectionIsClosed(t *testing.T) {
	c := &tunnel{closed: make(chan struct{}), broken: errors.New("stream refused")}
	if _, err := dialStreams(t.Context(), dialer(func() (httpstream.Connection, error) { return c, nil }), 1); !errors.Is(err, c.broken) {
		t.Errorf("got %v", err)
	}
	<-c.closed
}

func TestAPodIsAskedAsItsOwnLoopback(t *testing.T) { // R12.5
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "localhost:4191" || r.Method != http.MethodPut {
			w.WriteHeader(http.StatusForbidden)
		}
		io.Copy(w, r.Body) // the client left
	}))
	defer door.Close()
	k := &Cluster{Dial: func(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", door.Listener.Addr().String())
	}}
	ask := Ask{Namespace: "shop", Pod: "web-1", Port: 4191, Method: http.MethodPut, Path: "/x", Body: "hello"}
	if b, err := k.Get(t.Context(), ask); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	ask.Method = ""
	if _, err := k.Get(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "pod shop/web-1: /x answers 403 Forbidden: hello") {
		t.Errorf("got %v", err)
	}
}
