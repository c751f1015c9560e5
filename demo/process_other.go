//go:build !linux

package demo

import "syscall"

// attributes: Ctrl-C is ours to pass on.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
