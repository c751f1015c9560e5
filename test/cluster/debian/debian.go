// Package debian makes images of Debian's own servers and clients, for tests that must not stand on
// imitations: the packages and all that they need are downloaded by apt, which checks their signatures,
// and their files become an image's one layer. Nothing is installed, no maintainer script runs, and no
// service of this machine is touched.
//
//	archive, err := debian.Image(ctx, "", debian.Nginx)   // then Cluster.LoadImages(ctx, archive)
//
// A pod names the image by Recipe.Ref, "tulle.test/nginx:1", and says all that a maintainer script would
// have: users are in the image, a configuration comes with the pod (a ConfigMap, or -g, -o, --set on the
// command line). Each image has busybox's sh and its usual commands.
package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tulle-mesh/tulle/test/cluster/image"
)

// Recipe is one image.
type Recipe struct {
	Name string
	// Packages are what it is about; what they depend on comes along, what they recommend does not.
	Packages []string
	Config   image.Config
	// Dirs are directories that a maintainer script would have made, with the user that they belong to.
	Dirs map[string]int
	// Links are symbolic links by their names, likewise.
	Links map[string]string
}

// Ref is the image's name in a pod.
func (r Recipe) Ref() string { return "tulle.test/" + r.Name + ":1" }

// MissingError says that this machine cannot make such images at all, and why.
type MissingError struct{ What string }

func (e *MissingError) Error() string { return "images of Debian's packages: " + e.What }

// Image returns the archive of a recipe's image, from the cache (empty means the user's, beside the test
// bed's programs) if it holds one of just these versions of all packages. Downloading takes seconds.
func Image(ctx context.Context, cache string, r Recipe) (archive string, err error) {
	for _, program := range []string{"apt-get", "dpkg-deb", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", &MissingError{"this machine has no " + program + "; they are made on Debian"}
		}
	}
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "tulle", "cluster")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	a, err := newApt(tmp, filepath.Join(cache, "debian-lists"))
	if err != nil {
		return "", err
	}
	archive, err = a.image(ctx, cache, r)
	if err != nil && ctx.Err() == nil { // the lists of packages are old, or there are none
		if err = a.update(ctx); err == nil {
			archive, err = a.image(ctx, cache, r)
		}
	}
	if err != nil {
		return "", fmt.Errorf("image of Debian's %s: %w", strings.Join(r.Packages, ", "), err)
	}
	return archive, nil
}

// image makes the image, with the lists of packages that there are.
func (a *apt) image(ctx context.Context, cache string, r Recipe) (string, error) {
	// While the lists stay as they are, so does what they say.
	seen := filepath.Join(cache, "debian-"+r.Name+".seen")
	lists := digest(a.fingerprint(), fmt.Sprintf("%+v %s %d", r, assumed, layout))
	if was, err := os.ReadFile(seen); err == nil {
		if before, dir, _ := strings.Cut(string(was), " "); before == lists {
			archive := filepath.Join(cache, dir, "image.tar")
			if _, err := os.Stat(archive); err == nil {
				return archive, nil
			}
		}
	}
	versions, err := a.versions(ctx, r.Packages)
	if err != nil {
		return "", err
	}
	name := "debian-" + r.Name + "-"
	key := name + digest(versions, fmt.Sprintf("%+v %d", r, layout))
	archive, err := a.fill(ctx, filepath.Join(cache, name), filepath.Join(cache, key), r)
	if err != nil {
		return "", err
	}
	return archive, os.WriteFile(seen, []byte(lists+" "+key), 0o644)
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:])[:16]
}

// fill makes the cache's directory dir, which replaces those whose names begin alike, unless it is there.
func (a *apt) fill(ctx context.Context, name, dir string, r Recipe) (string, error) {
	archive := filepath.Join(dir, "image.tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	debs, err := a.download(ctx, r.Packages)
	if err != nil {
		return "", err
	}
	files, err := r.files(ctx, debs)
	if err != nil {
		return "", err
	}
	whole := filepath.Join(a.tmp, "whole")
	if err := os.MkdirAll(whole, 0o755); err != nil {
		return "", err
	}
	if err := image.Write(filepath.Join(whole, "image.tar"), r.Ref(), r.Config, files); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(name + "????????????????")
	for _, o := range old {
		_ = os.RemoveAll(o) // what stays costs room, no more
	}
	if err := os.Rename(whole, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return archive, nil
}

// files are those of the packages, and what a container needs besides.
func (r Recipe) files(ctx context.Context, debs []string) (*image.Files, error) {
	var f image.Files
	base(&f)
	dirs := make([]string, 0, len(r.Dirs))
	for dir := range r.Dirs {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		f.Owned(dir, r.Dirs[dir])
	}
	links := make([]string, 0, len(r.Links))
	for link := range r.Links {
		links = append(links, link)
	}
	slices.Sort(links)
	for _, link := range links {
		f.Link(r.Links[link], link)
	}
	for _, deb := range debs {
		if err := unpack(ctx, &f, deb); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(deb), err)
		}
	}
	return &f, busybox(&f)
}

// unpack enters the files of a package.
func unpack(ctx context.Context, f *image.Files, deb string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, said.String())
	}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		name := merged(path.Clean("/" + h.Name))
		if name == "/" || useless(name) {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		clean := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid}
		if h.Typeflag == tar.TypeLink {
			clean.Linkname = strings.TrimPrefix(merged(path.Clean("/"+h.Linkname)), "/")
		}
		f.Add(clean, content)
	}
}

// merged is where a file lies when /bin, /lib and others are links into /usr.
func merged(name string) string {
	top, _, _ := strings.Cut(name[1:], "/")
	if slices.Contains(intoUsr, top) {
		return "/usr" + name
	}
	return name
}

var intoUsr = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// useless is what no server reads: an image is small.
func useless(name string) bool {
	for _, dir := range []string{"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian",
		"/usr/share/bug", "/usr/lib/systemd", "/usr/share/gcc", "/usr/share/perl", "/etc/init.d", "/etc/cron.d", "/etc/cron.daily"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return strings.Contains(name, "/gconv/") || strings.Contains(name, "/llvmjit/") || strings.HasSuffix(name, "/bitcode") || strings.Contains(name, "/bitcode/")
}
