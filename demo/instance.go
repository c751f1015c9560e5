package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// instance is an application and its proxy, both running.
type instance struct {
	spec       spec
	app, proxy *process
	admin      string // the proxy's door
	control    string // the application's
	inbound    int    // the port that others reach it at
}

// attempts is how often an instance is started: a port that was free may be taken when it is used.
const attempts = 3

// readyTime bounds the start of one instance, on a machine that is busy.
const readyTime = 10 * time.Second

// launch starts an instance and waits until its proxy is ready; more are flags for the application.
func (w *world) launch(ctx context.Context, s spec, more []string) (*instance, error) {
	var err error
	for range attempts {
		var i *instance
		if i, err = w.try(ctx, s, more); err == nil {
			return i, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, err
}

func (w *world) try(ctx context.Context, s spec, more []string) (*instance, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	ports, err := freePorts(2 + len(s.upstreams))
	if err != nil {
		return nil, err
	}
	i := &instance{spec: s, inbound: ports[0], admin: local(ports[1])}
	// It is known before it is ready, because its proxy asks for its policy first.
	err = w.write(s.name+".yaml", workloadYAML(s, i.inbound, false))
	if err == nil {
		err = w.startBoth(ctx, i, ports[2:], more)
	}
	if err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

// startBoth starts the application and then the proxy that stands before it; but whoever only calls
// comes after its proxy, which it would find closed.
func (w *world) startBoth(ctx context.Context, i *instance, upstreams []int, more []string) error {
	listen := ""
	if i.spec.service != "" {
		var err error
		if listen, err = w.startApp(ctx, i, upstreams, more); err != nil {
			return err
		}
	}
	if err := w.startProxy(i, listen, upstreams); err != nil {
		return err
	}
	if err := i.waitReady(ctx); err != nil || listen != "" {
		return err
	}
	_, err := w.startApp(ctx, i, upstreams, more)
	return err
}

// startApp starts the application and returns where it listens.
func (w *world) startApp(ctx context.Context, i *instance, upstreams []int, more []string) (string, error) {
	s := i.spec
	args := []string{s.role, "--control", "127.0.0.1:0"}
	if w.cfg.Keep { // a line per request, which nobody else would read
		args = append(args, "--log", filepath.Join(w.dir, "logs", s.name+".requests"))
	}
	if s.role != generator {
		args = append(args, "--listen", "127.0.0.1:0", "--name", s.name, "--latency", s.latency.String(), "--fail", fmt.Sprint(s.fail))
	}
	for n, u := range s.upstreams {
		args = append(args, "--"+u.flag, local(upstreams[n]))
	}
	var err error
	i.app, err = w.spawner.start(command{
		name: s.name, path: w.programs.shop, args: append(args, more...), env: []string{}, dir: filepath.Join(w.dir, "logs"),
	})
	if err != nil {
		return "", err
	}
	var told struct{ Listen, Control string }
	if err := i.app.line(ctx, &told); err != nil {
		return "", err
	}
	i.control = told.Control
	return told.Listen, nil
}

func (w *world) startProxy(i *instance, app string, upstreams []int) error {
	s := i.spec
	token, err := w.token(s)
	if err != nil {
		return err
	}
	env := []string{ // and nothing of ours, which could change a proxy behind our back
		"TULLE_IDENTITY=" + string(s.identity()),
		"TULLE_WORKLOAD=" + namespace + "/" + s.name,
		"TULLE_DEPLOYMENT=" + s.account(),
		"TULLE_TOKEN_FILE=" + token,
		"TULLE_TRUST_BUNDLE_DIR=" + w.plane.BundleDir(),
		"TULLE_IDENTITY_ADDR=" + w.identity, "TULLE_IDENTITY_NAME=" + string(w.plane.IdentityName()),
		"TULLE_DESTINATION_ADDR=" + w.discovery, "TULLE_DESTINATION_NAME=" + string(w.plane.DestinationName()),
		"TULLE_ADMIN_LISTEN=" + i.admin,
		// When a proxy is told to end, the traffic has ended.
		"TULLE_LAME_DUCK=50ms", "TULLE_DRAIN_TIMEOUT=1s",
	}
	if app != "" {
		env = append(env, "TULLE_INBOUND_PORTS="+local(i.inbound)+"="+app)
	}
	var ups []string
	for n, u := range s.upstreams {
		ups = append(ups, local(upstreams[n])+"="+u.target)
	}
	env = append(env, "TULLE_UPSTREAMS="+strings.Join(ups, ","))
	env = append(env, w.experiments()...)
	i.proxy, err = w.spawner.start(command{
		name: s.name + "-proxy", path: w.programs.proxy, env: append(env, w.cfg.ProxyEnv...), dir: filepath.Join(w.dir, "logs"),
	})
	return err
}

// experiments are the settings that take away what the mesh does.
func (w *world) experiments() []string {
	var env []string
	if w.cfg.NoMTLS {
		env = append(env, "TULLE_MTLS=off")
	}
	if w.cfg.NoRetries {
		env = append(env, "TULLE_RETRIES=off")
	}
	if w.cfg.Balancing != "" {
		env = append(env, "TULLE_BALANCING="+w.cfg.Balancing)
	}
	return env
}

// waitReady asks the proxy until it is ready (R11.1).
func (i *instance) waitReady(ctx context.Context) error {
	client := newClient()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	why := "it did not answer"
	for {
		if status, body, err := get(ctx, client, "http://"+i.admin+"/ready"); err == nil {
			if status == http.StatusOK {
				return nil
			}
			why = strings.TrimSpace(string(body))
		}
		select {
		case <-ctx.Done():
			return i.proxy.failure("is not ready in " + readyTime.String() + ": " + why)
		case <-i.proxy.done:
			return i.proxy.failure("ended early")
		case <-i.app.ended():
			return i.app.failure("ended early")
		case <-tick.C:
		}
	}
}

// set changes how an instance behaves while it runs.
func (i *instance) set(ctx context.Context, latency time.Duration) error {
	b, err := json.Marshal(map[string]shop.Duration{"latency": shop.Duration(latency)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, "http://"+i.control+"/settings", bytes.NewReader(b))
	if err != nil {
		return err
	}
	client := newClient()
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body) // the status says enough
		return fmt.Errorf("%s: %s: %s", i.spec.name, res.Status, b)
	}
	return nil
}

// stop ends both, the proxy last.
func (i *instance) stop() {
	for _, p := range []*process{i.app, i.proxy} {
		if p != nil {
			p.stop()
		}
	}
}

func get(ctx context.Context, c *http.Client, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// freePorts returns ports of the loopback that nobody had a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	var held []net.Listener // until all are found, so that they differ
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
