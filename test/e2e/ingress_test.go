package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/debian"
)

// publicName is the Host that clients ask for; nothing in the cluster has this name.
const publicName = "shop.example"

// TestNginxAsIngress has Debian's nginx, in the mesh, between clients from outside and two backends that it
// dials by their pods' addresses, as docs/ingress.md says.
func TestNginxAsIngress(t *testing.T) {
	e := setup(t)
	e.mesh()
	t.Parallel()
	e.debian(debian.Nginx)
	e.apply(file(t, "ingress.yaml"))
	e.rollout("deployment/web")
	backends := e.pods("app=web")
	var servers strings.Builder
	for _, name := range slices.Sorted(maps.Keys(backends)) {
		fmt.Fprintf(&servers, "server %s; ", net.JoinHostPort(backends[name], "8080"))
	}
	for pod, annotation := range map[string]string{
		"nginx": `config.tulle.dev/default-inbound-policy: all-authenticated, config.tulle.dev/default-inbound-policy.80: all-unauthenticated`,
		"round": `config.tulle.dev/skip-inbound-ports: "80"`,
	} {
		e.apply(strings.NewReplacer("$POD", pod, "$ANNOTATION", annotation, "$SERVERS", servers.String()).Replace(file(t, "nginx.yaml")))
	}
	e.rollout("pod/nginx", "pod/round")
	e.until(func(ctx context.Context) error { return e.allMeshed(ctx, true) })
	for _, pod := range []string{"nginx", "round"} {
		t.Run(pod+": requests", func(t *testing.T) { throughNginx(e.in(t, e.namespace), pod, backends) })
		t.Run(pod+": an upgrade", func(t *testing.T) { upgradeThroughNginx(e.in(t, e.namespace), pod) })
	}
	t.Run("who is seen as the client", func(t *testing.T) { clientAsSeen(e.in(t, e.namespace)) })
	t.Run("only the way through nginx is open", func(t *testing.T) { onlyThroughNginx(e.in(t, e.namespace), backends) })
	e.counted("app=web", "request_total{", `direction="inbound"`, `tls="true"`,
		fmt.Sprintf(`client_id="spiffe://cluster.local/ns/%s/sa/ingress"`, e.namespace))
	e.counted("app=nginx", "request_total{", `direction="inbound"`, `no_tls_reason="plaintext"`)
	e.counted("app=nginx", "request_total{", `direction="outbound"`, `tls="true"`)
}

// public asks nginx as a client of the public name does.
func (e *env) public(address string) *http.Response {
	e.t.Helper()
	ctx, stop := context.WithTimeout(e.t.Context(), 20*time.Second)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Host = publicName
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	resp.Header.Set("Body", strings.TrimSpace(string(body)))
	return resp
}

func (e *env) nginx(pod string) string {
	e.t.Helper()
	return net.JoinHostPort(e.field("pod/"+pod, "{.status.podIP}"), "80")
}

// throughNginx: nginx chooses, in turn, and the pod that it dials answers; Host stays, the hop is mutual TLS
// with nginx' identity.
func throughNginx(e *env, pod string, backends map[string]string) {
	address := e.nginx(pod)
	id := fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/ingress", e.namespace)
	c := e.capture("marker-of-the-hop")
	answers := map[string]int{}
	const requests = 40
	for range requests {
		resp := e.public(address)
		h := resp.Header
		name := h.Get("Body")
		answers[name]++
		if resp.StatusCode != http.StatusOK || h.Get("Asked-Host") != publicName || h.Get("Asked-By") != id ||
			backends[name] == "" || h.Get("Chosen") != net.JoinHostPort(backends[name], "8080") {
			e.t.Fatalf("answer %d of %q, of Host %q from %q; nginx chose %q among %v", resp.StatusCode, name,
				h.Get("Asked-Host"), h.Get("Asked-By"), h.Get("Chosen"), backends)
		}
	}
	c.none()
	for name := range backends {
		if n := answers[name]; n < requests/2-2 || n > requests/2+2 {
			e.t.Errorf("nginx takes its backends in turn, but these answered: %v", answers)
		}
	}
}

// upgradeThroughNginx: bytes go both ways after 101, as websockets want.
func upgradeThroughNginx(e *env, pod string) {
	c, err := net.DialTimeout("tcp", e.nginx(pod), 10*time.Second)
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		e.t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /socket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", publicName)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		e.t.Fatalf("the answer is %s", resp.Status)
	}
	for range 3 {
		fmt.Fprintf(c, "ping\n")
		if line, err := r.ReadString('\n'); err != nil || line != "ping\n" {
			e.t.Fatalf("the echo is %q, %v", line, err)
		}
	}
}

// clientAsSeen is what docs/ingress.md says of clients' addresses.
func clientAsSeen(e *env) {
	own := e.field("pod/nginx", "{.status.podIP}")
	if seen := e.public(e.nginx("nginx")).Header.Get("Seen"); seen != own {
		e.t.Errorf("behind its proxy nginx sees %s, not the proxy beside it (%s)", seen, own)
	}
	if seen := e.public(e.nginx("round")).Header.Get("Seen"); seen == e.field("pod/round", "{.status.podIP}") || seen == "" {
		e.t.Errorf("where its port is skipped nginx sees %q, not the client", seen)
	}
}

// onlyThroughNginx: the backends' policy wants a peer.
func onlyThroughNginx(e *env, backends map[string]string) {
	for name, ip := range backends {
		resp := e.public(net.JoinHostPort(ip, "8080"))
		if resp.StatusCode != http.StatusForbidden {
			e.t.Errorf("%s answers %d to a client from outside", name, resp.StatusCode)
		}
	}
}
