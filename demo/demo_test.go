package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tulle-mesh/tulle/internal/run"
)

// TestTheDemoProvesItself is the whole demo with its real programs: every service has traffic, all
// of it under mTLS, and the table agrees with the generator within 2 % (R12.1).
func TestTheDemoProvesItself(t *testing.T) {
	var out, said bytes.Buffer
	t.Setenv("TMPDIR", t.TempDir())
	began := time.Now()
	err := Run(t.Context(), Config{Duration: 3 * time.Second, Output: "json"}, run.Streams{Out: &out, Err: &said})
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Logf("it took %s", time.Since(began))
	var res struct {
		Services []struct {
			Service                 string
			Requests, Success, MTLS float64
			Endpoints               int
		}
		Agreement []struct {
			Service string
			Off     float64
		}
	}
	if err := json.Unmarshal(out.Bytes(), &res); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if len(res.Services) != len(services()) || len(res.Agreement) != 6 {
		t.Fatalf("%d services, %d compared", len(res.Services), len(res.Agreement))
	}
	for _, s := range res.Services {
		if s.Requests == 0 || s.MTLS != 1 || s.Endpoints == 0 || s.Success < .5 {
			t.Errorf("%+v", s)
		}
	}
	for _, a := range res.Agreement {
		if a.Off > tolerance {
			t.Errorf("%s is off by %v", a.Service, a.Off)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestWithoutMTLSTheDemoFails is the negative run.
func TestWithoutMTLSTheDemoFails(t *testing.T) {
	var out, said bytes.Buffer
	t.Setenv("TMPDIR", t.TempDir())
	err := Run(t.Context(), Config{Duration: 2 * time.Second, NoMTLS: true, Plain: true}, run.Streams{Out: &out, Err: &said})
	if err == nil || !strings.Contains(err.Error(), "web had 0% of its traffic under mTLS") {
		t.Errorf("error %v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "FAILED: ") {
		t.Error(out.String())
	}
}

const asChild = "DEMO_TEST_CHILD"

// TestChild is the demo as a process of its own, for TestNothingSurvivesAKill.
func TestChild(t *testing.T) {
	if os.Getenv(asChild) == "" {
		t.Skip("it is a part of TestNothingSurvivesAKill")
	}
	if err := Run(t.Context(), Config{}, run.Streams{Out: os.Stdout, Err: os.Stderr}); err != nil {
		t.Fatal(err)
	}
}

func TestNothingSurvivesAKill(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("children are found in /proc")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), asChild+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "everything is up") {
	}
	all := children(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out) // until every process that holds the pipe has ended
	if want := 2 * (len(instances(Config{})) + 1); len(all) != want {
		t.Errorf("%d children, want %d", len(all), want)
	}
	end := time.Now().Add(5 * time.Second)
	for _, pid := range all {
		for alive(pid) {
			if time.Now().After(end) {
				t.Fatalf("%d is alive", pid)
			}
			runtime.Gosched()
		}
	}
}

// children are the processes whose parent is pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, path := range stats {
		b, _ := os.ReadFile(path) // it may have ended
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, child)
		}
	}
	return all
}

// alive reports whether pid runs; what waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// TestTheWatchdogBites holds what stands in for the kernel where there is no PR_SET_PDEATHSIG.
func TestTheWatchdogBites(t *testing.T) {
	for _, dismissed := range []bool{false, true} {
		victim := exec.CommandContext(t.Context(), "sleep", "60")
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		dog, err := newWatchdog()
		if err != nil {
			t.Fatal(err)
		}
		dog.watch(victim.Process.Pid)
		if dismissed {
			dog.dismiss()
			if err := victim.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		} else {
			dog.in.Close() // what our own end would do
			_ = dog.cmd.Wait()
		}
		err = victim.Wait()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatalf("it ended with %v", err)
		}
		want := syscall.SIGKILL
		if dismissed {
			want = syscall.SIGTERM
		}
		if got := exit.Sys().(syscall.WaitStatus).Signal(); got != want {
			t.Errorf("dismissed %v: it ended by %v, want %v", dismissed, got, want)
		}
	}
}

func TestAProcessThatEndsIsTold(t *testing.T) {
	s, err := newSpawner()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	p, err := s.start(command{name: "x", path: "/bin/sh", args: []string{"-c", "echo no such thing >&2; exit 3"}, dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var v struct{}
	if err := p.line(t.Context(), &v); err == nil || !strings.Contains(err.Error(), "x ended early, exit status 3") || !strings.Contains(err.Error(), "no such thing") {
		t.Error(err)
	}
	p.stop()
}

func TestMistakesAreTold(t *testing.T) {
	for want, cfg := range map[string]Config{
		"want json": {Output: "yaml"}, "no scenario": {Scenario: "x"}, "--balancing best": {Balancing: "best"}, "not negative": {WebRate: -1},
	} {
		err := Run(t.Context(), cfg, run.Streams{Out: io.Discard, Err: io.Discard})
		if exit, ok := errors.AsType[*run.ExitError](err); !ok || exit.Code != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestTheDemoLinksNothingLarge: it is the first thing that a newcomer builds.
func TestTheDemoLinksNothingLarge(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../cmd/tulle-demo").Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.Lines(string(out)) {
		for _, banned := range []string{"helm.sh/", "k8s.io/client-go/", "github.com/prometheus/prometheus/"} {
			if strings.HasPrefix(p, banned) {
				t.Errorf("it links %s", p)
			}
		}
	}
}
