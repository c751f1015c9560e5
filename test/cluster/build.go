package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/test/cluster/image"
)

// Images of the test bed itself. Their tags are not "latest", so that no kubelet asks a registry.
const (
	pauseImage   = "tulle.test/pause:1"
	corednsImage = "tulle.test/coredns:1"
	// ToolsImage has busybox, nft, and /app: the test bed's own client and server (package app).
	ToolsImage = "tulle.test/tools:1"
)

// Programs are what a cluster is started from, as files in the cache.
type Programs struct {
	Kube, Node string
	// Kubectl is a link to Kube, for a PATH.
	Kubectl string
	// Pause and CoreDNS are images that every node needs; Tools is for tests, by LoadImages.
	Pause, CoreDNS, Tools string
}

const (
	module     = "github.com/tulle-mesh/tulle/test/cluster"
	kubernetes = "1.34.4"
)

// Build builds what is not in the cache: minutes on the first call, nothing on the next.
func Build(ctx context.Context, c Config) (*Programs, error) {
	b, err := newBuilder(ctx, c)
	if err != nil {
		return nil, err
	}
	var p Programs
	p.Kube = b.program("kube", versionFlags())
	p.Kubectl = filepath.Join(filepath.Dir(p.Kube), "kubectl")
	coredns := b.program("coredns", "")
	p.Node = b.program("node", "")
	pause, app := b.program("pause", ""), b.program("app", "")
	if b.err != nil {
		return nil, b.err
	}
	if err := os.Symlink("kube", p.Kubectl); err != nil && !os.IsExist(err) {
		return nil, err
	}
	p.Pause = b.image(pauseImage, pause, func(f *image.Files) error { return f.File(pause, "/pause") })
	p.CoreDNS = b.image(corednsImage, coredns, func(f *image.Files) error { return f.File(coredns, "/coredns") })
	p.Tools = b.image(ToolsImage, app, func(f *image.Files) error { return tools(f, app) })
	return &p, b.err
}

// versionFlags tell Kubernetes its version, which its own build takes from git.
func versionFlags() string {
	var flags []string
	parts := strings.Split(kubernetes, ".")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags, "-X", pkg+".gitVersion=v"+kubernetes, "-X", pkg+".gitMajor="+parts[0], "-X", pkg+".gitMinor="+parts[1])
	}
	return strings.Join(flags, " ")
}

// builder stops at the first error.
type builder struct {
	ctx     context.Context //nolint:containedctx // a builder lives for one call of Build
	source  string
	cache   string
	version string
	out     io.Writer
	err     error
}

func newBuilder(ctx context.Context, c Config) (*builder, error) {
	cache := c.Cache
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(user, "tulle", "cluster")
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("where the sources of %s are: %w", module, err)
	}
	version, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		return nil, err
	}
	b := &builder{ctx: ctx, source: strings.TrimSpace(string(out)), cache: cache, version: string(version), out: c.Progress}
	if b.out == nil {
		b.out = io.Discard
	}
	return b, os.MkdirAll(cache, 0o755)
}

// place is the cache's directory for what is made from the files of dirs and nothing else; ones of
// the same name that were made from others are removed.
func (b *builder) place(name string, extra string, dirs ...string) (dir string, there bool) {
	sum := sha256.New()
	fmt.Fprintln(sum, b.version, extra)
	for _, d := range dirs {
		if err := hashFiles(sum, d); err != nil {
			b.err = err
			return "", false
		}
	}
	dir = filepath.Join(b.cache, name+"-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, true
	}
	old, _ := filepath.Glob(filepath.Join(b.cache, name+"-????????????????"))
	for _, o := range old {
		_ = os.RemoveAll(o) // what stays costs room, no more
	}
	return dir, false
}

// hashFiles reads Go files, go.mod and go.sum of a directory, or one file.
func hashFiles(to io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		in, err := os.Open(p)
		if err != nil {
			return err
		}
		defer in.Close()
		fmt.Fprintln(to, filepath.Base(p))
		_, err = io.Copy(to, in)
		return err
	})
}

// program builds the main package in a directory of this name.
func (b *builder) program(name, linkerFlags string) string {
	if b.err != nil {
		return ""
	}
	src := filepath.Join(b.source, name)
	dirs := []string{src}
	if _, err := os.Stat(filepath.Join(src, "go.mod")); err != nil { // of the test bed's own module
		dirs = append(dirs, filepath.Join(b.source, "spec"), filepath.Join(b.source, "go.mod"))
	}
	dir, there := b.place(name, linkerFlags, dirs...)
	if there || b.err != nil {
		return filepath.Join(dir, name)
	}
	begun := time.Now()
	fmt.Fprintf(b.out, "building %s (%s/%s)\n", name, runtime.GOOS, runtime.GOARCH)
	b.err = b.fill(dir, func(tmp string) error {
		// Without debugging information the compiler has less to write, in thousands of packages.
		cmd := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false",
			"-ldflags=-s -w "+linkerFlags, "-o", filepath.Join(tmp, name), ".")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
		cmd.Stdout, cmd.Stderr = b.out, b.out
		return cmd.Run()
	})
	if b.err != nil {
		b.err = fmt.Errorf("build %s: %w", name, b.err)
		return ""
	}
	fmt.Fprintf(b.out, "built %s in %.0f s\n", name, time.Since(begun).Seconds())
	return filepath.Join(dir, name)
}

// image packs an image, of which program is the part that changes.
func (b *builder) image(ref, program string, add func(*image.Files) error) string {
	if b.err != nil {
		return ""
	}
	name := strings.NewReplacer("/", "-", ":", "-").Replace(strings.TrimPrefix(ref, "tulle.test/")) + "-image"
	dir, there := b.place(name, program, filepath.Join(b.source, "image")) // the program's path changes with its content
	tar := filepath.Join(dir, "image.tar")
	if there || b.err != nil {
		return tar
	}
	b.err = b.fill(dir, func(tmp string) error {
		var files image.Files
		if err := add(&files); err != nil {
			return err
		}
		return image.Write(filepath.Join(tmp, "image.tar"), ref, image.Config{Entrypoint: files.Entrypoint()}, &files)
	})
	return tar
}

// fill makes a directory of the cache whole or not at all.
func (b *builder) fill(dir string, with func(tmp string) error) error {
	tmp, err := os.MkdirTemp(b.cache, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := with(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

// tools fills the image for tests.
func tools(f *image.Files, app string) error {
	if err := f.File(app, "/app"); err != nil {
		return err
	}
	if err := f.File("/bin/busybox", "/bin/busybox"); err != nil {
		return err
	}
	for name := range strings.FieldsSeq("sh cat echo sleep wget nslookup nc id ps env grep head tail true false ls touch rm mkdir date") {
		f.Link("busybox", "/bin/"+name)
	}
	f.Dir("/tmp", 0o1777)
	f.Dir("/run", 0o755)
	return f.Program("/usr/sbin/nft")
}
