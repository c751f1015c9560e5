package pod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) {
	leak.Main(m, goleak.Cleanup(func(code int) {
		if asked {
			dir, _ := built()
			_ = os.RemoveAll(dir) // it is below the system's temporary directory
		}
		os.Exit(code)
	}))
}

// asked says whether the programs were built; tests run one after the other.
var asked bool //nolint:gochecknoglobals // of the process, as built is

var built = sync.OnceValues(func() (string, error) { //nolint:gochecknoglobals // built once, never changed
	dir, err := os.MkdirTemp("", "tulle-pod-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	const cmd = "github.com/tulle-mesh/tulle/cmd/"
	out, err := exec.Command("go", "build", "-o", dir+"/", cmd+"tulle-proxy", cmd+"tulle-controller", cmd+"tulle-init").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

// long is how long anything may take before it counts as stuck.
const long = 30 * time.Second

// proxyUser is whom tulle-init exempts.
const proxyUser = 2102

// world is a bridge with pods, in namespaces of their own.
type world struct {
	t      testing.TB
	bridge netns.NsHandle
	nodes  *netlink.Handle // of the bridge's namespace
	bin    string
	dir    string // readable for the proxies' user
	pods   map[string]*pod
}

// pod is one network namespace behind the bridge.
type pod struct {
	w      *world
	name   string
	ns     netns.NsHandle
	v4, v6 netip.Addr
}

var plane = netip.MustParseAddr("10.9.0.1")

func newWorld(t testing.TB) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("long: builds and runs the real programs")
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	w := &world{t: t, pods: map[string]*pod{}}
	w.bridge = w.newNS()
	var err error
	w.nodes, err = netlink.NewHandleAt(w.bridge)
	w.ok(err)
	t.Cleanup(w.nodes.Close)
	w.ok(w.nodes.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	w.address(w.nodes, "br0", plane, netip.MustParseAddr("fd09::1"))
	w.address(w.nodes, "lo")
	asked = true
	w.bin, err = built()
	w.ok(err)
	w.dir, err = os.MkdirTemp("", "tulle-pod-") //nolint:usetesting // its own would not be readable for another user
	w.ok(err)
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	w.ok(os.Chmod(w.dir, 0o755))
	w.ok(os.Mkdir(filepath.Join(w.dir, "mesh"), 0o755))
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newNS() netns.NsHandle {
	w.t.Helper()
	var ns netns.NsHandle
	var err error
	onThread(func() { ns, err = netns.New() })
	if err != nil {
		w.t.Skip("no network namespaces here: ", err)
	}
	w.t.Cleanup(func() { ns.Close() })
	return ns
}

// address gives a link its addresses and turns it on.
func (w *world) address(h *netlink.Handle, name string, addrs ...netip.Addr) netlink.Link {
	w.t.Helper()
	link, err := h.LinkByName(name)
	w.ok(err)
	w.ok(h.LinkSetUp(link))
	for _, a := range addrs {
		bits := map[bool]int{true: 24, false: 64}[a.Is4()]
		ip := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
		w.ok(h.AddrAdd(link, &netlink.Addr{IPNet: ip, Flags: unix.IFA_F_NODAD}))
	}
	return link
}

// pod makes a namespace with the last byte of its addresses.
func (w *world) pod(name string, last byte) *pod {
	w.t.Helper()
	p := &pod{
		w: w, name: name, ns: w.newNS(),
		v4: netip.AddrFrom4([4]byte{10, 9, 0, last}), v6: netip.MustParseAddr(fmt.Sprintf("fd09::%x", last)),
	}
	veth := "veth" + name
	w.ok(w.nodes.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: veth}, PeerName: "eth0"}))
	inner, err := w.nodes.LinkByName("eth0")
	w.ok(err)
	w.ok(w.nodes.LinkSetNsFd(inner, int(p.ns)))
	br, err := w.nodes.LinkByName("br0")
	w.ok(err)
	w.ok(w.nodes.LinkSetMaster(w.address(w.nodes, veth), br))
	h, err := netlink.NewHandleAt(p.ns)
	w.ok(err)
	defer h.Close()
	w.address(h, "lo")
	link := w.address(h, "eth0", p.v4, p.v6)
	for _, via := range []netip.Addr{plane, netip.MustParseAddr("fd09::1")} {
		w.ok(h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: via.AsSlice()}))
	}
	w.pods[name] = p
	return p
}

// onThread runs f on a thread that ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() { // ends with f, and its thread with it
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// in runs f in a namespace and returns its error.
func in(ns netns.NsHandle, f func() error) (err error) {
	onThread(func() {
		if err = netns.Set(ns); err == nil {
			err = f()
		}
	})
	return err
}

// dialer dials from a namespace.
func dialer(ns netns.NsHandle) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = in(ns, func() (err error) { c, err = (&net.Dialer{}).DialContext(ctx, network, addr); return err })
		return c, err
	}
}

// listen opens a port in a namespace.
func (w *world) listen(ns netns.NsHandle, addr string) net.Listener {
	w.t.Helper()
	var l net.Listener
	w.ok(in(ns, func() (err error) { l, err = net.Listen("tcp", addr); return err }))
	w.t.Cleanup(func() { l.Close() })
	return l
}

// process is a program that runs in a namespace.
type process struct {
	cmd   *exec.Cmd
	said  *buffer
	ended chan struct{}
}

type buffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs a program until the test ends.
func (w *world) start(ns netns.NsHandle, uid uint32, env []string, name string, args ...string) *process {
	w.t.Helper()
	p := &process{cmd: exec.Command(filepath.Join(w.bin, name), args...), said: &buffer{}, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.said, p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	// A process is in the namespace of the thread that starts it.
	w.ok(in(ns, p.cmd.Start))
	go func() { // ends with the process
		defer close(p.ended)
		_ = p.cmd.Wait() // it is killed
	}()
	w.t.Cleanup(func() {
		p.stop()
		if w.t.Failed() {
			said := p.said.String()
			w.t.Logf("%s says:\n%s", name, said[max(0, len(said)-6000):])
		}
	})
	return p
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// run runs a program in a namespace to its end.
func (w *world) run(ns netns.NsHandle, name string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.bin, name), args...)
	var out []byte
	err := in(ns, func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// until waits for something that no event tells of.
func (w *world) until(what string, p *process, is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(long)
	for !is() {
		select {
		case <-tick.C:
		case <-p.ended:
			w.t.Fatalf("%s: it ended:\n%s", what, p.said)
		case <-late:
			w.t.Fatalf("after %v there is still no %s", long, what)
		}
	}
}

// controlPlane runs tulle-controller on the bridge.
func (w *world) controlPlane(yaml string) {
	w.t.Helper()
	w.ok(os.WriteFile(filepath.Join(w.dir, "mesh", "mesh.yaml"), []byte(yaml), 0o600))
	p := w.start(w.bridge, 0, os.Environ(), "tulle-controller", "all", "--source=files:"+filepath.Join(w.dir, "mesh"), "--state-dir="+filepath.Join(w.dir, "state"),
		"--identity-listen=10.9.0.1:8080", "--destination-listen=10.9.0.1:8086", "--admin-listen=10.9.0.1:9990")
	w.until("control plane", p, func() bool { return w.get(w.bridge, "http://10.9.0.1:9990/ready") == http.StatusOK })
	bundle, err := os.ReadFile(filepath.Join(w.dir, "state", "bundle", "trust-bundle.pem"))
	w.ok(err)
	w.ok(os.Mkdir(filepath.Join(w.dir, "trust"), 0o755))
	w.ok(os.WriteFile(filepath.Join(w.dir, "trust", "trust-bundle.pem"), bundle, 0o644)) //nolint:gosec // for the proxies' user
}

// get asks from a namespace and returns the status, 0 for none.
func (w *world) get(ns netns.NsHandle, url string) int {
	c := client(ns)
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func client(ns netns.NsHandle) *http.Client {
	return &http.Client{Timeout: long, Transport: &http.Transport{DialContext: dialer(ns)}}
}

// mesh redirects the pod's network with tulle-init and runs a proxy in it, as injection would.
func (p *pod) mesh(account string, env []string, initArgs ...string) *process {
	p.w.t.Helper()
	out := p.w.run(p.ns, "tulle-init", initArgs...)
	if !strings.Contains(out, "dialled through the redirect: IPv4; IPv6") {
		p.w.t.Fatalf("tulle-init says %q", out)
	}
	token := filepath.Join(p.w.dir, p.name+".token")
	minted := p.w.run(p.ns, "tulle-controller", "token", "--state-dir", filepath.Join(p.w.dir, "state"), "--workload", "shop/"+p.name, "--account", account)
	p.w.ok(os.WriteFile(token, []byte(minted), 0o644)) //nolint:gosec // for the proxy's user
	proxy := p.w.start(p.ns, proxyUser, append([]string{
		"TULLE_IDENTITY=spiffe://cluster.local/ns/shop/sa/" + account, "TULLE_WORKLOAD=shop/" + p.name,
		"TULLE_TOKEN_FILE=" + token, "TULLE_TRUST_BUNDLE_DIR=" + filepath.Join(p.w.dir, "trust"),
		"TULLE_IDENTITY_ADDR=10.9.0.1:8080", "TULLE_IDENTITY_NAME=spiffe://cluster.local/ns/tulle/sa/identity",
		"TULLE_DESTINATION_ADDR=10.9.0.1:8086", "TULLE_DESTINATION_NAME=spiffe://cluster.local/ns/tulle/sa/destination",
		"TULLE_INBOUND_LISTEN=[::]:4143", "TULLE_OUTBOUND_LISTEN=[::]:4140", "TULLE_ADMIN_LISTEN=[::]:4191",
		"TULLE_LOG_LEVEL=debug", "TULLE_POD_IPS=" + p.v4.String() + "," + p.v6.String(),
	}, env...), "tulle-proxy")
	p.w.until("ready proxy of "+p.name, proxy, func() bool {
		return p.w.get(p.w.bridge, "http://"+netip.AddrPortFrom(p.v4, 4191).String()+"/ready") == http.StatusOK
	})
	return proxy
}

// serve answers HTTP in the pod until it is stopped, or the test ends.
func (p *pod) serve(addr string, h http.HandlerFunc) (stop func()) {
	p.w.t.Helper()
	l := p.w.listen(p.ns, addr)
	s := &http.Server{Handler: h, ReadHeaderTimeout: long}
	var wg sync.WaitGroup
	wg.Go(func() { // ended by Close
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.w.t.Errorf("serve: %v", err)
		}
	})
	stop = func() { s.Close(); wg.Wait() }
	p.w.t.Cleanup(stop)
	return stop
}
