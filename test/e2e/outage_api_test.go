package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestLongAPIServerGone: R11.4, R10.2. Tulle's control plane runs, and what it stands on does not. Certificates that
// live for 80 s are renewed all the time: that needs no API server.
func TestLongAPIServerGone(t *testing.T) {
	long(t)
	e := setup(t)
	e.configure("identity.leafLifetime=80s")
	e.kubectl("annotate", "namespace", e.namespace, "tulle.dev/inject=enabled")
	x := e.traffic("gracefully")
	for name, d := range map[string]time.Duration{"kube-apiserver": time.Minute, "etcd": 30 * time.Second} {
		x.during(fmt.Sprintf("%s hangs for %s", name, d), func() { e.hang(name, d) })
		e.agreeAgain()
	}
	x.during("the API server is killed", func() {
		e.signal("kube-apiserver", syscall.SIGKILL) // the node starts it again
		e.until(e.answers)
	})
	e.agreeAgain()
	x.during("destination alone is restarted", func() {
		plane := e.in(t, "tulle")
		plane.kubectl("rollout", "restart", "deployment/tulle-destination")
		plane.rollout("deployment/tulle-destination")
		plane.settled()
	})
	e.agreeAgain()
	x.during("servers 3", func() { x.scale("app=gracefully", 3) })
	x.want(x.end(), 10_000)
}

// hang stops a daemon of n1 for a while, and nobody judges nodes by what is not heard of them meanwhile.
func (e *env) hang(name string, d time.Duration) {
	e.t.Helper()
	proxies := e.addresses() // there is nobody to ask for them in between
	before := e.standingsAt(proxies)
	e.signal("kube-controller-manager", syscall.SIGSTOP)
	e.signal(name, syscall.SIGSTOP)
	e.t.Cleanup(func() {
		e.signal(name, syscall.SIGCONT)
		e.signal("kube-controller-manager", syscall.SIGCONT)
	})
	select {
	case <-time.After(d):
	case <-e.t.Context().Done():
	}
	if d >= time.Minute {
		for pod, s := range e.standingsAt(proxies) {
			if !s.expires.After(before[pod].expires) {
				e.t.Errorf("%s has not renewed its certificate: %+v", pod, s)
			}
		}
	}
	e.signal(name, syscall.SIGCONT)
	e.until(e.answers)
	<-time.After(12 * time.Second) // every kubelet has been heard
	e.signal("kube-controller-manager", syscall.SIGCONT)
}

// answers reports whether the API server does, with what etcd holds.
func (e *env) answers(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	_, err := e.Kubectl(ctx, "get", "--raw=/readyz")
	return err
}

// signal sends one to a daemon of this cluster.
func (e *env) signal(daemon string, s syscall.Signal) {
	e.t.Helper()
	name, ours := []byte("\x00"+daemon+"\x00"), []byte(filepath.Dir(e.Kubeconfig())+"/")
	pid, err := processWith("cmdline", func(b []byte) bool { return bytes.Contains(b, name) && bytes.Contains(b, ours) })
	if err == nil {
		err = syscall.Kill(pid, s)
	}
	if err != nil {
		e.t.Errorf("%s: %v", daemon, err)
	}
}

// processWith is the process whose file below /proc will do.
func processWith(file string, good func([]byte) bool) (pid int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/" + file)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && good(b) {
			return strconv.Atoi(filepath.Base(filepath.Dir(f)))
		}
	}
	return 0, errors.New("no such process")
}
