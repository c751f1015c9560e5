package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unpack returns the files of a tar, directories and links by what they are.
func unpack(t *testing.T, in io.Reader) map[string]string {
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
		files[h.Name] = fmt.Sprintf("%c %o %s%s", h.Typeflag, h.Mode, h.Linkname, content)
	}
}

func TestArchiveHoldsWhatItsDigestsSay(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var files Files
	if err := files.File(program, "/usr/bin/program"); err != nil {
		t.Fatal(err)
	}
	files.Link("program", "/usr/bin/other")
	files.Text("/etc/settings", strings.Repeat("a", 1<<20)) // more than one block of gzip's
	files.Text("/etc/settings", "the first of a name stays")
	files.Dir("/tmp", 0o1777)
	to := filepath.Join(dir, "image.tar")
	if err := Write(to, "tulle.test/x:1", Config{Entrypoint: files.Entrypoint(), User: "7"}, &files); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	blobs := map[string][]byte{}
	for name, content := range unpack(t, in) {
		_, content, _ := strings.Cut(content, " 644 ")
		d := "sha256:" + filepath.Base(name)
		if strings.HasPrefix(content, " ") || strings.HasPrefix(name, "blobs/") && digest([]byte(content)) != d {
			t.Errorf("%s has another digest, %s", name, digest([]byte(content)))
		}
		blobs[d] = []byte(content)
	}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config Config
		Rootfs struct {
			Diffs []string `json:"diff_ids"`
		}
	}
	decode(t, blobs["sha256:index.json"], &index)
	if name := index.Manifests[0].Annotations["io.containerd.image.name"]; name != "tulle.test/x:1" {
		t.Errorf("the image is named %q", name)
	}
	decode(t, blobs[index.Manifests[0].Digest], &manifest)
	decode(t, blobs[manifest.Config.Digest], &config)
	if c := config.Config; fmt.Sprint(c.Entrypoint) != "[/usr/bin/program]" || c.User != "7" {
		t.Errorf("the image runs %v as %q", c.Entrypoint, c.User)
	}
	packed, err := gzip.NewReader(bytes.NewReader(blobs[manifest.Layers[0].Digest]))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(packed) // to the end, with its checksum
	if err != nil {
		t.Fatal(err)
	}
	if digest(plain) != config.Rootfs.Diffs[0] {
		t.Error("the layer is not what the configuration says")
	}
	layer := unpack(t, bytes.NewReader(plain))
	for name, want := range map[string]string{
		"usr/":            "5 755 ",
		"usr/bin/":        "5 755 ",
		"usr/bin/program": "0 755 #!/bin/sh\n",
		"usr/bin/other":   "2 777 program",
		"tmp/":            "5 1777 ",
		"etc/settings":    "0 644 " + strings.Repeat("a", 1<<20),
	} {
		if got := layer[name]; got != want {
			t.Errorf("%s is %.40q, not %.40q", name, got, want)
		}
	}
}

func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%v: %.80q", err, raw)
	}
}

// TestProgramBringsItsLibraries takes a program that every Debian has: one that lacked a library, or the linker,
// would not start in an image.
func TestProgramBringsItsLibraries(t *testing.T) {
	var files Files
	if err := files.Program("/bin/ls"); errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range files.seen {
		names = append(names, name)
	}
	all := strings.Join(names, " ")
	for _, want := range []string{"bin/ls", "libc.so.6", "ld-linux"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in %s", want, all)
		}
	}
}
