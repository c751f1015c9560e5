package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Missing names what this machine lacks for a cluster, each with what would mend it; none means that
// Up can be tried.
func Missing() []string {
	var missing []string
	want := func(ok bool, format string, args ...any) {
		if !ok {
			missing = append(missing, fmt.Sprintf(format, args...))
		}
	}
	want(os.Geteuid() == 0, "root: the effective user is %d", os.Geteuid())
	packages := map[string]bool{}
	for _, row := range []struct{ program, debian string }{
		{"containerd", "containerd"}, {"containerd-shim-runc-v2", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"},
		{"nft", "nftables"}, {"iptables", "iptables"}, {"busybox", "busybox-static"}, {"nsenter", "util-linux"},
	} {
		if _, err := exec.LookPath(row.program); err != nil && !packages[row.debian] {
			packages[row.debian] = true
			missing = append(missing, fmt.Sprintf("package %s: there is no program %s", row.debian, row.program))
		}
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} {
		if _, err := os.Stat("/usr/lib/cni/" + plugin); err != nil {
			missing = append(missing, "package containernetworking-plugins: "+err.Error())
			break
		}
	}
	if os.Geteuid() == 0 { // only root learns anything from the rest
		for _, row := range []struct{ path, what string }{
			{"/proc/sys/net/bridge/bridge-nf-call-iptables", "kernel module br_netfilter (modprobe br_netfilter)"},
			{"/dev/kmsg", "/dev/kmsg: the kubelet reads the kernel's messages"},
			{"/dev/null", "/dev"},
		} {
			_, err := os.Stat(row.path)
			want(err == nil, "%s: %v", row.what, err)
		}
		systems, _ := os.ReadFile("/proc/filesystems")
		want(strings.Contains(string(systems), "\toverlay\n"), "file system overlay (modprobe overlay)")
		missing = append(missing, missingCgroups()...)
		err := namespaces()
		want(err == nil, "namespaces: %v", err)
	}
	return missing
}

// missingCgroups asks for the controllers without which a kubelet or runc would not start.
func missingCgroups() []string {
	var missing []string
	for _, name := range []string{"cpu", "cpuset", "memory", "pids"} {
		if unified() {
			have, _ := os.ReadFile(cgroupFS + "/cgroup.controllers")
			if !strings.Contains(" "+strings.TrimSpace(string(have))+" ", " "+name+" ") {
				missing = append(missing, "cgroup controller "+name+": not in "+cgroupFS+"/cgroup.controllers")
			}
		} else if _, err := os.Stat(cgroupFS + "/" + name + "/cgroup.procs"); err != nil {
			missing = append(missing, "cgroup controller "+name+": "+err.Error())
		}
	}
	if err := unix.Access(cgroupFS, unix.W_OK); err != nil && !errors.Is(err, unix.EROFS) {
		missing = append(missing, "cgroups to write to: "+err.Error())
	}
	return missing
}

// namespaces tries what every node is made of.
func namespaces() error {
	cmd := exec.Command("true")
	cmd.SysProcAttr = nodeAttr()
	return cmd.Run()
}
