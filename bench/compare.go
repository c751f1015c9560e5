//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// kase is one row of the table.
type kase struct {
	name, title string
	proto       proto
	body        int
	conns       int
	streams     int
	rate        float64
	idle        bool
}

func cases() []kase {
	return []kase{
		{name: "http1", title: "HTTP/1, 50 connections, saturated", proto: protoHTTP1, body: 256, conns: 50, streams: 1},
		{name: "http1-rate", title: "HTTP/1, 2,000 requests/s on 50 connections", proto: protoHTTP1, body: 256, conns: 50, streams: 1, rate: 2000},
		{name: "http1-1000", title: "HTTP/1, 1,000 connections, saturated", proto: protoHTTP1, body: 256, conns: 1000, streams: 1},
		{name: "grpc", title: "gRPC-shaped, 10 connections x 10 streams, saturated", proto: protoGRPC, body: 256, conns: 10, streams: 10},
		{name: "http1-64k", title: "HTTP/1, responses of 64 KiB, 50 connections, saturated", proto: protoHTTP1, body: 64 << 10, conns: 50, streams: 1},
		{name: "tcp", title: "opaque TCP, 256 bytes each way, 50 connections, saturated", proto: protoTCP, body: tcpMessage, conns: 50, streams: 1},
		{name: "idle", title: "idle, after one request", proto: protoHTTP1, body: 256, idle: true},
	}
}

func caseNames() []string {
	var names []string
	for _, k := range cases() {
		names = append(names, k.name)
	}
	return names
}

// result is what one contender did in one case.
type result struct {
	contender string
	reports   []loadReport
	idle      *idleReport
}

// idleReport is of both proxies.
type idleReport struct {
	wakeups             float64 // per second
	cpu                 float64 // microseconds per second
	resident, anonymous int     // KiB
}

type row struct {
	kase    kase
	results []*result
}

// bench is a run.
type bench struct {
	opts       *options
	dir        string
	self       string
	cores      cores
	control    *control
	contenders []contender
	peer       string // HAProxy's version
}

func compare(ctx context.Context, opts *options) error {
	dir, err := os.MkdirTemp("", "tulle-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{opts: opts, dir: dir, cores: findCores()}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.control, err = startControl(ctx, dir); err != nil {
		return err
	}
	defer b.control.stop()
	if err := b.enter(ctx); err != nil {
		return err
	}
	begin := time.Now()
	rows, err := b.run(ctx)
	if err != nil {
		return err
	}
	return b.publish(rows, time.Since(begin))
}

// enter builds what has to be built.
func (b *bench) enter(ctx context.Context) error {
	b.contenders = []contender{direct()}
	for _, x := range b.opts.builds {
		if x.path == "" {
			x.path = filepath.Join(b.dir, "tulle-proxy")
			cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", x.path, "./cmd/tulle-proxy")
			cmd.Dir, cmd.Env = root(), append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("build tulle-proxy: %w\n%s", err, out)
			}
		}
		b.contenders = append(b.contenders, tulle(x, b.control, b.cores.proxies))
	}
	if b.opts.withoutHAProxy {
		return nil
	}
	path, err := exec.LookPath("haproxy")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/haproxy"); err != nil {
			return errors.New("haproxy is missing: apt-get install haproxy, or -without-haproxy")
		}
	}
	out, _ := exec.CommandContext(ctx, path, "-v").Output()
	b.peer, _, _ = strings.Cut(strings.TrimPrefix(string(out), "HAProxy version "), " ")
	b.contenders = append(b.contenders, haproxy(path, b.control, b.cores.proxies))
	return nil
}

// root is the repository's: bench is run in its own directory.
func root() string { return ".." }

