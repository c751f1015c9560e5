//go:build !linux

package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func setUserTimeout(int, time.Duration) error { return errors.ErrUnsupported }

// originalDst: redirects are known on Linux alone.
func originalDst(int, netip.AddrPort) netip.AddrPort { return netip.AddrPort{} }

func setReusePort(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}
