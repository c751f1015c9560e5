package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are what the demo starts.
type programs struct{ proxy, shop string }

// in returns the programs of dir, if they are there.
func in(dir string) (programs, error) {
	p := programs{proxy: filepath.Join(dir, "tulle-proxy"), shop: filepath.Join(dir, "tulle-shop")}
	for _, path := range []string{p.proxy, p.shop} {
		if _, err := os.Stat(path); err != nil {
			return programs{}, err
		}
	}
	return p, nil
}

// find takes the programs from binDir, from beside this program, or builds them of the source that
// the working directory is in.
func find(ctx context.Context, binDir string, say func(string)) (programs, error) {
	if binDir != "" {
		return in(binDir)
	}
	if self, err := os.Executable(); err == nil {
		if p, err := in(filepath.Dir(self)); err == nil {
			return p, nil
		}
	}
	root, err := sourceRoot(ctx)
	if err != nil {
		return programs{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return programs{}, err
	}
	dir := filepath.Join(cache, "tulle", "demo")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return programs{}, err
	}
	for _, name := range []string{"tulle-proxy", "tulle-shop"} {
		say("building " + name)
		if err := build(ctx, root, filepath.Join(dir, name), "./cmd/"+name); err != nil {
			return programs{}, err
		}
	}
	return in(dir)
}

// build leaves the program alone when it is up to date. A program that runs elsewhere is replaced,
// not written into.
func build(ctx context.Context, root, to, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, pkg)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out.String())
	}
	return nil
}

// sourceRoot is the directory of Tulle's module around the working directory.
func sourceRoot(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	out, err := cmd.Output()
	path, dir, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	if err != nil || !ok || path != "github.com/tulle-mesh/tulle" {
		return "", errors.New("tulle-proxy and tulle-shop are not beside this program: run the demo within Tulle's source " +
			"with Go installed, or name their directory with --bin-dir")
	}
	return dir, nil
}
