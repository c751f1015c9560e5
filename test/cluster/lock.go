package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// acquire makes this process the owner of an instance until release. The lock is an abstract Unix
// socket: it ends with its process, however that ends, and leaves no file. While another process has
// it, acquire waits on a connection that ends with that process.
func acquire(ctx context.Context, name string, progress io.Writer) (release func(), err error) {
	address := "@tulle-cluster-" + name
	var config net.ListenConfig
	for {
		l, err := config.Listen(ctx, "unix", address)
		if err == nil {
			return func() { l.Close() }, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		if err := awaitOwner(ctx, address, progress); err != nil {
			return nil, err
		}
	}
}

func awaitOwner(ctx context.Context, address string, progress io.Writer) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", address)
	if err != nil {
		return ctx.Err() // it has just ended
	}
	defer c.Close()
	fmt.Fprintf(progress, "waiting for process %d, which has this instance\n", peer(c))
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_, _ = c.Read(make([]byte, 1)) // nobody accepts or writes: it returns when the listener is gone
	return ctx.Err()
}

// peer is the process that listens.
func peer(c net.Conn) int32 {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	var pid int32
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = cred.Pid
		}
	})
	return pid
}
