//go:build !linux

package redirect

import (
	"context"
	"errors"
)

var errLinux = errors.New("a redirect needs nftables, which Linux has")

// Apply is known on Linux alone.
func Apply(Config) error { return errLinux }

// Remove is known on Linux alone.
func Remove() error { return errLinux }

// Prove is known on Linux alone.
func Prove(context.Context, Config) (Checked, error) { return Checked{}, errLinux }
