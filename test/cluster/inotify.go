package cluster

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The kubelets and control planes of all instances count against one user's limit of inotify
// instances, which is often 128.
const (
	inotifyLimit  = "/proc/sys/fs/inotify/max_user_instances"
	inotifyWanted = 1024
)

// inotifyKept remembers the machine's own limit while any instance is up.
func inotifyKept() string { return filepath.Join(stateRoot, "max_user_instances") }

// raiseInotify raises the limit, unless it is high enough.
func raiseInotify(ctx context.Context) error {
	release, err := acquire(ctx, "machine", io.Discard)
	if err != nil {
		return err
	}
	defer release()
	own, err := os.ReadFile(inotifyLimit)
	if err != nil {
		return err
	}
	if limit, err := strconv.Atoi(strings.TrimSpace(string(own))); err != nil || limit >= inotifyWanted {
		return err
	}
	if err := os.WriteFile(inotifyKept(), own, 0o600); err != nil {
		return err
	}
	return os.WriteFile(inotifyLimit, []byte(strconv.Itoa(inotifyWanted)), 0)
}

// restoreInotify gives the machine its limit back when no instance is left, and removes the last
// directory.
func restoreInotify(ctx context.Context) error {
	release, err := acquire(ctx, "machine", io.Discard)
	if err != nil {
		return err
	}
	defer release()
	entries, err := os.ReadDir(stateRoot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return nil
		}
	}
	own, err := os.ReadFile(inotifyKept())
	if err == nil {
		err = os.WriteFile(inotifyLimit, own, 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(stateRoot)
}
