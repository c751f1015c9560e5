package debian

import (
	"fmt"
	"os/exec"
	"strings"

	"github.com/tulle-mesh/tulle/test/cluster/image"
)

// layout is part of every image's key: it changes with what this package does to an image.
const layout = 1

// Users of the images, with the numbers that Debian gives them, where it gives fixed ones.
const (
	uidWWW      = 33
	uidPostgres = 100
	uidRedis    = 101
	uidMySQL    = 102
	uidExim     = 103
	uidSSHD     = 104
	uidFTP      = 105
	uidVisitor  = 1000
)

// base is what every image has beside its packages: users, links into /usr, and places to write to.
func base(f *image.Files) {
	f.Dir("/usr", 0o755)
	for _, top := range intoUsr {
		f.Dir("/usr/"+top, 0o755)
		f.Link("usr/"+top, "/"+top)
	}
	f.Dir("/tmp", 0o1777)
	f.Dir("/run", 0o755)
	f.Link("/run", "/var/run")
	f.Owned("/home/visitor", uidVisitor)
	f.Dir("/var/empty", 0o755)
	var passwd, group strings.Builder
	for _, u := range []struct {
		name, home string
		uid        int
	}{
		{"root", "/", 0}, {"www-data", "/var/www", uidWWW}, {"postgres", "/var/lib/postgresql", uidPostgres},
		{"redis", "/var/lib/redis", uidRedis}, {"mysql", "/var/lib/mysql", uidMySQL}, {"Debian-exim", "/var/spool/exim4", uidExim},
		{"sshd", "/run/sshd", uidSSHD}, {"ftp", "/srv/ftp", uidFTP}, {"visitor", "/home/visitor", uidVisitor}, {"nobody", "/var/empty", 65534},
	} {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", u.name, u.uid, u.uid, u.home)
		fmt.Fprintf(&group, "%s:x:%d:\n", u.name, u.uid)
	}
	fmt.Fprintf(&group, "adm:x:4:\nmail:x:8:\nnogroup:x:65533:\n")
	f.Text("/etc/passwd", passwd.String())
	f.Text("/etc/group", group.String())
	f.Text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n")
	f.Text("/etc/services", "ftp 21/tcp\nssh 22/tcp\nsmtp 25/tcp\nhttp 80/tcp\npostgresql 5432/tcp\n")
	f.Text("/etc/shells", "/bin/sh\n")
}

// busybox comes last: a file of the same name that a package brings stays.
func busybox(f *image.Files) error {
	at, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := f.File(at, "/usr/bin/busybox"); err != nil {
		return err
	}
	for name := range strings.FieldsSeq("sh cat cp mv rm ls ln echo sleep true false test [ env id hostname mkdir chmod chown chgrp touch " +
		"date grep sed awk cut tr head tail sort uniq wc expr dirname basename readlink realpath uname which mktemp ps kill nc wget tee printf seq stty su time timeout xargs install find pwd df") {
		f.Link("busybox", "/usr/bin/"+name)
	}
	return nil
}
