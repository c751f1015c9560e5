package mesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/tulle-mesh/tulle/internal/mesh"
	"github.com/tulle-mesh/tulle/proxy"
)

// An instance is an application in a process of its own, so that signals mean what they mean: this
// test's binary with its address in the environment. It notes every request that it gets.
const (
	instanceEnv    = "TULLE_MESH_INSTANCE"
	instanceLogEnv = "TULLE_MESH_INSTANCE_LOG"
)

// work is how long an instance works on a request.
const work = 5 * time.Millisecond

// worker is what an instance does with a request: it notes when it begins and when it ends.
type worker struct {
	log io.Writer

	mu   sync.Mutex    // guards held
	held chan struct{} // closed unless what has begun is held back
}

func newWorker(log io.Writer) *worker {
	w := &worker{log: log, held: make(chan struct{})}
	close(w.held)
	return w
}

// do works on a request and reports whether it is to be answered.
func (w *worker) do(ctx context.Context, id string) bool {
	fmt.Fprintln(w.log, "begin", id) // one write: it survives SIGKILL
	pause(work)
	w.mu.Lock()
	held := w.held
	w.mu.Unlock()
	select {
	case <-held:
	case <-ctx.Done():
		return false
	}
	fmt.Fprintln(w.log, "end", id)
	return true
}

// obey has SIGUSR1 hold what the instance works on, and SIGUSR2 let it go on.
func (w *worker) obey(ctx context.Context) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-told:
			w.mu.Lock()
			if s == syscall.SIGUSR1 {
				w.held = make(chan struct{})
			} else {
				close(w.held)
			}
			w.mu.Unlock()
		}
	}
}

// serveInstance serves until SIGTERM, then drains as http.Server.Shutdown does.
func serveInstance(addr, log string) int {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := newWorker(f)
	g := grpc.NewServer()
	pb.RegisterTestServiceServer(g, instanceGRPC{w: w})
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: p, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			g.ServeHTTP(rw, r)
			return
		}
		b, err := io.ReadAll(r.Body)
		if id := r.Header.Get("X-Request-Id"); err == nil && w.do(r.Context(), id) {
			fmt.Fprint(rw, id, " ", string(b))
		}
	})}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go w.obey(ctx) // ended by SIGTERM
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go srv.Serve(l) // ended by Shutdown
	<-ctx.Done()
	if err := srv.Shutdown(context.Background()); err != nil {
		return 1
	}
	return 0
}

// instanceGRPC notes calls as the handler above does.
type instanceGRPC struct {
	pb.UnimplementedTestServiceServer

	w *worker
}

// UnaryCall answers with what was sent.
func (s instanceGRPC) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	id := string(r.GetPayload().GetBody())
	if !s.w.do(ctx, id) {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return &pb.SimpleResponse{Username: id}, nil
}

// instance is an application with its proxy.
type instance struct {
	w     *world
	name  string
	n     int
	log   string
	app   *exec.Cmd
	ended chan struct{}
	proxy *running
}

func (i *instance) addr() string { return fmt.Sprintf("%s%d", i.w.net, 20+i.n) }

// appAddr is where its application listens.
func (i *instance) appAddr() netip.AddrPort {
	return addrPort(fmt.Sprintf("%s%d", i.w.net, 40+i.n), slotPort(0))
}

// announceAs tells the control plane of the instance.
func (i *instance) announceAs(terminating bool) {
	i.w.plane.write(i.name+".yaml",
		workload{name: i.name, account: "server", service: "server", addr: i.addr(), ports: 1, terminating: terminating}.yaml())
}

// newInstance starts the application of number n. Its row and its proxy follow.
func (w *world) newInstance(n int) *instance {
	w.t.Helper()
	i := &instance{w: w, name: fmt.Sprintf("server-%d", n), n: n, ended: make(chan struct{})}
	i.log = w.t.TempDir() + "/log"
	app := i.appAddr()
	i.app = exec.Command(os.Args[0]) //nolint:gosec // this test's own binary
	i.app.Env = append(os.Environ(), instanceEnv+"="+app.String(), instanceLogEnv+"="+i.log)
	i.app.Stderr = os.Stderr
	ok(w.t, i.app.Start())
	go func() { // ends with the process
		defer close(i.ended)
		_ = i.app.Wait() // tests look at what it noted
	}()
	w.t.Cleanup(func() {
		_ = i.app.Process.Kill() // it may have ended
		<-i.ended
	})
	until(w.t, "application "+i.name, func() bool {
		c, err := net.Dial("tcp", app.String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return i
}

// startProxy starts the instance's proxy.
func (i *instance) startProxy() {
	i.proxy = i.w.start(proxySpec{
		name: i.name, account: "server", admin: i.addr() + ":4191",
		inbound: []proxy.InboundPort{{Listen: addrPort(i.addr(), slotPort(0)), App: i.appAddr()}},
	})
}

// notes are the ids that the instance began and ended, each as often as it did.
func (i *instance) notes() (begun, ended map[string]int) {
	raw, err := os.ReadFile(i.log)
	if err != nil && !os.IsNotExist(err) {
		i.w.t.Fatal(err)
	}
	begun, ended = map[string]int{}, map[string]int{}
	for line := range strings.Lines(string(raw)) {
		what, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		if what == "begin" {
			begun[id]++
		} else {
			ended[id]++
		}
	}
	return begun, ended
}

// retire ends the instance as an orchestrator does (R11.2): its row says that it terminates, and
// only when that has got about do the application and then the proxy get SIGTERM.
func (i *instance) retire(t testing.TB) {
	i.announceAs(true)
	pause(500 * time.Millisecond) // twice what news may take
	ok(t, i.app.Process.Signal(syscall.SIGTERM))
	<-i.ended
	i.proxy.term()
	i.proxy.wait()
	i.w.plane.remove(i.name + ".yaml")
}

// hold has the instance end nothing of what it begins, until release.
func (i *instance) hold() { ok(i.w.t, i.app.Process.Signal(syscall.SIGUSR1)) }

func (i *instance) release() { ok(i.w.t, i.app.Process.Signal(syscall.SIGUSR2)) }

// kill ends both at once.
func (i *instance) kill() {
	_ = i.app.Process.Kill() // cannot fail while it runs
	i.proxy.kill()
	<-i.ended
	i.proxy.wait()
}

// target is what clients of the instances dial.
func instancesTarget() mesh.Target { return mesh.NameTarget("server.shop", uint16(slotPort(0))) }
