package demo

import "syscall"

// attributes: the end of this process is the child's, and Ctrl-C is ours to pass on.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
