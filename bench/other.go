//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: Linux alone says what a process has used, and has HAProxy's epoll to compare with")
	os.Exit(1)
}
