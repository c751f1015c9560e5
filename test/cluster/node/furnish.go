package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tulle-mesh/tulle/test/cluster/spec"
)

// furnish gives the node a hostname and its own /proc, /sys, /run, /var/lib and /var/log. Nothing of it
// is seen outside of the node's mount namespace, and no directory is made in the machine's own tree.
func furnish(n *spec.Node) error {
	if err := unix.Sethostname([]byte(n.Name)); err != nil {
		return err
	}
	f := furnisher{}
	f.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE)
	f.mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV)

	// /run is made aside, where the machine's paths are still visible, and then moved into place.
	run := filepath.Join(n.State, "run")
	f.dir(run)
	f.mount("run", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV)
	f.dir(filepath.Join(run, "lock"))
	for _, name := range slices.Sorted(maps.Keys(n.Programs)) {
		f.bindFile(n.Programs[name], filepath.Join(run, "tulle", "bin", name))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Files)) {
		f.write(filepath.Join(run, name), n.Files[name])
	}
	for _, name := range slices.Sorted(maps.Keys(n.Sysctls)) {
		seen := filepath.Join(run, "tulle", "sysctl", strings.ReplaceAll(name, "/", "."))
		f.write(seen, n.Sysctls[name])
		if _, err := os.Stat("/proc/sys/" + name); err == nil {
			f.mount(seen, "/proc/sys/"+name, "", unix.MS_BIND)
		}
	}
	// A sysfs shows the network devices of whoever mounts it. The cgroup hierarchies come along, and
	// all this before mounts are shared: later the removal of the staging place would reach both.
	sys := filepath.Join(run, "sys")
	f.dir(sys)
	f.mount("sysfs", sys, "sysfs", 0)
	f.mount("/sys/fs/cgroup", sys+"/fs/cgroup", "", unix.MS_BIND|unix.MS_REC)
	f.mount(sys, "/sys", "", unix.MS_BIND|unix.MS_REC)
	f.do("unmount "+sys, unix.Unmount(sys, unix.MNT_DETACH))
	for _, name := range []string{"lib", "log"} {
		kept := filepath.Join(n.State, name)
		f.dir(kept)
		f.mount(kept, "/var/"+name, "", unix.MS_BIND)
	}
	f.mount(run, "/run", "", unix.MS_MOVE)
	f.mount("", "/", "", unix.MS_REC|unix.MS_SHARED) // the kubelet's mounts must reach containers
	for _, name := range slices.Sorted(maps.Keys(n.Settings)) {
		f.do(name, os.WriteFile("/proc/sys/"+name, []byte(n.Settings[name]), 0))
	}
	return f.err
}

// furnisher stops at the first error.
type furnisher struct{ err error }

func (f *furnisher) do(what string, err error) {
	if f.err == nil && err != nil {
		f.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (f *furnisher) mount(from, to, kind string, flags uintptr) {
	if f.err == nil {
		f.do(fmt.Sprintf("mount %s %s on %s", kind, from, to), unix.Mount(from, to, kind, flags, ""))
	}
}

func (f *furnisher) dir(name string) {
	if f.err == nil {
		f.do("directory", os.MkdirAll(name, 0o755))
	}
}

func (f *furnisher) write(name, text string) {
	f.dir(filepath.Dir(name))
	if f.err == nil {
		f.do("file", os.WriteFile(name, []byte(text), 0o644))
	}
}

func (f *furnisher) bindFile(from, to string) {
	f.write(to, "")
	f.mount(from, to, "", unix.MS_BIND)
}
