package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tulle-mesh/tulle/test/cluster/image"
)

// TestPackagesBecomeOneTree packs what a package has to an image: into /usr, without documentation, and with
// what no package brings.
func TestPackagesBecomeOneTree(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for name, content := range map[string]string{
		"DEBIAN/control":               "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: none\n",
		"DEBIAN/postinst":              "#!/bin/sh\nexit 1\n",
		"lib/x86_64-linux-gnu/libp.so": "library",
		"usr/bin/p":                    "program",
		"usr/share/doc/p/copyright":    "text",
		"etc/passwd":                   "a package's own",
	} {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(dir, "p.deb")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "--build", root, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	var f image.Files
	base(&f)
	if err := unpack(t.Context(), &f, deb); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "image.tar")
	if err := image.Write(to, "tulle.test/p:1", image.Config{}, &f); err != nil {
		t.Fatal(err)
	}
	got := layer(t, to)
	for name, want := range map[string]string{
		"usr/bin/p":                        "program",
		"usr/lib/x86_64-linux-gnu/libp.so": "library",
		"lib":                              "-> usr/lib",
		"usr/share/doc/p/copyright":        "",
		"lib/x86_64-linux-gnu/libp.so":     "",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, not %q", name, got[name], want)
		}
	}
	if users := got["etc/passwd"]; !strings.Contains(users, "postgres:x:100:") {
		t.Errorf("the users are %q", users)
	}
}

// layer is the only layer of an archive, links as "-> target".
func layer(t *testing.T, archive string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	for name, blob := range entries(t, bytes.NewReader(raw)) {
		if packed, err := gzip.NewReader(strings.NewReader(blob)); err == nil && !json.Valid([]byte(blob)) {
			return entries(t, packed)
		} else if name == "" {
			t.Fatal("a file without a name")
		}
	}
	t.Fatal("no layer")
	return nil
}

func entries(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			content = []byte("-> " + h.Linkname)
		}
		files[h.Name] = string(content)
	}
}

func TestAMachineWithoutAptIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Image(t.Context(), t.TempDir(), Nginx)
	if m, ok := errors.AsType[*MissingError](err); !ok || !strings.Contains(m.Error(), "apt-get") {
		t.Errorf("without apt-get: %v", err)
	}
}

// TestTheSamePackagesMakeTheSameImage downloads Debian's nginx twice, the second time with lists of packages
// that are fetched anew because those that are kept know nothing.
func TestTheSamePackagesMakeTheSameImage(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads 20 MB")
	}
	var archives [][]byte
	for _, lists := range []bool{false, true} {
		cache := t.TempDir()
		if lists {
			if err := os.MkdirAll(filepath.Join(cache, "debian-lists"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		archive, err := Image(t.Context(), cache, Nginx)
		if m, ok := errors.AsType[*MissingError](err); ok {
			t.Skip(m)
		} else if err != nil {
			t.Fatal(err)
		}
		again, err := Image(t.Context(), cache, Nginx)
		if err != nil || again != archive {
			t.Errorf("the second time: %s, %v; not %s", again, err, archive)
		}
		raw, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, raw)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two images of the same packages differ")
	}
}
