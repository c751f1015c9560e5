package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/internal/run"
	"github.com/tulle-mesh/tulle/proxy"
	"github.com/tulle-mesh/tulle/proxy/discover"
	proxyid "github.com/tulle-mesh/tulle/proxy/identity"
	"github.com/tulle-mesh/tulle/proxy/loop"
	"github.com/tulle-mesh/tulle/proxy/mtls"
)

// mode is how proxies run.
type mode uint8

const (
	inProcess mode = iota
	binaries
)

func (m mode) String() string {
	if m == binaries {
		return "binaries"
	}
	return "process"
}

// proxySpec is one proxy to be.
type proxySpec struct {
	name, account string
	upstreams     []proxy.Upstream
	inbound       []proxy.InboundPort
	admin         string
	noTLS         bool
	// targetIdle and the like are not settable: tests want what everybody gets.
}

// running is a proxy that runs.
type running struct {
	logs *logBuffer
	pid  int    // of a process
	term func() // begins its end; a drain may follow
	kill func() // ends it now
	wait func() // until it has ended
}

// logBuffer keeps what a proxy logs.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *zap.Logger {
	enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(enc, zapcore.AddSync(l), zapcore.DebugLevel))
}

// start runs a proxy until the test ends and waits until it is ready.
func (w *world) start(s proxySpec) *running {
	w.t.Helper()
	r := &running{logs: &logBuffer{}}
	ready := w.startInside
	if w.mode == binaries {
		ready = w.startProcess
	}
	is := ready(s, r)
	w.t.Cleanup(func() {
		r.kill()
		r.wait()
		if w.t.Failed() && testing.Verbose() { // the reason why
			w.t.Logf("%s says:\n%s", s.name, tail(r.logs.String(), 4000))
		}
	})
	until(w.t, "ready proxy "+s.name, is)
	return r
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// binary is the path of a real program, built once per test process.
func binary(t testing.TB, name string) string {
	t.Helper()
	asked.Store(true)
	dir, err := built()
	ok(t, err)
	return filepath.Join(dir, name)
}

// asked says whether there is something to be removed at the end.
var asked atomic.Bool //nolint:gochecknoglobals // of the process, as built is

// built is shared by all tests: the programs do not change while they run.
var built = sync.OnceValues(func() (string, error) { //nolint:gochecknoglobals // built once, never changed
	dir, err := os.MkdirTemp("", "tulle-mesh-")
	if err != nil {
		return "", err
	}
	const cmd = "github.com/tulle-mesh/tulle/cmd/"
	out, err := exec.Command("go", "build", "-o", dir+"/", cmd+"tulle-proxy", cmd+"tulle-controller").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

// environment is what a tulle-proxy process gets.
func (w *world) environment(s proxySpec) []string {
	dir := w.t.TempDir()
	token := filepath.Join(dir, "token")
	ok(w.t, os.WriteFile(token, []byte(w.plane.token(s.name, s.account)), 0o600))
	var ups, ins []string
	for _, u := range s.upstreams {
		ups = append(ups, u.Listen.String()+"="+u.Target.String())
	}
	for _, i := range s.inbound {
		ins = append(ins, i.Listen.String()+"="+i.App.String())
	}
	env := []string{
		"TULLE_IDENTITY=" + string(mesh.NewIdentity(trustDomain, "shop", s.account)),
		"TULLE_WORKLOAD=shop/" + s.name, "TULLE_TOKEN_FILE=" + token, "TULLE_TRUST_BUNDLE_DIR=" + w.plane.bundleDir(),
		"TULLE_IDENTITY_ADDR=" + w.plane.identityAddr, "TULLE_IDENTITY_NAME=" + string(identityID),
		"TULLE_DESTINATION_ADDR=" + w.plane.destinationAddr, "TULLE_DESTINATION_NAME=" + string(destinationID),
		"TULLE_ADMIN_LISTEN=" + s.admin, "TULLE_UPSTREAMS=" + strings.Join(ups, ","),
		"TULLE_INBOUND_PORTS=" + strings.Join(ins, ","), "TULLE_LOG_LEVEL=debug",
		"TULLE_LAME_DUCK=200ms",
	}
	if s.noTLS {
		env = append(env, "TULLE_MTLS=off")
	}
	if w.noRetries {
		env = append(env, "TULLE_RETRIES=off")
	}
	env = append(env, w.env...)
	// For the negative runs: settings of every proxy that is a process.
	return append(env, strings.Fields(os.Getenv("TULLE_MESH_PROXY_ENV"))...)
}

// startProcess starts the real binary and returns whether it is ready.
func (w *world) startProcess(s proxySpec, r *running) func() bool {
	cmd := exec.Command(binary(w.t, "tulle-proxy"))
	cmd.Env = w.environment(s)
	cmd.Stdout, cmd.Stderr = r.logs, r.logs
	ok(w.t, cmd.Start())
	r.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() { // ends with the process
		defer close(ended)
		_ = cmd.Wait() // how it ended is what tests look at
	}()
	r.term = func() { _ = cmd.Process.Signal(syscall.SIGTERM) } // it may have ended
	r.kill = func() { _ = cmd.Process.Kill() }
	r.wait = func() { <-ended }
	return func() bool {
		select {
		case <-ended:
			w.t.Fatalf("%s ended:\n%s", s.name, r.logs)
		default:
		}
		resp, err := http.Get("http://" + s.admin + "/ready")
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body) // the status is what counts
		resp.Body.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return resp.StatusCode == http.StatusOK
	}
}

// lateDiscovery is what cmd/tulle-proxy does too: the proxy subscribes while it is built.
type lateDiscovery struct {
	*discover.Client

	early []mesh.Target
}

// Subscribe implements proxy.Discovery.
func (d *lateDiscovery) Subscribe(t mesh.Target) {
	if d.Client == nil {
		d.early = append(d.early, t)
		return
	}
	d.Client.Subscribe(t)
}

// startInside starts what cmd/tulle-proxy is made of and returns whether it is ready.
func (w *world) startInside(s proxySpec, r *running) func() bool {
	log := r.logs.logger()
	creds := mtls.NewCredentials(time.Now)
	token := w.plane.token(s.name, s.account)
	ident, err := proxyid.New(proxyid.Config{
		Identity: mesh.NewIdentity(trustDomain, "shop", s.account), Workload: "shop/" + s.name,
		Token: func() (string, error) { return token, nil }, BundleDir: w.plane.bundleDir(),
		Server: w.plane.identityAddr, ServerIdentity: identityID, Sink: creds, Log: log,
	})
	ok(w.t, err)
	d := &lateDiscovery{}
	p, err := proxy.New(proxy.Config{
		Workload: proxy.Workload{Namespace: "shop", Name: s.name}, Upstreams: s.upstreams, InboundPorts: s.inbound,
		DisableTLS: s.noTLS, DisableRetries: w.noRetries,
		// Two hundred handshakes at once, both sides in this process and with the race detector, take seconds.
		Timeouts: proxy.Timeouts{LameDuck: 200 * time.Millisecond, Drain: 5 * time.Second, Handshake: 2 * long},
	}, proxy.Deps{
		Log: log, Credentials: creds, Discovery: d,
		// Never a raw wait: several workers share this process's two processors.
		Poller: func(int) (loop.Poller, error) { return loop.NewPoller(loop.EpollConfig{Hold: -1}) },
		Steps:  loop.NewSteps(2),
	})
	ok(w.t, err)
	d.Client = discover.New(discover.Config{
		Server: w.plane.destinationAddr, Namespace: "shop", Name: s.name, Log: log,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(mtls.ClientConfig(creds, destinationID, "h2")))},
	}, p)
	for _, t := range d.early {
		d.Client.Subscribe(t)
	}
	w.runInside(p, ident, d.Client, r)
	return func() bool { return p.HasPolicy() && p.IsConnected() }
}

// runInside runs the parts of a proxy until r is ended.
func (w *world) runInside(p *proxy.Proxy, ident *proxyid.Client, d *discover.Client, r *running) {
	ctx, term := context.WithCancel(context.Background())  // ended by a cleanup
	rest, stop := context.WithCancel(context.Background()) // as above
	g := &run.Group{}
	g.Add("identity", ident)
	g.Add("discover", run.Func(func(ctx context.Context) error {
		select {
		case <-ident.Certified():
			return d.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	}))
	var wg sync.WaitGroup
	wg.Go(func() { // ended by term
		defer stop()
		_ = p.Run(ctx) // it never fails
	})
	wg.Go(func() { // ended by stop
		if err := g.Run(rest); err != nil {
			w.t.Errorf("beside the proxy: %v", err)
		}
	})
	r.term, r.kill, r.wait = term, term, wg.Wait
}

// resident is the most memory that a process had, in bytes: VmHWM.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	ok(t, err)
	for line := range strings.Lines(string(raw)) {
		if v, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			ok(t, err)
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func addrPort(host string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port))
}
