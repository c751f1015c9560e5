package pod

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

const shopYAML = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  clusterIPs: [10.96.0.10, "fd96::10"]
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp, port: 9000, targetPort: 9000}
---
apiVersion: policy.tulle.dev/v1alpha1
kind: ExternalWorkload
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec:
  addresses: [10.9.0.3, "fd09::3"]
  serviceAccount: web
  ports: [{name: http, port: 8080}, {name: tcp, port: 9000}]
---
apiVersion: policy.tulle.dev/v1alpha1
kind: ExternalWorkload
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
spec:
  addresses: [10.9.0.2, "fd09::2"]
  serviceAccount: cart
  ports: [{name: http, port: 8080}]
`

// shop is a client pod, cart-1, and a server pod, web-1, each with its proxy.
type shop struct {
	*world
	cart, web *pod
}

func newShop(t *testing.T, initArgs ...string) shop {
	w := newWorld(t)
	s := shop{world: w, cart: w.pod("cart-1", 2), web: w.pod("web-1", 3)}
	w.controlPlane(shopYAML)
	s.cart.mesh("cart", nil)
	s.web.mesh("web", nil, initArgs...)
	s.web.serve(":8080", func(rw http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		fmt.Fprintf(rw, "client=%s local=%s remote=%s", r.Header.Get("tulle-client-id"), local, r.RemoteAddr)
	})
	return s
}

// answer asks from a pod and returns the status and the body.
func (p *pod) answer(t *testing.T, url string) (int, string) {
	t.Helper()
	c := client(p.ns)
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return resp.StatusCode, string(body)
}

// TestAPodsTrafficIsMeshed: what an application dials at a Service's address, or a pod's, comes out in the
// other pod with the client's identity, over IPv4 and IPv6, at the application's own address (R1.2, R1.3).
func TestAPodsTrafficIsMeshed(t *testing.T) {
	s := newShop(t)
	for _, c := range []struct{ url, local string }{
		{"http://10.96.0.10/", "10.9.0.3:8080"},
		{"http://[fd96::10]/", "[fd09::3]:8080"},
		{"http://10.9.0.3:8080/", "10.9.0.3:8080"},
		{"http://[fd09::3]:8080/", "[fd09::3]:8080"},
	} {
		status, body := s.cart.answer(t, c.url)
		if status != 200 || !strings.Contains(body, "client=spiffe://cluster.local/ns/shop/sa/cart ") || !strings.Contains(body, "local="+c.local+" ") {
			t.Errorf("%s: %d %q", c.url, status, body)
		}
	}
	// The unmeshed come in as well, without an identity, through the same proxy.
	status, body := outside(s).answer(t, "http://10.9.0.3:8080/")
	if status != 200 || !strings.HasPrefix(body, "client= local=10.9.0.3:8080 remote=10.9.0.3:") {
		t.Errorf("from outside: %d %q", status, body)
	}
}

// outside is the bridge's namespace: a node, or anything else without a proxy.
func outside(s shop) *pod { return &pod{w: s.world, ns: s.bridge} }

// TestBytesCrossTheMesh: opaque TCP with a server that speaks first, half-closed by the client (R2.5, R5.4).
func TestBytesCrossTheMesh(t *testing.T) {
	s := newShop(t)
	l := s.listen(s.web.ns, ":9000")
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 ready\r\n")
			b, err := io.ReadAll(c)
			fmt.Fprintf(c, "got %q %v", b, err)
			c.Close()
		}
	}()
	for _, addr := range []string{"10.96.0.10:9000", "[fd96::10]:9000", "10.9.0.3:9000"} {
		c, err := dialer(s.cart.ns)(t.Context(), "tcp", addr)
		s.ok(err)
		s.ok(c.SetDeadline(time.Now().Add(long)))
		r := bufio.NewReader(c)
		greeting, err := r.ReadString('\n')
		if err != nil || greeting != "220 ready\r\n" {
			t.Errorf("%s: greeting %q %v", addr, greeting, err)
		}
		fmt.Fprint(c, "hello")
		s.ok(c.(*net.TCPConn).CloseWrite())
		rest, err := io.ReadAll(r)
		if err != nil || string(rest) != `got "hello" <nil>` {
			t.Errorf("%s: %q %v", addr, rest, err)
		}
		c.Close()
	}
}

// TestAPodCallsItself: through its own Service an application reaches itself, in plaintext: the proxy's own
// connections are not redirected, and mesh TLS would meet the naked application (R1.4).
func TestAPodCallsItself(t *testing.T) {
	s := newShop(t)
	for _, url := range []string{"http://10.96.0.10/", "http://[fd96::10]/"} {
		if status, body := s.web.answer(t, url); status != 200 || !strings.Contains(body, "local=") {
			t.Errorf("%s: %d %q", url, status, body)
		}
	}
	_, metrics := outside(s).answer(t, "http://10.9.0.3:4191/metrics")
	if !strings.Contains(metrics, `no_tls_reason="loopback"`) {
		t.Error("no metric says why there was no TLS")
	}
}

// TestLocalhostStaysUnreachable: what listens on loopback alone is not reachable through the proxy (R1.3).
func TestLocalhostStaysUnreachable(t *testing.T) {
	s := newShop(t)
	s.web.serve("127.0.0.1:7000", func(http.ResponseWriter, *http.Request) { t.Error("it was reached") })
	for name, ns := range map[string]*pod{"a meshed pod": s.cart, "outside": outside(s)} {
		if status, body := ns.answer(t, "http://10.9.0.3:7000/"); status != http.StatusBadGateway || body != "" {
			t.Errorf("from %s: %d %q", name, status, body)
		}
	}
	// The same application on the pod's address is there: the test would notice.
	s.web.serve("10.9.0.3:7001", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "here") })
	if status, body := outside(s).answer(t, "http://10.9.0.3:7001/"); status != 200 || body != "here" {
		t.Errorf("%d %q", status, body)
	}
}

// TestTheProxysOwnPortsLeadNowhere: dialled from outside, or from the pod itself, they are refused; nothing
// goes round in circles (R1.2).
func TestTheProxysOwnPortsLeadNowhere(t *testing.T) {
	s := newShop(t)
	for name, from := range map[string]*pod{"outside": outside(s), "the pod itself": s.web, "a meshed pod": s.cart} {
		for _, port := range []uint16{4140, 4143} {
			for _, a := range []netip.Addr{s.web.v4, s.web.v6} {
				addr := netip.AddrPortFrom(a, port).String()
				c, err := dialer(from.ns)(t.Context(), "tcp", addr)
				if errors.Is(err, syscall.ECONNRESET) {
					continue // refused before connect had returned
				}
				s.ok(err)
				s.ok(c.SetDeadline(time.Now().Add(long)))
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				b, _ := io.ReadAll(c)
				if text := string(b); text != "" && !strings.HasPrefix(text, "HTTP/1.1 502 ") && !strings.HasPrefix(text, "HTTP/1.1 503 ") {
					t.Errorf("%s to %s: %q", name, addr, b)
				}
				c.Close()
			}
		}
	}
	if status, _ := s.cart.answer(t, "http://10.96.0.10/"); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// TestSkippedPortsGoRoundTheProxy: the application sees the client's own address, the client the server's
// own bytes (R13.3), and a second run of tulle-init beside the running proxy changes what is skipped.
func TestSkippedPortsGoRoundTheProxy(t *testing.T) {
	s := newShop(t, "--skip-inbound-ports", "8080")
	status, body := outside(s).answer(t, "http://10.9.0.3:8080/")
	if status != 200 || !strings.Contains(body, "remote=10.9.0.1:") {
		t.Errorf("round the proxy: %d %q", status, body)
	}
	out := s.run(s.web.ns, "tulle-init")
	if !strings.Contains(out, "port 4140 is in use: the proxy runs already") {
		t.Error(out)
	}
	status, body = outside(s).answer(t, "http://10.9.0.3:8080/")
	if status != 200 || !strings.Contains(body, "remote=10.9.0.3:") {
		t.Errorf("through the proxy: %d %q", status, body)
	}
	s.run(s.web.ns, "tulle-init", "--remove")
	status, body = outside(s).answer(t, "http://10.9.0.3:8080/")
	if status != 200 || !strings.Contains(body, "remote=10.9.0.1:") {
		t.Errorf("without a redirect: %d %q", status, body)
	}
}

// TestProbesPassWhileTheApplicationIsUp under a policy that lets nobody in, and fail when it is not: the
// proxy's own listener does not answer for it (R9.3).
func TestProbesPassWhileTheApplicationIsUp(t *testing.T) {
	w := newWorld(t)
	web := w.pod("web-1", 3)
	w.controlPlane(strings.Replace(shopYAML, "{name: shop}", "{name: shop, annotations: {config.tulle.dev/default-inbound-policy: deny}}", 1))
	web.mesh("web", []string{`TULLE_PROBES={"web/liveness":{"http":{"port":8080,"path":"/live"}},"web/readiness":{"tcp":{"port":8080}}}`})
	node := &pod{w: w, ns: w.bridge}
	stop := web.serve(":8080", func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, r.URL.Path) })
	if status, _ := node.answer(t, "http://10.9.0.3:8080/"); status != http.StatusForbidden {
		t.Errorf("the policy lets everybody in: %d", status)
	}
	for path, want := range map[string]string{"liveness": "/live", "readiness": "connected\n"} {
		for _, addr := range []string{"10.9.0.3", "[fd09::3]"} {
			if status, body := node.answer(t, "http://"+addr+":4191/probe/web/"+path); status != 200 || body != want {
				t.Errorf("%s at %s: %d %q", path, addr, status, body)
			}
		}
	}
	stop()
	for _, path := range []string{"liveness", "readiness"} {
		if status, body := node.answer(t, "http://10.9.0.3:4191/probe/web/"+path); status != http.StatusServiceUnavailable || !strings.Contains(body, "refused") {
			t.Errorf("%s of a dead application: %d %q", path, status, body)
		}
	}
}