func (b *bench) run(ctx context.Context) (rows []row, err error) {
	for _, k := range cases() {
		if len(b.opts.only) > 0 && !slices.Contains(b.opts.only, k.name) {
			continue
		}
		r, err := b.kase(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// kase runs every contender afresh, so that memory is of this case alone, and lets them take turns.
func (b *bench) kase(ctx context.Context, k kase) (row, error) {
	r := row{kase: k}
	addr, stopOrigin, err := b.origin(ctx, k)
	if err != nil {
		return r, err
	}
	defer stopOrigin()
	to := target{addr: addr, proto: k.proto, body: k.body}
	var stand []*standing
	defer func() {
		for _, s := range stand {
			s.stop()
		}
	}()
	for _, c := range b.contenders {
		s, err := c.start(ctx, to)
		if err != nil {
			return r, fmt.Errorf("%s: %w", c.name, err)
		}
		stand = append(stand, s)
		r.results = append(r.results, &result{contender: c.name})
	}
	if k.idle {
		return r, b.idle(ctx, stand, r.results)
	}
	for round := range b.opts.rounds {
		for i := range stand {
			i := (i + round) % len(stand) // nobody always comes first
			if err := b.load(ctx, k, stand[i], r.results[i]); err != nil {
				return r, err
			}
		}
	}
	if b.opts.profile != "" {
		return r, b.profileAll(ctx, k, stand, r.results)
	}
	return r, nil
}

// origin starts one for a case.
func (b *bench) origin(ctx context.Context, k kase) (addr string, stop func(), err error) {
	if addr, err = freeAddr(); err != nil {
		return "", nil, err
	}
	cmd := b.child(ctx, roleOrigin)
	in, err := json.Marshal(originOrders{Listeners: []listenerOrders{{Addr: addr, Proto: k.proto, Body: k.body}}})
	if err != nil {
		return "", nil, err
	}
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start the origin: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return "", nil, fmt.Errorf("the origin does not listen: %w", err)
	}
	return addr, stop, nil
}

// child is this program in another role, beside the proxies' core.
func (b *bench) child(ctx context.Context, role string) *exec.Cmd {
	argv := []string{b.self, role}
	if b.cores.rest != "" {
		argv = append([]string{"taskset", "-c", b.cores.rest}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (b *bench) load(ctx context.Context, k kase, s *standing, r *result) error {
	in, err := json.Marshal(loadOrders{
		Proto: k.proto, Addr: s.addr, Conns: k.conns, Streams: k.streams, Rate: k.rate,
		Warm: b.opts.warm, Time: b.opts.time, Body: k.body, PIDs: s.pids(),
	})
	if err != nil {
		return err
	}
	cmd := b.child(ctx, roleLoad)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	var report loadReport
	if err := json.Unmarshal(out, &report); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if err := s.alive(); err != nil {
		return err
	}
	r.reports = append(r.reports, report)
	fmt.Fprintf(os.Stderr, "%-11s %-8s %7d requests in %.1f s, %5.1f us of proxies' CPU each, p50 %.0f us, p99 %.0f us, max %.0f us, load %.1f us, %d errors %s\n",
		k.name, r.contender, report.Requests, report.Seconds, report.ProxyCPU, report.P50, report.P99, report.Max, report.OwnCPU, report.Errors, report.Error)
	return nil
}

// idle measures all at once: what sleeps does not disturb.
func (b *bench) idle(ctx context.Context, stand []*standing, results []*result) error {
	// Connections that were probed close, and the collector has its turn.
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(min(2*time.Second, b.opts.idle)); err != nil {
		return err
	}
	before := make([]usage, len(stand))
	begin := time.Now()
	for i, s := range stand {
		before[i] = processes(s.pids())
	}
	if err := wait(b.opts.idle); err != nil {
		return err
	}
	seconds := time.Since(begin).Seconds()
	for i, s := range stand {
		after := processes(s.pids())
		results[i].idle = &idleReport{
			wakeups: float64(after.slices-before[i].slices) / seconds, cpu: float64(after.cpu-before[i].cpu) / 1e3 / seconds,
			resident: after.resident, anonymous: after.anonymous,
		}
		if err := s.alive(); err != nil {
			return err
		}
	}
	return nil
}

// profileAll loads each contender that has a door once more and takes profiles.
func (b *bench) profileAll(ctx context.Context, k kase, stand []*standing, results []*result) error {
	if err := os.MkdirAll(b.opts.profile, 0o755); err != nil {
		return err
	}
	for i, s := range stand {
		var wg sync.WaitGroup
		errs := make([]error, len(s.admin)+1) // the last one is the load's
		for j, admin := range s.admin {
			name := fmt.Sprintf("%s-%s-%s.pprof", k.name, results[i].contender, []string{"out", "in"}[j])
			wg.Go(func() { errs[j] = fetchProfile(ctx, admin, filepath.Join(b.opts.profile, name), b.opts.time) })
		}
		if len(s.admin) > 0 {
			errs[len(s.admin)] = b.load(ctx, k, s, &result{contender: "profiled"})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func fetchProfile(ctx context.Context, admin, path string, d time.Duration) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, max(1, int(d/time.Second)))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, a.Body)
	return err
}
