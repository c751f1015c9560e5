package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// source is a source tree as small as one can be that images builds.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range map[string]string{
		"go.mod":                   "module example.org/small\n\ngo 1.26\n",
		"internal/version/VERSION": "1.2.3\n",
		"cmd/tulle-proxy/main.go":  "package main\n\nfunc main() {}\n",
		"cmd/tulle-init/main.go":   "package main\n\nfunc main() { println(1) }\n",
	} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// made runs the command and returns its directory and what it printed.
func made(t *testing.T, dir string, args ...string) (string, string) {
	t.Helper()
	out := t.TempDir()
	var text bytes.Buffer
	args = append([]string{"-source", dir, "-out", out, "-image", "tulle-proxy"}, args...)
	if err := run(t.Context(), args, &text, t.Output()); err != nil {
		t.Fatal(err)
	}
	return out, text.String()
}

// unpacked reads an archive's files.
func unpacked(t *testing.T, r io.Reader) map[string]*tar.Header {
	t.Helper()
	files := map[string]*tar.Header{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = h
	}
}

// index reads the one entry of an archive's layout.
func index(t *testing.T, archive string) (v1.Descriptor, v1.ImageIndex) {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o755)
		} else {
			var text []byte
			if text, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(to, text, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := top.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		t.Fatalf("the layout has %d entries (%v)", len(m.Manifests), err)
	}
	ix, err := top.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return m.Manifests[0], ix
}

func TestTheSameSourceGivesTheSameBytes(t *testing.T) {
	dir := source(t)
	first, text := made(t, dir)
	second, again := made(t, dir)
	for _, name := range []string{"tulle-proxy.tar", "tulle-proxy-amd64.spdx.json", "tulle-proxy-arm64.spdx.json"} {
		a, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two builds", name)
		}
	}
	if digest, _, _ := strings.Cut(text, "\n"); !strings.HasPrefix(again, digest) || !strings.Contains(digest, "ghcr.io/tulle-mesh/tulle-proxy:1.2.3@sha256:") {
		t.Errorf("printed %q and then %q", text, again)
	}
	left, err := os.ReadDir(first)
	if err != nil || len(left) != 3 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

// TestTheArchiveIsWhatContainerdImports: one entry, named, an index of both platforms.
func TestTheArchiveIsWhatContainerdImports(t *testing.T) {
	out, _ := made(t, source(t))
	entry, ix := index(t, filepath.Join(out, "tulle-proxy.tar"))
	if entry.Annotations["io.containerd.image.name"] != "ghcr.io/tulle-mesh/tulle-proxy:1.2.3" || entry.Annotations["org.opencontainers.image.ref.name"] != "1.2.3" {
		t.Errorf("the entry's annotations are %v", entry.Annotations)
	}
	if err := validate.Index(ix); err != nil {
		t.Error(err)
	}
	m, err := ix.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, d.Platform.String())
		img, err := ix.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, d.Platform.Architecture, img)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
}

func checkImage(t *testing.T, arch string, img v1.Image) {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Config.User != "2102:2102" || !slices.Equal(c.Config.Entrypoint, []string{"/tulle-proxy"}) || c.Architecture != arch || c.OS != "linux" {
		t.Errorf("%s: user %s, entrypoint %v, %s/%s", arch, c.Config.User, c.Config.Entrypoint, c.OS, c.Architecture)
	}
	if l := c.Config.Labels; l["org.opencontainers.image.version"] != "1.2.3" || l["org.opencontainers.image.licenses"] != "Apache-2.0" || l[bomLabel] != "/"+bomPath {
		t.Errorf("%s: labels %v", arch, l)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%s: %d layers (%v)", arch, len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := unpacked(t, r)
	for name, h := range files {
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 || h.Mode&0o6000 != 0 {
			t.Errorf("%s: %s is of %d:%d with mode %o", arch, name, h.Uid, h.Gid, h.Mode)
		}
	}
	want := []string{
		"etc/", "etc/group", "etc/passwd", "tulle-init", "tulle-proxy",
		"usr/", "usr/share/", "usr/share/doc/", "usr/share/doc/tulle/", bomPath,
	}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("%s: files %v, want %v", arch, got, want)
	}
}

// TestTheBillOfMaterialsNamesWhatIsLinked: as SPDX 2.3, each package related to.
func TestTheBillOfMaterialsNamesWhatIsLinked(t *testing.T) {
	out, _ := made(t, source(t), "-platform", "linux/amd64")
	data, err := os.ReadFile(filepath.Join(out, "tulle-proxy-amd64.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.CreationInfo.Created != "1970-01-01T00:00:00Z" {
		t.Errorf("document %+v", d)
	}
	var names []string
	known := map[string]bool{d.SPDXID: true}
	for _, p := range d.Packages {
		names = append(names, p.Name)
		known[p.SPDXID] = true
	}
	if !slices.Equal(names, []string{"tulle-proxy", "tulle-init", "stdlib"}) {
		t.Errorf("packages %v", names)
	}
	for _, r := range d.Relationships {
		if !known[r.Element] || !known[r.Related] {
			t.Errorf("%+v relates what is not there", r)
		}
	}
	if ref := d.Packages[2].ExternalRefs[0].Locator; !strings.HasPrefix(ref, "pkg:golang/stdlib@1.") {
		t.Errorf("Go itself is %s", ref)
	}
}

// TestPushPutsTheIndexAndItsBillsOfMaterialsIntoARegistry uses one in this process.
func TestPushPutsTheIndexAndItsBillsOfMaterialsIntoARegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/mesh"
	_, text := made(t, source(t), "-registry", repository, "-version", "edge", "-push", "-insecure")
	ref, err := name.NewTag(repository+"/tulle-proxy:edge", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	ix, err := remote.Index(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := ix.Digest()
	if err != nil || !strings.Contains(text, digest.String()) || !strings.Contains(text, "pushed") {
		t.Errorf("the registry has %s (%v), printed was %q", digest, err, text)
	}
	if err := validate.Index(ix); err != nil {
		t.Error(err)
	}
	m, err := ix.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		refs, err := remote.Referrers(ref.Digest(d.Digest.String()), remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		rm, err := refs.IndexManifest()
		if err != nil || len(rm.Manifests) != 1 || rm.Manifests[0].ArtifactType != string(spdxType) {
			t.Errorf("%s is referred to by %+v (%v)", d.Platform, rm, err)
		}
	}
}

func TestWhatWantsAnInterpreterIsRefused(t *testing.T) {
	const dynamic = "/bin/sh"
	if _, err := os.Stat(dynamic); err != nil {
		t.Skip(err)
	}
	if _, err := read(dynamic, "sh"); err == nil || !strings.Contains(err.Error(), "sh is not static") {
		t.Errorf("error %v", err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for args, want := range map[string]string{
		"-image tulle-vis":                       "-image tulle-vis: there is no such image",
		"-platform windows/amd64":                "-platform windows/amd64: want linux/amd64",
		"-platform linux":                        "-platform linux: want",
		"now":                                    `"now" is no flag`,
		"-source /nonexistent":                   "/nonexistent/internal/version/VERSION",
		"-source /nonexistent -version 1 -out x": "tulle-proxy: ",
	} {
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", args, err, want)
		}
	}
}
