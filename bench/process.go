//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// cores say where processes run. Empty ones leave it to the kernel.
type cores struct{ proxies, rest string }

// findCores gives proxies a core for themselves where there are two and a taskset.
func findCores() cores {
	if _, err := exec.LookPath("taskset"); err != nil || processors() < 2 {
		return cores{}
	}
	return cores{proxies: "0", rest: "1"}
}

// process is a child of the harness.
type process struct {
	cmd    *exec.Cmd
	name   string
	errors bytes.Buffer
	done   chan struct{}
}

// launch starts a program on a core. It is killed when ctx ends.
func launch(ctx context.Context, core, name string, env []string, argv ...string) (*process, error) {
	if core != "" {
		argv = append([]string{"taskset", "-c", core}, argv...)
	}
	p := &process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), name: name, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr, p.cmd.Stdout = &p.errors, &p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process
		defer close(p.done)
		_ = p.cmd.Wait() // how a process that was killed ended says nothing
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// ended reports a process that is gone before its time.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %s", p.name, bytes.TrimSpace(p.errors.Bytes()))
	default:
		return nil
	}
}

// freeAddr is an address on loopback that nobody listens on now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		a, err := freeAddr()
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// until tries what, every now and then, and tells why it never went well.
func until(ctx context.Context, limit time.Duration, what func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := what()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", limit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
