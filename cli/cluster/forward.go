package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// forwarder connects through the API server: over WebSocket (KEP-4006), or SPDY where that is refused.
func forwarder(cfg *rest.Config, kube kubernetes.Interface) Dialer {
	return func(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
		u := kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
		transport, upgrader, err := spdy.RoundTripperFor(cfg)
		if err != nil {
			return nil, err
		}
		old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)
		modern, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, cfg)
		if err != nil {
			return nil, err
		}
		both := portforward.NewFallbackDialerForStreaming(modern, old, func(err error) bool {
			return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		})
		c, err := dialStreams(ctx, both, port)
		if err != nil {
			return nil, fmt.Errorf("port %d of pod %s/%s: %w", port, namespace, pod, err)
		}
		return c, nil
	}
}

// dialStreams opens one forwarded connection: an error stream and a data stream with the same id.
func dialStreams(ctx context.Context, d httpstream.Dialer, port int) (net.Conn, error) {
	type dialled struct {
		conn httpstream.Connection
		err  error
	}
	done := make(chan dialled, 1)
	go func() { // owned by this call; ends when the dialer does, which has the transport's time limits
		c, _, err := d.Dial(portforward.PortForwardProtocolV1Name)
		done <- dialled{c, err}
	}()
	var got dialled
	select {
	case <-ctx.Done():
		go func() { // the late answer is not leaked
			if late := <-done; late.err == nil {
				late.conn.Close()
			}
		}()
		return nil, ctx.Err()
	case got = <-done:
	}
	if got.err != nil {
		return nil, got.err
	}
	head := http.Header{}
	head.Set(corev1.StreamType, corev1.StreamTypeError)
	head.Set(corev1.PortHeader, strconv.Itoa(port))
	head.Set(corev1.PortForwardRequestIDHeader, "0")
	errs, err := got.conn.CreateStream(head)
	if err != nil {
		got.conn.Close()
		return nil, err
	}
	errs.Close() // nothing is sent on it
	head.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := got.conn.CreateStream(head)
	if err != nil {
		got.conn.Close()
		return nil, err
	}
	return &streamConn{Stream: data, conn: got.conn, errs: errs}, nil
}

// streamConn is a forwarded connection. Deadlines are not kept: closing it ends what waits.
type streamConn struct {
	httpstream.Stream
	conn httpstream.Connection
	errs httpstream.Stream
}

// Read tells, in place of a bare end, what the kubelet said why.
func (c *streamConn) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	if err != nil && n == 0 {
		if said, _ := io.ReadAll(io.LimitReader(c.errs, 4096)); len(said) > 0 { // err is told
			return 0, errors.New(strings.TrimSpace(string(said)))
		}
	}
	return n, err
}

func (c *streamConn) Close() error {
	return errors.Join(c.Stream.Reset(), c.conn.Close())
}

func (c *streamConn) LocalAddr() net.Addr              { return addr("tulle") }
func (c *streamConn) RemoteAddr() net.Addr             { return addr("pod") }
func (c *streamConn) SetDeadline(time.Time) error      { return nil }
func (c *streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

type addr string

func (addr) Network() string  { return "forwarded" }
func (a addr) String() string { return string(a) }
