package cluster

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is for one step on a machine that does other things too; none takes a tenth of it.
const patience = 90 * time.Second

// bed is a cluster with the test's clock and its own words for what tests do.
type bed struct {
	*Cluster
}

// steps are run in this order, in one cluster.
var steps = []struct {
	name string
	run  func(*testing.T, bed)
}{
	{"nodes are ready and know their zones", testNodes},
	{"a pod's output is logged and commands run in it", testLogsAndExec},
	{"a Service has a name and an address, from pods and from the host", testService},
	{"ports are forwarded", testPortForward},
	{"a mutating webhook changes pods", testWebhook},
	{"a native sidecar starts before its pod's containers and lets a Job end", testSidecar},
	{"nftables redirect in a pod's own network, which knows the original destination", testRedirect},
	{"tokens are bound to an audience", testToken},
	{"programs of nodes are seen in nodes only", testInside},
	{"a paused node goes on", testPause},
	{"a killed node comes back with its pods", testKill},
}

func TestCluster(t *testing.T) {
	need(t)
	i := free(t)
	before := traces(t, i)
	if _, err := Build(t.Context(), Config{Progress: os.Stderr}); err != nil { // minutes, when cold
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	begun := time.Now()
	c, err := Up(ctx, Config{Instance: int(i), Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up in %.1f s", time.Since(begun).Seconds())
	down := func() {
		if err := c.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}
	defer func() {
		if t.Failed() {
			t.Log(c.tails())
		}
	}()
	ok := t.Run("tools are loaded into nodes", func(t *testing.T) {
		if err := c.LoadImages(ctx, c.Programs().Tools); err != nil {
			t.Fatal(err)
		}
		bed{c}.apply(t, workloads)
		bed{c}.rollout(t, "deployment/web", "pod/client")
	})
	for _, s := range steps {
		if ok {
			t.Run(s.name, func(t *testing.T) { s.run(t, bed{c}) })
		}
	}
	begun = time.Now()
	down()
	t.Logf("down in %.1f s", time.Since(begun).Seconds())
	t.Run("down leaves nothing", func(t *testing.T) { same(t, before, traces(t, i)) })
}

// need skips where there can be no cluster, and in short runs.
func need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a whole Kubernetes; make e2e runs it")
	}
	if missing := Missing(); len(missing) > 0 {
		t.Skipf("this machine lacks:\n  %s", strings.Join(missing, "\n  "))
	}
}

func (b bed) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	out, err := b.Kubectl(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (b bed) apply(t *testing.T, yaml string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := b.Apply(ctx, yaml); err != nil {
		t.Fatal(err)
	}
}

// rollout waits for Deployments and pods.
func (b bed) rollout(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if strings.HasPrefix(name, "pod/") {
			b.kubectl(t, "wait", "--for=condition=Ready", "--timeout=85s", name)
		} else {
			b.kubectl(t, "rollout", "status", "--timeout=85s", name)
		}
	}
}

// eventually is Until with a test's patience.
func eventually(t *testing.T, try func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := Until(ctx, try); err != nil {
		t.Fatal(err)
	}
}

// applies is an apply for eventually.
func (b bed) applies(yaml string) func(context.Context) error {
	return func(ctx context.Context) error { return b.Apply(ctx, yaml) }
}

// get asks url from within the client pod, until it is answered.
func (b bed) get(t *testing.T, url string) (answer string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		out, err := b.Kubectl(ctx, "exec", "client", "--", "/app", "get", url)
		answer = out
		return err
	})
	return answer
}

