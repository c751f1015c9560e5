package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/spec"
)

// supervisor starts processes and, as the kernel's appointed reaper, hears of every end.
type supervisor struct {
	logs string

	mu    sync.Mutex // guards ends, and makes a start and its entry one step for the reaper
	ends  map[int]chan syscall.WaitStatus
	begun time.Time
}

func newSupervisor(state string) *supervisor {
	s := &supervisor{logs: filepath.Join(state, "log"), ends: map[int]chan syscall.WaitStatus{}, begun: time.Now()}
	children := make(chan os.Signal, 64)
	signal.Notify(children, syscall.SIGCHLD)
	go s.reap(children) // ends with the process
	return s
}

func (s *supervisor) reap(children <-chan os.Signal) {
	for range children {
		s.mu.Lock()
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
			if ended := s.ends[pid]; ended != nil {
				ended <- status
				delete(s.ends, pid)
			}
		}
		s.mu.Unlock()
	}
}

// start starts d with its output in its log; the channel tells of its end.
func (s *supervisor) start(d spec.Daemon) (<-chan syscall.WaitStatus, error) {
	out, err := os.OpenFile(filepath.Join(s.logs, d.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	program, err := exec.LookPath(d.Args[0])
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p, err := os.StartProcess(program, d.Args, &os.ProcAttr{Files: []*os.File{null, out, out}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	s.ends[p.Pid] = ended
	return ended, p.Release()
}

func (s *supervisor) once(d spec.Daemon) error {
	ended, err := s.start(d)
	if err != nil {
		return err
	}
	if status := <-ended; status.ExitStatus() != 0 {
		return fmt.Errorf("%s: exit status %d: %q", d.Name, status.ExitStatus(), d.Args)
	}
	return nil
}

// keep starts d, and starts it again a second after each end, as a node's service manager does.
func (s *supervisor) keep(d spec.Daemon) {
	go func() { // ends with the process
		for {
			ended, err := s.start(d)
			if err != nil {
				sayf("%v", err)
			} else {
				status := <-ended
				sayf("%s ended: exit status %d, signal %d", d.Name, status.ExitStatus(), status.Signal())
			}
			time.Sleep(time.Second)
		}
	}()
}

const retry = 50 * time.Millisecond

// answering waits for a listener.
func answering(ctx context.Context, network, address string) error {
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, network, address)
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(retry)
	}
}

// ready waits for the API server's word that it is, its roles included.
func ready(ctx context.Context, api, ca string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(retry)
	}
}
