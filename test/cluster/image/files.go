package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// epoch is every file's time, so that equal content makes an equal image.
var epoch = time.Unix(0, 0)

// Files is the content of an image's layer, in the order of the calls. The zero is empty.
type Files struct {
	headers []*tar.Header
	content [][]byte
	seen    map[string]bool
}

// Entrypoint is the first file, for images that are one program.
func (f *Files) Entrypoint() []string {
	for _, h := range f.headers {
		if h.Typeflag == tar.TypeReg {
			return []string{"/" + h.Name}
		}
	}
	return nil
}

// Add adds an entry of another tar; only its name, kind, mode, owner and link count. A hard link names an
// entry by its name in the image.
func (f *Files) Add(h *tar.Header, content []byte) { f.add(h, content) }

// add enters one file, below directories that it makes as needed; the first of a name stays.
func (f *Files) add(h *tar.Header, content []byte) {
	h.Name = strings.TrimPrefix(path.Clean(h.Name), "/")
	if f.seen[h.Name] {
		return
	}
	if dir := path.Dir(h.Name); dir != "." && !f.seen[dir] {
		f.Dir(dir, 0o755)
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[h.Name] = true
	h.ModTime, h.Size = epoch, int64(len(content))
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	f.headers, f.content = append(f.headers, h), append(f.content, content)
}

// Dir adds a directory; mode may have the sticky bit as 0o1000.
func (f *Files) Dir(name string, mode int64) {
	f.add(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil)
}

// Owned adds a directory of a user's own.
func (f *Files) Owned(name string, uid int) {
	f.add(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, Uid: uid, Gid: uid}, nil)
}

// Link adds a symbolic link.
func (f *Files) Link(target, name string) {
	f.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

// Text adds a file with this content.
func (f *Files) Text(name, content string) {
	f.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(content))
}

// File adds a file of this machine under another name, with its permissions.
func (f *Files) File(from, name string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	f.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm())}, content)
	return nil
}

// Tree adds a directory of this machine and all below it under the same name; links stay links.
func (f *Files) Tree(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			f.Dir(p, 0o755)
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			f.Link(target, p)
			return err
		case d.Type().IsRegular():
			return f.File(p, p)
		}
		return nil
	})
}

// Program adds a program of this machine with its dynamic linker and all libraries that it names, each
// where it is here.
func (f *Files) Program(name string) error {
	if err := f.File(name, name); err != nil {
		return err
	}
	return f.libraries(name)
}

// libraryPath is where Debian's dynamic linker looks.
var libraryPath = []string{
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
	"/lib64", "/usr/lib64", "/lib", "/usr/lib",
}

func (f *Files) libraries(program string) error {
	bin, err := elf.Open(program)
	if _, other := errors.AsType[*elf.FormatError](err); other {
		return nil // a script brings no libraries
	} else if err != nil {
		return err
	}
	defer bin.Close()
	if s := bin.Section(".interp"); s != nil {
		text, err := s.Data()
		if err != nil {
			return err
		}
		linker := string(bytes.TrimRight(text, "\x00"))
		if err := f.File(linker, linker); err != nil {
			return err
		}
	}
	names, err := bin.ImportedLibraries()
	if err != nil {
		return err
	}
	more, _ := bin.DynString(elf.DT_RUNPATH)
	for _, name := range names {
		found, err := find(name, append(more, libraryPath...))
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		if f.seen[strings.TrimPrefix(found, "/")] {
			continue
		}
		if err := f.Program(found); err != nil {
			return err
		}
	}
	return nil
}

func find(name string, dirs []string) (string, error) {
	for _, dir := range dirs {
		at := filepath.Join(dir, name)
		if _, err := os.Stat(at); err == nil {
			return at, nil
		}
	}
	return "", fmt.Errorf("library %s is in none of %s", name, strings.Join(dirs, " "))
}

// layer is the tar of all files, packed and plain.
func (f *Files) layer() (packed, plain []byte, err error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for n, h := range f.headers {
		if err := w.WriteHeader(h); err != nil {
			return nil, nil, err
		}
		if _, err := w.Write(f.content[n]); err != nil {
			return nil, nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	packed, err = compress(out.Bytes())
	return packed, out.Bytes(), err
}
