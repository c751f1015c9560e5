//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what processes have used together.
type usage struct {
	cpu                 time.Duration
	slices              int // times that a thread was put on a processor
	resident, anonymous int // KiB
	own                 time.Duration
}

// processes adds up what the kernel says of processes and all their threads. A process that is gone
// adds nothing.
func processes(pids []int) (u usage) {
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		tasks, err := os.ReadDir(dir + "/task")
		if err != nil {
			continue
		}
		for _, t := range tasks {
			// Time on a processor in ns, time waiting for one, and how often it got one.
			f := numbers(filepath.Join(dir, "task", t.Name(), "schedstat"))
			if len(f) == 3 {
				u.cpu += time.Duration(f[0])
				u.slices += f[2]
			}
		}
		u.resident += statusKiB(dir, "VmRSS:")
		u.anonymous += statusKiB(dir, "RssAnon:")
	}
	return u
}

func numbers(path string) (n []int) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for f := range strings.FieldsSeq(string(b)) {
		v, err := strconv.Atoi(f)
		if err != nil {
			return nil
		}
		n = append(n, v)
	}
	return n
}

func statusKiB(dir, name string) int {
	b, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))))
			if err == nil {
				return n
			}
		}
	}
	return 0
}

func ownCPU() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// machine says what the figures come from.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("%s, %d processors, %d MiB, Linux %s", cpuModel(), processors(), memoryMiB(), unix.ByteSliceToString(u.Release[:]))
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func processors() int {
	b, _ := os.ReadFile("/proc/cpuinfo")
	return strings.Count("\n"+string(b), "\nprocessor")
}

func memoryMiB() int {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0
	}
	return int(s.Totalram * uint64(s.Unit) >> 20)
}
