package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// endTime is how long a process may take to end before it is killed.
const endTime = 3 * time.Second

// spawner starts processes that do not outlive this one. On Linux the kernel sees to it; it watches
// the thread that started them, so one thread starts them all and stays (prctl(2), PR_SET_PDEATHSIG).
// Elsewhere a shell waits for the end of a pipe and then kills whose numbers it was told.
type spawner struct {
	starts chan func()
	ended  chan struct{}

	mu   sync.Mutex
	live map[*process]bool // guarded by mu
	dog  *watchdog         // nil on Linux
}

func newSpawner() (*spawner, error) {
	s := &spawner{starts: make(chan func()), ended: make(chan struct{}), live: map[*process]bool{}}
	if runtime.GOOS != "linux" {
		dog, err := newWatchdog()
		if err != nil {
			return nil, err
		}
		s.dog = dog
	}
	go func() { // ends with close
		defer close(s.ended)
		runtime.LockOSThread()
		for start := range s.starts {
			start()
		}
	}()
	return s, nil
}

// close ends all that lives, and the spawner.
func (s *spawner) close() {
	s.mu.Lock()
	var wg sync.WaitGroup
	for p := range s.live {
		wg.Go(p.stop) // waited for below
	}
	s.mu.Unlock()
	wg.Wait()
	close(s.starts)
	<-s.ended
	if s.dog != nil {
		s.dog.dismiss()
	}
}

// process is a child.
type process struct {
	name    string
	cmd     *exec.Cmd
	logPath string
	lines   *bufio.Reader // of its standard output
	out     io.Closer
	done    chan struct{} // closed when it has ended
	err     error         // why, once done
	stopped sync.Once
	asked   chan struct{} // closed when it was told to end
}

// command is what a process is made of.
type command struct {
	name, path string
	args, env  []string
	dir        string // for its log
}

func (s *spawner) start(c command) (*process, error) {
	p := &process{name: c.name, done: make(chan struct{}), asked: make(chan struct{}), logPath: filepath.Join(c.dir, c.name+".log")}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(c.path, c.args...) //nolint:noctx // it is told to end, and killed only when it does not
	p.cmd.Env, p.cmd.Stderr, p.cmd.SysProcAttr = c.env, log, attributes()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p.cmd.Stdout, p.out, p.lines = w, r, bufio.NewReader(r)
	started := make(chan error)
	s.starts <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		r.Close()
		return nil, err
	}
	if s.dog != nil {
		s.dog.watch(p.cmd.Process.Pid)
	}
	s.mu.Lock()
	s.live[p] = true
	s.mu.Unlock()
	go func() { // ends with the process
		p.err = p.cmd.Wait()
		s.mu.Lock()
		delete(s.live, p)
		s.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// stop tells p to end, waits, and kills it when it takes too long.
func (p *process) stop() {
	p.tell()
	t := time.NewTimer(endTime)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.kill()
		<-p.done
	}
	p.out.Close()
}

// ended is closed when p has ended; never for a process that there is not.
func (p *process) ended() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.done
}

// tell asks p to end and does not wait.
func (p *process) tell() {
	p.stopped.Do(func() { close(p.asked) })
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
}

func (p *process) kill() {
	p.stopped.Do(func() { close(p.asked) })
	_ = p.cmd.Process.Kill() // it may have ended
}

// line reads the next line of standard output, which is JSON, into v.
func (p *process) line(ctx context.Context, v any) error {
	type read struct {
		b   []byte
		err error
	}
	got := make(chan read, 1)
	go func() { // ends with the line or the process
		b, err := p.lines.ReadBytes('\n')
		got <- read{b, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return p.failure("ended early")
		}
		return json.Unmarshal(r.b, v)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failure is an error that ends with what p said last.
func (p *process) failure(what string) error {
	select {
	case <-p.done:
		if p.err != nil {
			what += ", " + p.err.Error()
		}
	case <-time.After(100 * time.Millisecond):
	}
	b, err := os.ReadFile(p.logPath)
	if err != nil {
		return errors.Join(fmt.Errorf("%s %s", p.name, what), err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := strings.Join(lines[max(0, len(lines)-5):], "\n")
	return fmt.Errorf("%s %s; its log ends:\n%s", p.name, what, last)
}

// watchdog kills what it was told of when this process is no more.
type watchdog struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

func newWatchdog() (*watchdog, error) {
	const script = `while read p; do all="$all $p"; done; trap '' TERM; kill -9 $all 2>/dev/null`
	d := &watchdog{cmd: exec.Command("/bin/sh", "-c", script)} //nolint:noctx // it must outlive everything
	var err error
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	return d, d.cmd.Start()
}

func (d *watchdog) watch(pid int) {
	fmt.Fprintln(d.in, pid)
}

// dismiss ends the dog before it bites: the numbers may be those of others by now.
func (d *watchdog) dismiss() {
	_ = d.cmd.Process.Kill() // it may have been killed
	_ = d.cmd.Wait()
	_ = d.in.Close()
}
