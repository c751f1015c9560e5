package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// podTimeout bounds one question to a pod's admin port.
const podTimeout = 10 * time.Second

// maxAnswer is what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Ask is one request to a port of a pod.
type Ask struct {
	Namespace, Pod string
	Port           int
	Method, Path   string // Method "" is GET
	Body           string
}

// Get asks a pod's port over HTTP, as its own loopback would, and returns the body of a 2xx answer.
func (c *Cluster) Get(ctx context.Context, a Ask) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.Dial(ctx, a.Namespace, a.Pod, a.Port)
		},
	}
	defer transport.CloseIdleConnections()
	method := a.Method
	if method == "" {
		method = http.MethodGet
	}
	// The host is loopback's name: admin ports refuse others (R12.5).
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://localhost:%d%s", a.Port, a.Path), strings.NewReader(a.Body))
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // its URL is not one that anybody could open
		}
		return nil, fmt.Errorf("pod %s/%s: %w", a.Namespace, a.Pod, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", a.Namespace, a.Pod, err)
	}
	if resp.StatusCode/100 != 2 {
		return body, fmt.Errorf("pod %s/%s: %s answers %s: %s", a.Namespace, a.Pod, a.Path, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// clock asks for the Date of the API server's answer; it has whole seconds.
func clock(cfg *rest.Config) func(context.Context) (time.Time, error) {
	return func(ctx context.Context) (time.Time, error) {
		client, err := rest.HTTPClientFor(cfg)
		if err != nil {
			return time.Time{}, err
		}
		base, _, err := rest.DefaultServerUrlFor(cfg)
		if err != nil {
			return time.Time{}, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("version").String(), http.NoBody)
		if err != nil {
			return time.Time{}, err
		}
		resp, err := client.Do(r)
		if err != nil {
			return time.Time{}, err
		}
		resp.Body.Close()
		return http.ParseTime(resp.Header.Get("Date"))
	}
}
