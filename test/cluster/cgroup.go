package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupFS = "/sys/fs/cgroup"

// A node has two cgroups in each hierarchy: its daemons', and the one below which its kubelet makes
// the pods'. Whatever a node started is found again by them.
func (i instance) nodeCgroup(n int) string { return i.cgroup() + "/" + nodeName(n) }
func (i instance) sysCgroup(n int) string  { return i.nodeCgroup(n) + "/sys" }
func (i instance) podCgroup(n int) string  { return i.nodeCgroup(n) + "/pods" }

// unified reports whether the machine has cgroup v2 only.
func unified() bool {
	_, err := os.Stat(cgroupFS + "/cgroup.controllers")
	return err == nil
}

// mounted are the mount points of every hierarchy: cgroup v2's, or v1's controllers' with, perhaps, a
// v2 without controllers beside them, in which runc makes cgroups too.
func mounted() []string {
	if unified() {
		return []string{cgroupFS}
	}
	var all []string
	entries, err := os.ReadDir(cgroupFS)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() { // cpu -> cpu,cpuacct is a link
			all = append(all, filepath.Join(cgroupFS, e.Name()))
		}
	}
	return all
}

// hierarchies are the mount points of those that have controllers.
func hierarchies() []string {
	return slices.DeleteFunc(mounted(), func(h string) bool { return h == cgroupFS+"/unified" })
}

func (i instance) makeCgroups(n int) error {
	for _, h := range hierarchies() {
		for _, cgroup := range []string{i.cgroup(), i.nodeCgroup(n), i.sysCgroup(n), i.podCgroup(n)} {
			child := filepath.Join(h, cgroup)
			if err := makeCgroup(filepath.Dir(child), child); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeCgroup makes child below parent and hands down what is not inherited.
func makeCgroup(parent, child string) error {
	if unified() {
		controllers, err := os.ReadFile(parent + "/cgroup.controllers")
		if err != nil {
			return err
		}
		for c := range strings.FieldsSeq(string(controllers)) {
			if err := os.WriteFile(parent+"/cgroup.subtree_control", []byte("+"+c), 0); err != nil {
				return fmt.Errorf("controller %s in %s: %w", c, parent, err)
			}
		}
	}
	if err := os.Mkdir(child, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if unified() {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		set, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(child, file), set, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enter moves a process, whose children will follow, into the n-th node's cgroups.
func (i instance) enter(n, pid int) error {
	for _, h := range hierarchies() {
		if err := os.WriteFile(filepath.Join(h, i.sysCgroup(n), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return err
		}
	}
	return nil
}

// freeze stops every process of a node where it stands, or lets them go on.
func (i instance) freeze(n int, frozen bool) error {
	file, value := filepath.Join(cgroupFS, "freezer", i.nodeCgroup(n), "freezer.state"), "THAWED"
	if frozen {
		value = "FROZEN"
	}
	if unified() {
		file, value = filepath.Join(cgroupFS, i.nodeCgroup(n), "cgroup.freeze"), "0"
		if frozen {
			value = "1"
		}
	}
	err := os.WriteFile(file, []byte(value), 0)
	if !frozen && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// processes are those of a cgroup and of all below it, in any hierarchy.
func processes(cgroup string) []int {
	var pids []int
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(h, cgroup), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil //nolint:nilerr // gone meanwhile
			}
			text, _ := os.ReadFile(p) // nothing, if it is gone
			for f := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// kill ends every process of a cgroup and returns when they are gone.
func kill(cgroup string) error {
	for range 100 {
		pids := processes(cgroup)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue // gone
			}
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
			unix.Close(fd)
		}
	}
	return fmt.Errorf("cgroup %s: processes %v do not end", cgroup, processes(cgroup))
}

// removeCgroups removes a cgroup and all below it, in every hierarchy.
func removeCgroups(cgroup string) error {
	var errs []error
	for _, h := range mounted() {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(h, cgroup), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		slices.Reverse(dirs)
		for _, d := range dirs {
			errs = append(errs, removeCgroup(d))
		}
	}
	return errors.Join(errs...)
}

// removeCgroup is patient: a cgroup stays busy for a moment after its last process.
func removeCgroup(dir string) error {
	var err error
	for range 100 {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("cgroup %s: %w", dir, err)
}
