package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// mostAtOnce bounds the probes under way: whoever can reach the door may ask for them.
const mostAtOnce = 32

// Prober performs the probes of one set. It is safe for concurrent use.
type Prober struct {
	set   Set
	addrs []netip.Addr
	slots chan struct{}
	http  http.RoundTripper
}

// New returns a Prober for a pod with addrs, the first of which is the one that the kubelet would dial.
func New(set Set, addrs []netip.Addr) (*Prober, error) {
	if len(set) > 0 && len(addrs) == 0 {
		return nil, errors.New("probes are performed at the pod's addresses, and there are none")
	}
	return &Prober{
		set: set, addrs: slices.Clone(addrs), slots: make(chan struct{}, mostAtOnce),
		http: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, // each probe shows that the application accepts
			// The kubelet does not verify either: what a pod serves at its address has no name to verify.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
			Proxy:           nil,
		},
	}, nil
}

// Result of a probe: what the kubelet is answered, which passes a status from 200 to 399.
type Result struct {
	Status int
	Body   string
}

// Perform asks the application. name is "container/kind"; false when there is no such probe.
func (p *Prober) Perform(ctx context.Context, name, agent string) (Result, bool) {
	spec, ok := p.set[name]
	if !ok {
		return Result{}, false
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return Result{http.StatusTooManyRequests, fmt.Sprintf("%d probes are under way\n", mostAtOnce)}, true
	}
	ctx, cancel := context.WithTimeout(ctx, spec.timeout())
	defer cancel()
	switch {
	case spec.HTTP != nil:
		return p.viaHTTP(ctx, spec.HTTP, agent), true
	case spec.TCP != nil:
		return p.viaTCP(ctx, spec.TCP), true
	}
	return p.viaGRPC(ctx, spec.GRPC, spec.timeout()), true
}

// addr is what the kubelet would dial.
func (p *Prober) addr(host string, port uint16) string {
	if host == "" {
		host = p.addrs[0].String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

func failed(err error) Result {
	if errors.Is(err, context.DeadlineExceeded) {
		return Result{http.StatusGatewayTimeout, "the application did not answer in time\n"}
	}
	return Result{http.StatusServiceUnavailable, err.Error() + "\n"}
}

func (p *Prober) viaHTTP(ctx context.Context, h *HTTP, agent string) Result {
	scheme := "http"
	if h.TLS {
		scheme = "https"
	}
	at, err := url.Parse(h.Path) // a path of a probe may have a query
	if err != nil {
		return failed(fmt.Errorf("path: %w", err))
	}
	at.Scheme, at.Host = scheme, p.addr(h.Host, h.Port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return failed(err)
	}
	p.fields(req, h.Headers, agent)
	c := &http.Client{Transport: p.http, CheckRedirect: sameHost}
	resp, err := c.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 10<<10)) // as much as the kubelet shows
	if err != nil {
		return failed(err)
	}
	return Result{resp.StatusCode, string(body)}
}

// fields gives a request the header that the kubelet would give it: what the probe says, and else
// User-Agent and Accept; a field without a value takes the default away.
func (p *Prober) fields(req *http.Request, said []Header, agent string) {
	for _, f := range said {
		if strings.EqualFold(f.Name, "Host") {
			req.Host = f.Value
			continue
		}
		req.Header.Add(f.Name, f.Value)
	}
	for _, d := range []Header{{"User-Agent", agent}, {"Accept", "*/*"}} {
		switch v, ok := req.Header[d.Name]; {
		case !ok:
			req.Header.Set(d.Name, d.Value)
		case len(v) == 1 && v[0] == "" && d.Name == "Accept":
			req.Header.Del(d.Name)
		}
	}
}

// sameHost follows redirects to the host that was asked; elsewhere the probe is over, and passed, as the
// kubelet has it.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

func (p *Prober) viaTCP(ctx context.Context, t *TCP) Result {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.addr(t.Host, t.Port))
	if err != nil {
		return failed(err)
	}
	c.Close()
	return Result{http.StatusOK, "connected\n"}
}

// viaGRPC has one attempt to connect, which outlasts the probe: a slow application is no dead one, and it is
// the probe's own time that ends it.
func (p *Prober) viaGRPC(ctx context.Context, g *GRPC, limit time.Duration) Result {
	conn, err := grpc.NewClient("passthrough:///"+p.addr("", g.Port),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 2 * limit}))
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: g.Service})
	switch {
	case ctx.Err() != nil:
		return failed(ctx.Err()) // gRPC's own error says so in words alone
	case err != nil:
		return failed(err)
	case resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		return Result{http.StatusServiceUnavailable, "the service is " + resp.GetStatus().String() + "\n"}
	}
	return Result{http.StatusOK, "serving\n"}
}
