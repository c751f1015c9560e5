package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tulle-mesh/tulle/controller"
	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/identity"
	"github.com/tulle-mesh/tulle/internal/mesh"
)

// world is everything that runs.
type world struct {
	cfg      Config
	say      func(string) // progress
	dir      string
	programs programs
	spawner  *spawner

	plane     *controller.Plane
	identity  string // addresses of the control plane
	discovery string
	stopPlane context.CancelFunc
	planeDone chan struct{}
	planeErr  error // once planeDone

	mu        sync.Mutex
	instances []*instance // guarded by mu; the generator too
}

// start brings the whole mesh up but for the traffic. The caller calls stop, also after an error.
func (w *world) start(ctx context.Context) error {
	var err error
	if w.programs, err = find(ctx, w.cfg.BinDir, w.say); err != nil {
		return err
	}
	if w.dir, err = os.MkdirTemp("", "tulle-demo-"); err != nil {
		return err
	}
	for _, d := range []string{"mesh", "state", "logs", "tokens"} {
		if err := os.Mkdir(filepath.Join(w.dir, d), 0o700); err != nil {
			return err
		}
	}
	if w.spawner, err = newSpawner(); err != nil {
		return err
	}
	w.say("starting the control plane")
	if err := w.write("shop.yaml", meshYAML(w.cfg.NoMTLS)); err != nil {
		return err
	}
	if err := w.startPlane(ctx); err != nil {
		return err
	}
	return w.startShop(ctx)
}

// startPlane runs the control plane within this process.
func (w *world) startPlane(ctx context.Context) error {
	log, err := w.planeLog()
	if err != nil {
		return err
	}
	listen := func() (net.Listener, error) { return (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0") }
	id, err := listen()
	if err != nil {
		return err
	}
	dst, err := listen()
	if err != nil {
		id.Close()
		return err
	}
	w.identity, w.discovery = id.Addr().String(), dst.Addr().String()
	w.plane, err = controller.New(controller.Config{
		Settings: state.Settings{TrustDomain: trustDomain, NoMutualTLS: w.cfg.NoMTLS}, Source: "files:" + filepath.Join(w.dir, "mesh"),
		Identity:    &controller.IdentityConfig{Listener: id, StateDir: filepath.Join(w.dir, "state")},
		Destination: &controller.DestinationConfig{Listener: dst}, Log: log,
	})
	if err != nil {
		id.Close()
		dst.Close()
		return err
	}
	// The plane ends after everything that needs it, not with ctx.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stopPlane, w.planeDone = stop, make(chan struct{})
	go func() { // ends with stopPlane; stop waits for it
		defer close(w.planeDone)
		w.planeErr = w.plane.Run(run)
	}()
	return nil
}

func (w *world) planeLog() (*zap.Logger, error) {
	f, err := os.OpenFile(filepath.Join(w.dir, "logs", "control-plane.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(f), zap.InfoLevel)), nil
}

// startShop starts all instances side by side: who calls whom is for the mesh to resolve.
func (w *world) startShop(ctx context.Context) error {
	all := instances(w.cfg)
	ready := 0
	var mu sync.Mutex // guards ready
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	w.say(fmt.Sprintf("starting %d instances, each with its proxy", len(all)))
	for i, s := range all {
		wg.Go(func() {
			if errs[i] = w.add(ctx, s); errs[i] == nil {
				mu.Lock()
				ready++
				w.say(fmt.Sprintf("%s is ready (%d of %d)", s.name, ready, len(all)))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// add starts an instance, and makes it an endpoint once it is ready.
func (w *world) add(ctx context.Context, s spec) error {
	i, err := w.launch(ctx, s, nil)
	if err != nil {
		return err
	}
	if err := w.write(s.name+".yaml", workloadYAML(s, i.inbound, true)); err != nil {
		return err
	}
	w.join(i)
	return nil
}

// join counts an instance among those that run.
func (w *world) join(i *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances = append(w.instances, i)
}

// dead tells of a process that ended unasked.
func (w *world) dead() error {
	for _, i := range w.all() {
		for _, p := range []*process{i.app, i.proxy} {
			select {
			case <-p.done:
				return p.failure("ended unasked")
			default:
			}
		}
	}
	return nil
}

// all returns the instances that run.
func (w *world) all() []*instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*instance(nil), w.instances...)
}

// instance returns one by name.
func (w *world) instance(name string) *instance {
	for _, i := range w.all() {
		if i.spec.name == name {
			return i
		}
	}
	return nil
}

// write puts a file into the mesh's directory in one step.
func (w *world) write(name, text string) error {
	tmp := filepath.Join(w.dir, name+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(w.dir, "mesh", name))
}

// token mints a join token into a file and returns its path.
func (w *world) token(s spec) (string, error) {
	t, err := w.plane.Mint(identity.Join{Namespace: namespace, Name: s.name, Account: s.account()})
	if err != nil {
		return "", err
	}
	path := filepath.Join(w.dir, "tokens", s.name)
	return path, os.WriteFile(path, []byte(t), 0o600)
}

// name is the SPIFFE ID of an instance.
func (s spec) identity() mesh.Identity { return mesh.NewIdentity(trustDomain, namespace, s.account()) }

// stop ends everything and takes its traces away.
func (w *world) stop() error {
	if w.spawner != nil {
		w.spawner.close()
	}
	if w.stopPlane != nil {
		w.stopPlane()
		<-w.planeDone
	}
	if w.dir != "" && !w.cfg.Keep {
		return errors.Join(w.planeErr, os.RemoveAll(w.dir))
	}
	return w.planeErr
}

// client talks to the admin doors and control endpoints, all on loopback.
func newClient() *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
}