func testNodes(t *testing.T, b bed) {
	got := b.kubectl(t, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.topology\.kubernetes\.io/zone} {.status.conditions[?(@.type=="Ready")].status};{end}`)
	if want := "n1 zone-1 True;n2 zone-2 True;"; got != want {
		t.Errorf("nodes are %q, not %q", got, want)
	}
}

func testLogsAndExec(t *testing.T, b bed) {
	if got := b.kubectl(t, "logs", "deployment/web"); !strings.Contains(got, "serving on :8080") {
		t.Errorf("logs are %q", got)
	}
	if got := b.kubectl(t, "exec", "client", "--", "sh", "-c", "echo from $(cat /etc/hostname)"); got != "from client" {
		t.Errorf("exec said %q", got)
	}
}

func testService(t *testing.T, b bed) {
	for _, url := range []string{"http://web/", "http://web.default.svc.cluster.local/"} {
		if got := b.get(t, url); !strings.HasPrefix(got, "200\nweb-") {
			t.Errorf("%s answered %q", url, got)
		}
	}
	ips := b.kubectl(t, "get", "service", "web", "-o", "jsonpath={.spec.clusterIPs[*]}")
	if len(strings.Fields(ips)) != 2 {
		t.Errorf("the Service's addresses are %q, not one of each family", ips)
	}
	port := b.kubectl(t, "get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	hosts := []string{net.JoinHostPort(b.Node("n1").Address().String(), port), net.JoinHostPort(b.Node("n2").Address().String(), port)}
	for ip := range strings.FieldsSeq(ips) {
		hosts = append(hosts, net.JoinHostPort(ip, "80"))
	}
	for ip := range strings.FieldsSeq(b.kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIPs[*].ip}")) {
		hosts = append(hosts, net.JoinHostPort(ip, "8080"))
	}
	if len(hosts) != 8 {
		t.Errorf("%d ways to the Service from the host, not 8: %v", len(hosts), hosts)
	}
	for _, host := range hosts {
		ask(t, host)
	}
}

// ask sends an HTTP request from the host to web, until it is answered.
func ask(t *testing.T, host string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		d := net.Dialer{Timeout: 3 * time.Second}
		c, err := d.DialContext(ctx, "tcp", host)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.Contains(line, " 200 ") {
			err = fmt.Errorf("%s answered %q", host, line)
		}
		return err
	})
}

func testPortForward(t *testing.T, b bed) {
	ctx, stop := context.WithCancel(t.Context())
	cmd := b.Command(ctx, "port-forward", "--address=127.0.0.1", "service/web", ":80")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }() // it was killed
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d ", &port); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	ask(t, fmt.Sprintf("127.0.0.1:%d", port))
}

func testSidecar(t *testing.T, b bed) {
	b.apply(t, sidecarJob)
	b.kubectl(t, "wait", "--for=condition=Complete", "--timeout=85s", "job/with-sidecar")
	if got := b.kubectl(t, "logs", "job/with-sidecar", "-c", "main"); !strings.Contains(got, "200") {
		t.Errorf("the Job's container, which asks its sidecar, says %q", got)
	}
}

func testRedirect(t *testing.T, b bed) {
	b.apply(t, redirected)
	b.rollout(t, "pod/redirected")
	got := b.kubectl(t, "exec", "redirected", "-c", "client", "--", "/app", "get", "http://192.0.2.7:7777/")
	if want := "200\n192.0.2.7:7777"; got != want {
		t.Errorf("a redirected connection was going to %q, not %q", got, want)
	}
	got = b.kubectl(t, "exec", "redirected", "-c", "client", "--", "/app", "get", "http://[2001:db8::7]:7777/")
	if want := "200\n[2001:db8::7]:7777"; got != want {
		t.Errorf("a redirected connection was going to %q, not %q", got, want)
	}
}

func testToken(t *testing.T, b bed) {
	token := b.kubectl(t, "exec", "client", "--", "cat", "/var/run/secrets/tulle.test/token")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the projected token is %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Aud []string
		Sub string
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(claims.Aud) != "[identity.tulle.dev]" || claims.Sub != "system:serviceaccount:default:default" {
		t.Errorf("the token says %+v", claims)
	}
	for audience, want := range map[string]string{"identity.tulle.dev": "true", "somebody.else": ""} {
		if got := b.review(t, token, audience); got != want {
			t.Errorf("review of the token for %s: authenticated %q, not %q", audience, got, want)
		}
	}
}

// review asks the API server what it thinks of a token.
func (b bed) review(t *testing.T, token, audience string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "review.yaml")
	yaml := fmt.Sprintf("apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec:\n  token: %s\n  audiences: [%s]\n", token, audience)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return b.kubectl(t, "create", "-f", file, "-o", "jsonpath={.status.authenticated}")
}

func testInside(t *testing.T, b bed) {
	out, err := b.Node("n2").Command(t.Context(), "nft", "list", "tables").Output()
	if err != nil || !strings.Contains(string(out), "kube-proxy") {
		t.Errorf("nft in the node shows no table of kube-proxy: %q, %v", out, err)
	}
	out, err = exec.CommandContext(t.Context(), "nft", "list", "tables").Output()
	if err != nil || strings.Contains(string(out), "kube-proxy") {
		t.Errorf("nft on the host shows a node's tables: %q, %v", out, err)
	}
}

func testPause(t *testing.T, b bed) {
	n := b.Node("n2")
	port := b.kubectl(t, "get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	// The kubelet's own port: nobody answers, but the kernel accepts.
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(n.Address(), 10250).String(), 5*time.Second)
	if err != nil {
		t.Errorf("the kernel of a paused node does not accept: %v", err)
	} else {
		c.Close()
	}
	b.kubectl(t, "wait", "--for=condition=Ready=Unknown", "--timeout=85s", "node/n2")
	if err := n.Resume(); err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "wait", "--for=condition=Ready", "--timeout=85s", "node/n2")
	ask(t, net.JoinHostPort(n.Address().String(), port))
}

func testKill(t *testing.T, b bed) {
	n := b.Node("n2")
	pod := b.kubectl(t, "get", "pods", "-l", "app=web", "--field-selector=spec.nodeName=n2", "-o", "jsonpath={.items[0].metadata.name}")
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if left := processes(b.instance.nodeCgroup(2)); len(left) > 0 {
		t.Errorf("processes %v of a killed node are alive", left)
	}
	b.kubectl(t, "wait", "--for=condition=Ready=Unknown", "--timeout=85s", "node/n2")
	begun := time.Now()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "wait", "--for=condition=Ready", "--timeout=85s", "node/n2")
	t.Logf("node ready %.1f s after its start", time.Since(begun).Seconds())
	eventually(t, func(ctx context.Context) error {
		const state = "jsonpath={.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}"
		got, err := b.Kubectl(ctx, "get", "pod", pod, "-o", state)
		if err == nil && (!strings.HasPrefix(got, "true ") || got == "true 0") {
			err = fmt.Errorf("pod %s, ready and restarts: %s", pod, got)
		}
		return err
	})
	t.Logf("its pod ready %.1f s after its start", time.Since(begun).Seconds())
	ip := b.kubectl(t, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
	ask(t, net.JoinHostPort(ip, "8080"))
}
